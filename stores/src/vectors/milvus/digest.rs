//! The digest: every row of a collection once, in parts.
//!
//! Keys are hashes, so equal ranges of keys hold about equally many rows. A part is all rows of a range, in whatever order the server
//! gives them: a sum of hashes has no order. A range with more rows than a part may hold is cut in two.

use milvus::v2::{ConsistencyLevel, FieldData, prelude::QueryRequest};
use nearcast_domain::{
    StoreResult,
    digest::Digest,
    ports::{Collection, add_row},
};

use super::{
    Shared,
    current::missing,
    filter::Filter,
    link::from_sdk,
    read::AT_MOST,
    rows::{ID, KEY, LABELS, TENANT, VECTOR, lists, texts, vectors},
};
use crate::remote::with_retries;

/// Bytes of rows in a part, about; twice as many at most.
const PART_BYTES: usize = 1 << 20;
/// Keys are cut by their first 32 bits.
const KEYS: u64 = 1 << 32;

/// A row as it is read.
pub(super) struct Row<'a> {
    pub(super) tenant: &'a str,
    pub(super) id: &'a str,
    pub(super) vector: &'a [f32],
    pub(super) labels: &'a [String],
}

impl Shared {
    pub(super) async fn add_to_digest(
        &self,
        collection: Collection,
        name: &str,
        dimension: usize,
        digest: &mut Digest,
    ) -> StoreResult<()> {
        let add = |r: Row<'_>| add_row(digest, r.tenant, collection, r.id, r.vector, r.labels.iter().map(String::as_str));
        self.each_row(name, dimension, add).await
    }

    /// Hands every row of a collection on, in no order.
    pub(super) async fn each_row(&self, name: &str, dimension: usize, mut each: impl FnMut(Row<'_>)) -> StoreResult<()> {
        let part = (PART_BYTES / (4 * dimension + 256)).clamp(1, AT_MOST / 2) as u64;
        let rows = with_retries(self.config.retry, || self.count_of(name, Filter::all())).await?;
        let parts = (rows / part + 1).min(KEYS);
        let mut ranges: Vec<(u64, u64)> = (0..parts).rev().map(|i| (i * KEYS / parts, (i + 1) * KEYS / parts)).collect();
        while let Some((from, to)) = ranges.pop() {
            let most = 2 * part;
            let fields = with_retries(self.config.retry, || self.range(name, from, to, most)).await?;
            if fields.iter().all(FieldData::is_empty) {
                continue;
            }
            let keys = texts(&fields, KEY)?;
            if keys.len() as u64 >= most && to - from > 1 {
                let middle = from + (to - from) / 2;
                ranges.extend([(middle, to), (from, middle)]);
                continue;
            }
            let (tenants, ids) = (texts(&fields, TENANT)?, texts(&fields, ID)?);
            let (labels, vectors) = (lists(&fields, LABELS)?, vectors(&fields)?);
            for i in 0..keys.len() {
                each(Row { tenant: &tenants[i], id: &ids[i], vector: &vectors[i], labels: &labels[i] });
            }
        }
        Ok(())
    }

    /// At most so many rows of a range, which never holds the sentinel.
    async fn range(&self, name: &str, from: u64, to: u64, most: u64) -> StoreResult<Vec<FieldData>> {
        let server = self.link.server().await?;
        let end = if to == KEYS { "g".to_owned() } else { format!("{to:08x}") };
        let (filter, values) = Filter::between(format!("{from:08x}"), end).render(!server.lite);
        let request = QueryRequest::builder()
            .collection_name(name)
            .filter(filter)
            .filter_templates(values)
            .output_fields([KEY, TENANT, ID, LABELS, VECTOR])
            .limit(most as i64)
            .consistency_level(ConsistencyLevel::Strong)
            .build()
            .map_err(from_sdk)?;
        let found = self.loaded(name, || async { missing(server.client.query(request.clone()).await) }).await?;
        Ok(found.map(|f| f.results().get_output_fields().to_vec()).unwrap_or_default())
    }
}
