//! One digest a store and one of all, over facts only: order, time, backend and layout do not show in them.

use nearcast_domain::{
    StoreResult,
    digest::Digest,
    ports::{EngagementRead, GraphRead, LedgerRead, VectorRead},
};
use serde::Serialize;

/// The digest of one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreDigest {
    /// `ledger`, `vectors`, `graph` or `engagement`.
    pub store: &'static str,
    /// How many rows it is over.
    pub rows: u64,
    /// 64 hexadecimal digits.
    pub digest: String,
}

/// The digests of all stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Digests {
    /// One a store, always in the same order.
    pub stores: Vec<StoreDigest>,
    /// Over all of them.
    pub all: String,
}

/// Reads every store once.
pub async fn verify(
    ledger: &dyn LedgerRead,
    vectors: &dyn VectorRead,
    graph: &dyn GraphRead,
    engagement: &dyn EngagementRead,
) -> StoreResult<Digests> {
    let each = [
        ("ledger", ledger.digest().await?),
        ("vectors", vectors.digest().await?),
        ("graph", graph.digest().await?),
        ("engagement", engagement.digest().await?),
    ];
    let mut all = Digest::default();
    for (store, digest) in &each {
        all.add(&[store.as_bytes(), digest.to_hex().as_bytes()]);
    }
    let stores = each.iter().map(|(store, d)| StoreDigest { store, rows: d.rows(), digest: d.to_hex() }).collect();
    Ok(Digests { stores, all: all.to_hex() })
}
