//! The words of Nearcast: events, ids, profiles, candidates, errors, and the ports that stores implement.
//!
//! This crate does no I/O and knows no database, no HTTP and no model. Everything else depends on it; it depends on
//! no other crate of the workspace. What is derived here (ids, strengths, profiles, digests) never reads a clock.

pub mod candidate;
pub mod decode;
pub mod digest;
pub mod error;
pub mod event;
pub mod facts;
pub mod ids;
pub mod learned;
pub mod ports;
pub mod profile;
pub mod taste;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use error::{ErrorKind, StoreError, StoreResult};
pub use event::{Engagement, Erasure, Event, Item, Message};
pub use ids::{EventId, ItemId, Tenant, UserId};
pub use time::Timestamp;

/// A unit vector, shared between caches and stores. Its length is the model's dimension.
pub type Vector = std::sync::Arc<[f32]>;
