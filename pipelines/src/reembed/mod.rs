//! Another model: its vectors beside those of the one that is read, filled in from the ledger, and how far the two agree.
//!
//! [`Fill`] makes the vectors that are missing, shard by shard of users, under leases. It only ever adds: stopped at any moment, it goes
//! on where vectors are missing. It never switches: whoever does compares with [`parity`] before.

mod fill;
mod parity;

pub use fill::{Fill, Filled, SHARDS};
pub use parity::{Parity, parity};
