//! What all backends that live in another process share: addresses, secrets, TLS, connections, and trying again.
//!
//! Knows no store and no port. A secret never leaves it in a log line, an error or a printed configuration.

mod address;
mod pool;
mod retry;
mod secret;
mod tls;

pub use address::Address;
pub use pool::{Lease, Pool};
pub use retry::{Retry, with_retries};
pub use secret::Secret;
pub use tls::Tls;
