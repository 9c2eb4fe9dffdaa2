//! The ledger and the positions on a real server that speaks MongoDB's protocol.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use nearcast_domain::testing::{self, servers};
use nearcast_stores::{ledger::MongoLedger, log::MongoPositions, mongo::MongoConfig, remote::Address};

/// A database of this test's own.
struct Own {
    config: MongoConfig,
}

impl Own {
    /// `None` where there is no server.
    fn new(name: &str) -> Option<Self> {
        let uri = servers::address("NEARCAST__MONGODB__URI")?;
        let database = servers::unique(&format!("test_{name}"));
        Some(Self { config: MongoConfig { uri: Address::new(uri), database, counts_max_age_s: 0, ..MongoConfig::default() } })
    }

    async fn ledger(&self) -> MongoLedger {
        let ledger = MongoLedger::new(&self.config).unwrap();
        ledger.setup().await.unwrap();
        ledger
    }

    /// Takes the database away again.
    async fn done(self) {
        let client = mongodb::Client::with_uri_str(self.config.uri.expose()).await.unwrap();
        client.database(&self.config.database).drop().await.unwrap();
    }
}

#[tokio::test]
async fn ledger_on_mongo() {
    let Some(own) = Own::new("ledger") else { return };
    testing::ledger::ledger(&own.ledger().await).await;
    own.done().await;
    let (Some(a), Some(b), Some(c)) = (Own::new("a"), Own::new("b"), Own::new("c")) else { return };
    testing::ledger::ledger_digests(&a.ledger().await, &b.ledger().await).await;
    testing::ledger::ledger_reopened(async || c.ledger().await).await;
    for own in [a, b, c] {
        own.done().await;
    }
}

#[tokio::test]
async fn positions_on_mongo() {
    let Some(own) = Own::new("positions") else { return };
    let store = MongoPositions::new(&own.config).unwrap();
    assert_eq!(store.setup().await.unwrap(), store.setup().await.unwrap());
    testing::leases::leases(&store).await;
    testing::log::positions(&store).await;
    own.done().await;
}
