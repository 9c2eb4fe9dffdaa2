//! What jobs ask: digests of ranges, the rows of some of them, and another revision than the current one.
//!
//! The server knows no digests: every row comes here once for them.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Tenant,
    digest::{Digest, bucket},
    ports::{Collection, VectorJobs, VectorRead, VectorRow, add_row},
};

use super::{MilvusIndex, digest::Row, rows::vector};

impl MilvusIndex {
    async fn each_of(
        &self,
        tenant: &Tenant,
        collection: Collection,
        revision: &str,
        mut each: impl FnMut(Row<'_>) + Send,
    ) -> StoreResult<()> {
        let Some(dimension) = self.shared.dimension(revision).await? else { return Ok(()) };
        let name = self.shared.names.rows(collection, revision);
        let own = |row: Row<'_>| {
            if row.tenant == tenant.as_str() {
                each(row);
            }
        };
        self.shared.each_row(&name, dimension, own).await
    }
}

#[async_trait]
impl VectorJobs for MilvusIndex {
    fn of_revision(&self, revision: &str) -> Arc<dyn VectorRead> {
        Arc::new(Self { pinned: Some(revision.into()), ..self.clone() })
    }

    async fn buckets(&self, tenant: &Tenant, collection: Collection, revision: &str, n: usize) -> StoreResult<Vec<Digest>> {
        let mut digests = vec![Digest::default(); n];
        self.each_of(tenant, collection, revision, |r| {
            let labels = r.labels.iter().map(String::as_str);
            add_row(&mut digests[bucket(r.id, n)], r.tenant, collection, r.id, r.vector, labels);
        })
        .await?;
        Ok(digests)
    }

    async fn rows(
        &self,
        tenant: &Tenant,
        collection: Collection,
        revision: &str,
        n: usize,
        wanted: &[usize],
    ) -> StoreResult<Vec<VectorRow>> {
        let wanted: HashSet<usize> = wanted.iter().copied().collect();
        let mut rows = Vec::new();
        self.each_of(tenant, collection, revision, |r| {
            if wanted.contains(&bucket(r.id, n)) {
                rows.push(VectorRow { id: r.id.to_owned(), vector: vector(r.vector), labels: r.labels.to_vec() });
            }
        })
        .await?;
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(rows)
    }
}
