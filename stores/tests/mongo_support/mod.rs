//! Help for tests on MongoDB: databases of their own, a proxy that cuts connections, and a server that only says no.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod fake;
pub mod proxy;

use mongodb::{Client, Database, bson::Document};
use nearcast_domain::testing::servers;
use nearcast_stores::{ledger::MongoLedger, mongo::MongoConfig, remote::Address};

/// A database of this test's own.
pub struct Own {
    pub config: MongoConfig,
}

impl Own {
    /// `None` where there is no server.
    pub fn new(name: &str) -> Option<Self> {
        let uri = servers::address("NEARCAST__MONGODB__URI")?;
        let database = servers::unique(&format!("test_{name}"));
        Some(Self {
            config: MongoConfig {
                uri: Address::new(uri),
                database,
                counts_max_age_s: 0,
                left_after_s: 0,
                ..MongoConfig::default()
            },
        })
    }

    /// A client of its own, with nothing in its memory.
    pub fn bare(&self) -> MongoLedger {
        MongoLedger::new(&self.config).unwrap()
    }

    pub async fn ledger(&self) -> MongoLedger {
        let ledger = self.bare();
        ledger.setup().await.unwrap();
        ledger
    }

    pub async fn database(&self) -> Database {
        Client::with_uri_str(self.config.uri.expose()).await.unwrap().database(&self.config.database)
    }

    /// How many documents of a collection match.
    pub async fn count(&self, collection: &str, filter: Document) -> u64 {
        self.database().await.collection::<Document>(collection).count_documents(filter).await.unwrap()
    }

    /// Where the server listens.
    pub fn server(&self) -> String {
        let uri = self.config.uri.expose();
        uri.trim_start_matches("mongodb://").split('/').next().unwrap().rsplit('@').next().unwrap().to_owned()
    }

    /// The same database, reached through another port.
    pub fn through(&self, port: u16) -> MongoLedger {
        let uri = self.config.uri.expose().replace(&self.server(), &format!("127.0.0.1:{port}"));
        let config = MongoConfig { uri: Address::new(uri), selection_timeout_ms: 500, ..self.config.clone() };
        MongoLedger::new(&config).unwrap()
    }

    /// Takes the database away again.
    pub async fn done(self) {
        self.database().await.drop().await.unwrap();
    }
}
