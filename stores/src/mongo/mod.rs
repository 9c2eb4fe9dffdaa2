//! What every backend on MongoDB shares: the configuration, one lazily opened client, errors, and writing in bulk.
//!
//! Knows no port. Everything here is also understood by FerretDB 1.24, which stands in for MongoDB where there is no other server.

mod bulk;
mod config;
mod error;
mod server;

pub(crate) use bulk::inserted;
pub use config::{MongoConfig, ReadFrom};
pub(crate) use server::{BATCH, Mongo, collect, ids};
