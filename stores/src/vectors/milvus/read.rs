//! What serving reads.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use milvus::v2::{
    ConsistencyLevel, FieldData, MetricType, SearchVectors,
    error::Error,
    prelude::{QueryRequest, SearchRequest},
};
use nearcast_domain::{
    StoreResult, Tenant, Vector,
    digest::Digest,
    ports::{Collection, Hit, VectorQuery, VectorRead},
};

use super::{
    MilvusIndex, Shared,
    current::{Current, missing},
    filter::Filter,
    link::{Server, from_sdk, invalid, is_not_loaded},
    names::key,
    rows::{ID, KEY, VECTOR, texts, vector, vectors},
};
use crate::vectors::{dot::dot, state::check_unit};

/// The most rows that a search or a query gives, as the server has it.
pub(super) const AT_MOST: usize = 16_384;
/// Rows more than asked for: the server's scores differ from ours by rounding, and rows with equal scores come in any order.
const MARGIN: usize = 8;
/// By how much the server's score of two unit vectors may differ from ours: sums of up to 32,768 products in another order.
const ROUNDING: f32 = 4e-6;
/// Ids in one query.
const KEYS_AT_ONCE: usize = 1_000;

impl Shared {
    /// The rows of these keys, in batches of columns.
    pub(super) async fn rows_of(&self, name: &str, keys: Vec<String>, fields: &[&str]) -> StoreResult<Vec<FieldData>> {
        let server = self.link.server().await?;
        let (filter, values) = Filter::keys(keys).render(!server.lite);
        let request = QueryRequest::builder()
            .collection_name(name)
            .filter(filter)
            .filter_templates(values)
            .output_fields(fields.iter().copied())
            .consistency_level(ConsistencyLevel::Strong)
            .build()
            .map_err(from_sdk)?;
        let found = self.loaded(name, || async { missing(server.client.query(request.clone()).await) }).await?;
        Ok(found.map(|f| f.results().get_output_fields().to_vec()).unwrap_or_default())
    }

    /// How many rows a filter takes.
    pub(super) async fn count_of(&self, name: &str, filter: Filter) -> StoreResult<u64> {
        let server = self.link.server().await?;
        let (filter, values) = filter.render(!server.lite);
        let request = QueryRequest::builder()
            .collection_name(name)
            .filter(filter)
            .filter_templates(values)
            .output_fields(["count(*)"])
            .consistency_level(ConsistencyLevel::Strong)
            .build()
            .map_err(from_sdk)?;
        let found = self.loaded(name, || async { missing(server.client.query(request.clone()).await) }).await?;
        Ok(found.map_or(0, |f| f.results().get_row_count()))
    }

    /// A read of a collection, which is loaded where the server says that it is not: after a restart, or by someone's doing.
    pub(super) async fn loaded<T, F>(&self, name: &str, call: impl Fn() -> F) -> StoreResult<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let first = self.link.call(async { Ok(call().await) }).await?;
        match first {
            Err(e) if is_not_loaded(&e) => {
                self.load(name).await?;
                self.link.call(call()).await
            }
            done => done.map_err(from_sdk),
        }
    }

    async fn nearest(&self, server: &Server, name: &str, request: &SearchRequest) -> StoreResult<Vec<FoundRow>> {
        let found = self.loaded(name, || async { missing(server.client.search(request.clone()).await) }).await?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let Some(one) = found.results().get_results().first().filter(|r| !r.get_scores().is_empty()) else {
            return Ok(Vec::new());
        };
        let fields = one.get_output_fields();
        let (ids, vectors) = (texts(fields, ID)?, vectors(fields)?);
        Ok(ids
            .iter()
            .zip(vectors)
            .zip(one.get_scores())
            .map(|((id, vector), theirs)| FoundRow { id: id.clone(), vector: vector.clone(), theirs: *theirs })
            .collect())
    }
}

struct FoundRow {
    id: String,
    vector: Vec<f32>,
    theirs: f32,
}

impl MilvusIndex {
    /// The pinned revision, or whatever `current` says.
    async fn read_in<'a, F>(&'a self, current: impl FnOnce(&'a Shared) -> F) -> StoreResult<Option<Current>>
    where
        F: Future<Output = StoreResult<Option<Current>>>,
    {
        let Some(pinned) = &self.pinned else { return current(&self.shared).await };
        let dimensions = || self.shared.dimensions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut dimension = dimensions().get(&**pinned).copied();
        if dimension.is_none() {
            dimension = self.shared.dimension(pinned).await?;
            if let Some(found) = dimension {
                dimensions().insert(pinned.to_string(), found);
            }
        }
        Ok(Some(Current { revision: pinned.to_string(), dimension }))
    }

    /// The revision that is read and the name of its collection.
    async fn now(&self, collection: Collection) -> StoreResult<Option<(Current, String)>> {
        let Some(current) = self.read_in(|s| s.current()).await? else { return Ok(None) };
        let name = self.shared.names.rows(collection, &current.revision);
        Ok(Some((current, name)))
    }

    async fn search_in(&self, name: &str, tenant: &Tenant, query: &VectorQuery) -> StoreResult<Vec<Hit>> {
        let shared = &self.shared;
        let server: Arc<Server> = shared.link.server().await?;
        let mut filter = Filter::tenant(tenant.as_str());
        if let Some(label) = &query.label {
            filter = filter.label(label.clone());
        }
        let (filter, values) = filter.without(query.exclude.iter().map(|id| key(tenant, id)).collect()).render(!server.lite);
        let limit = query.limit.min(AT_MOST);
        let mut wanted = (limit + limit / 4 + MARGIN).min(AT_MOST);
        loop {
            let ef = (self.shared.config.ef as usize).max(wanted);
            let request = SearchRequest::builder()
                .collection_name(name)
                .vector_field(VECTOR)
                .vectors(SearchVectors::Float(vec![query.vector.to_vec()]))
                .metric_type(MetricType::Ip)
                .filter(filter.as_str())
                .filter_templates(values.clone())
                .limit(wanted as i64)
                .output_fields([ID, VECTOR])
                .extra_params(HashMap::from([("ef".to_owned(), ef.to_string())]))
                .consistency_level(self.consistency.level())
                .build()
                .map_err(from_sdk)?;
            let found = shared.nearest(&server, name, &request).await?;
            let (count, last) = (found.len(), found.iter().map(|f| f.theirs).fold(f32::INFINITY, f32::min));
            let mut hits: Vec<Hit> =
                found.into_iter().map(|f| Hit { score: dot(&query.vector, &f.vector).clamp(-1.0, 1.0), id: f.id }).collect();
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            hits.truncate(limit);
            // Rows beyond those found may belong before the last that is given, as long as rounding could have put them there.
            let open = hits.last().is_some_and(|h| last >= h.score - ROUNDING);
            if count < wanted || wanted == AT_MOST || !open {
                return Ok(hits);
            }
            wanted = (wanted * 4).min(AT_MOST);
        }
    }
}

#[async_trait]
impl VectorRead for MilvusIndex {
    async fn revision(&self) -> StoreResult<Option<String>> {
        // Asked even where the answer is known: health checks count on it.
        let current = self.shared.read_current().await?;
        Ok(self.pinned.as_deref().map(str::to_owned).or(current.map(|c| c.revision)))
    }

    async fn get(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>> {
        let mut found: HashMap<String, Vector> = HashMap::new();
        if let Some((Current { dimension: Some(_), .. }, name)) = self.now(collection).await? {
            for ids in ids.chunks(KEYS_AT_ONCE) {
                let fields = self.shared.rows_of(&name, ids.iter().map(|id| key(tenant, id)).collect(), &[KEY, VECTOR]).await?;
                if fields.iter().all(|f| f.is_empty()) {
                    continue;
                }
                for (key, values) in texts(&fields, KEY)?.iter().zip(vectors(&fields)?) {
                    found.insert(key.clone(), vector(values));
                }
            }
        }
        Ok(ids.iter().map(|id| found.get(&key(tenant, id)).cloned()).collect())
    }

    async fn search(&self, tenant: &Tenant, collection: Collection, query: VectorQuery) -> StoreResult<Vec<Hit>> {
        check_unit(&query.vector)?;
        let Some((Current { dimension: Some(dimension), .. }, name)) = self.now(collection).await? else {
            return Ok(Vec::new());
        };
        if dimension != query.vector.len() {
            return Err(invalid(format!("the query has {} components, the index {dimension}", query.vector.len())));
        }
        if query.limit == 0 { Ok(Vec::new()) } else { self.search_in(&name, tenant, &query).await }
    }

    async fn count(&self, tenant: &Tenant, collection: Collection) -> StoreResult<u64> {
        match self.now(collection).await? {
            Some((Current { dimension: Some(_), .. }, name)) => {
                self.shared.count_of(&name, Filter::tenant(tenant.as_str())).await
            }
            _ => Ok(0),
        }
    }

    async fn digest(&self) -> StoreResult<Digest> {
        let mut digest = Digest::default();
        if let Some(Current { revision, dimension: Some(dimension) }) = self.read_in(|s| s.read_current()).await? {
            for collection in Collection::ALL {
                let name = self.shared.names.rows(collection, &revision);
                self.shared.add_to_digest(collection, &name, dimension, &mut digest).await?;
            }
        }
        Ok(digest)
    }
}

/// Which of these keys a collection has.
pub(super) async fn present(shared: &Shared, name: &str, keys: Vec<String>) -> StoreResult<bool> {
    let fields = shared.rows_of(name, keys, &[KEY]).await?;
    Ok(fields.iter().any(|f| f.name() == KEY && !f.is_empty()))
}
