//! The vector index on Milvus: the suite of the port, and what only several processes and outages show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use nearcast_domain::testing::{self, servers};
use nearcast_stores::{
    remote::Address,
    vectors::{MilvusConfig, MilvusConsistency, MilvusIndex},
};

fn config() -> Option<MilvusConfig> {
    let address = Address::new(servers::address("NEARCAST__MILVUS__ADDRESS")?);
    let prefix = format!("{}_", servers::unique("vectors"));
    Some(MilvusConfig { address, prefix, consistency: MilvusConsistency::Strong, partitions: 4, ..MilvusConfig::default() })
}

#[tokio::test]
async fn conforms() {
    let Some(config) = config() else { return };
    let index = MilvusIndex::new(&config).unwrap();
    index.setup().await.unwrap();
    testing::vectors::vectors(&index).await;
}
