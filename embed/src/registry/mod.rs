//! Which models exist, where their files lie, and that they are what they should be.
//!
//! A file is used only after its SHA-256 was seen to be right once; size and time of change stand for it afterwards. Nothing
//! here is fetched unless [`ModelStore::pull`] is called.

mod digests;
mod fetch;
mod index;
mod known;
mod store;
mod tables;

pub use digests::revision_of;
pub use fetch::PullProgress;
pub use known::{FileSpec, KNOWN, KnownModel, Package};
pub use store::{LocalModel, ModelState, ModelStatus, ModelStore, Pooling, Spec, default_cache_dir};
pub use tables::TABLE;

/// The model used where none is named.
pub const DEFAULT_MODEL: &str = "all-MiniLM-L6-v2";
