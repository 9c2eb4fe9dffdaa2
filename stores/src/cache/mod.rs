//! Cached answers. Embedded: [`MokaCache`], in process. Shared by many instances: [`TieredCache`], which is that in front of
//! [`RedisCache`].

mod epochs;
mod known;
mod moka;
mod redis;
mod tiered;

pub use moka::MokaCache;
pub use redis::{RedisCache, RedisConfig, RedisMode};
pub use tiered::TieredCache;
