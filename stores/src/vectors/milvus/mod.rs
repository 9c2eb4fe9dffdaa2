//! [`MilvusIndex`]: the port on a Milvus cluster, for more vectors than one machine holds.
//!
//! Each revision of the model has two collections of its own, `{prefix}users_{hash}` and `{prefix}items_{hash}`, whose partition key is
//! the tenant ([`schema`]). Which revision is current stands in one place alone, the alias `{prefix}current` ([`current`]): readers
//! derive both collections from it, so users and items of two revisions are never mixed, whenever a switch is interrupted. The aliases
//! `{prefix}users` and `{prefix}items` follow it for people and other tools; nothing here reads them.
//!
//! It must never put an id, a tenant or a label into an expression as text where the server takes parameters ([`filter`]), and never
//! trust a score of the server's: what it finds is compared again with the vectors themselves, by the sum that all indexes use, so
//! that scores, order and ties are those of the embedded index ([`read`]).
//!
//! A connection is made with the first call, and again after an outage ([`link`]). Many processes may use one prefix at once.

mod config;
mod current;
mod digest;
mod filter;
mod jobs;
mod link;
mod names;
mod read;
mod rows;
mod schema;
mod write;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use nearcast_domain::StoreResult;

pub use config::{MilvusConfig, MilvusConsistency, MilvusIndexKind};
use current::Cached;
use link::Link;
use names::Names;

/// The vector index on Milvus. Cheap to clone; clones share their connection.
#[derive(Clone)]
pub struct MilvusIndex {
    shared: Arc<Shared>,
    consistency: MilvusConsistency,
    /// Reads are of this revision, not of the current one.
    pinned: Option<Arc<str>>,
}

struct Shared {
    config: MilvusConfig,
    names: Names,
    link: Link,
    current: Mutex<Cached>,
    /// The dimensions of revisions whose collections were seen complete.
    made: Mutex<HashMap<String, usize>>,
    /// The dimensions of revisions that are read by name: a revision's never changes.
    dimensions: Mutex<HashMap<String, usize>>,
    /// One task of a process makes collections at a time.
    making: tokio::sync::Mutex<()>,
}

impl MilvusIndex {
    /// An index that connects with its first call. Whether the server is there does not matter yet.
    ///
    /// # Errors
    /// `Invalid` where the configuration cannot be.
    pub fn new(config: &MilvusConfig) -> StoreResult<Self> {
        config.validate().map_err(link::invalid)?;
        let shared = Shared {
            config: config.clone(),
            names: Names::new(&config.prefix),
            link: Link::new(config.clone()),
            current: Mutex::default(),
            made: Mutex::default(),
            dimensions: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), consistency: config.consistency, pinned: None })
    }

    /// The same index, on the same connection, whose searches see as much as `consistency` says.
    #[must_use]
    pub fn with_consistency(&self, consistency: MilvusConsistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// Checks that the server is there and new enough, and makes good what an interrupted switch left of the aliases that others
    /// read. May be repeated. Collections are made with the first rows of a revision, whose dimension is known only then.
    ///
    /// # Errors
    /// `Invalid` with the remedy where the server is too old; those of the connection.
    pub async fn setup(&self) -> StoreResult<()> {
        self.shared.link.server().await?;
        self.shared.repair_aliases().await
    }

    /// Lets go of the connection. A later call makes a new one.
    pub fn close(&self) {
        self.shared.link.close();
    }
}

impl fmt::Debug for MilvusIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { config, .. } = &*self.shared;
        f.debug_struct("MilvusIndex").field("address", &config.address).field("prefix", &config.prefix).finish_non_exhaustive()
    }
}
