//! Cached answers. Embedded: [`MokaCache`], in process.

mod epochs;
mod moka;

pub use moka::MokaCache;
