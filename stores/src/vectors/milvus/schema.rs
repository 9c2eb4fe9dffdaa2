//! The collections of a revision: made when its first rows come, by whichever process is first.
//!
//! A *sentinel* row that belongs to no tenant is written into each collection when it is new. A collection without its sentinel, or one
//! that is gone although it was made, lost its rows behind our back: the index says so until everything was written again.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use milvus::v2::{
    DataType, FieldData, IndexType, MetricType,
    prelude::{
        CollectionSchema, CreateCollectionRequest, CreateIndexRequest, DescribeIndexRequest, DropCollectionRequest,
        FieldSchema, HasCollectionRequest, IndexParam, InsertRequest, LoadCollectionRequest, UpsertRequest,
    },
};
use nearcast_domain::{StoreResult, ids::MAX_ID_BYTES, ports::Collection};

use super::{
    MilvusIndexKind, Shared,
    current::REVISION,
    link::{Server, from_sdk, invalid, no_index},
    rows::{ID, KEY, LABELS, TENANT, VECTOR},
};

/// The primary key of the sentinel, unlike that of any row.
pub(super) const SENTINEL: &str = "sentinel";
/// The most labels of a row, as the server has it.
const LABELS_AT_MOST: u32 = 1024;

impl Shared {
    /// Makes the collections of a revision where they are not there, and the revision current where none is.
    pub(super) async fn make(&self, revision: &str, dimension: usize) -> StoreResult<()> {
        if let Some(known) = self.made().get(revision) {
            return same_dimension(revision, *known, dimension);
        }
        let _one = self.making.lock().await;
        if let Some(known) = self.made().get(revision) {
            return same_dimension(revision, *known, dimension);
        }
        if let Some(known) = self.dimension(revision).await? {
            same_dimension(revision, known, dimension)?;
        }
        let fresh = !self.has(&self.names.made(revision)).await?;
        for collection in Collection::ALL {
            self.make_rows(collection, revision, dimension).await?;
            if fresh {
                self.write_sentinel(collection, revision, dimension).await?;
            }
        }
        if fresh {
            self.make_marker(&self.names.made(revision), revision).await?;
        }
        // Before any row is written: from then on, deletions find it.
        if self.target(&self.names.listed(revision)).await?.is_none() {
            self.set_alias(&self.names.listed(revision), &self.names.made(revision)).await?;
        }
        self.make_marker(&self.names.marker(revision), revision).await?;
        self.claim(revision).await?;
        self.made().insert(revision.to_owned(), dimension);
        Ok(())
    }

    /// A revision's collections are no longer known to be there.
    pub(super) fn unmake(&self, revision: &str) {
        self.made().remove(revision);
    }

    fn made(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make_rows(&self, collection: Collection, revision: &str, dimension: usize) -> StoreResult<()> {
        let name = self.names.rows(collection, revision);
        let dimension = u32::try_from(dimension).map_err(invalid)?;
        let text = |name: &str, length| FieldSchema::new().name(name).data_type(DataType::VarChar).max_length(length);
        let id_bytes = MAX_ID_BYTES as u32;
        let labels = FieldSchema::new()
            .name(LABELS)
            .data_type(DataType::Array)
            .element_type(DataType::VarChar)
            .max_length(id_bytes)
            .max_capacity(LABELS_AT_MOST);
        let schema = CollectionSchema::new()
            .description(format!("nearcast {} of {revision}", collection.name()))
            .add_field(text(KEY, 64).primary_key(true))
            .add_field(text(TENANT, id_bytes).partition_key(true))
            .add_field(text(ID, id_bytes))
            .add_field(labels)
            .add_field(FieldSchema::new().name(VECTOR).data_type(DataType::FloatVector).dimension(dimension));
        let request = CreateCollectionRequest::builder()
            .collection_name(name.as_str())
            .schema(schema)
            .num_partitions(self.config.partitions.into())
            .num_shards(self.config.shards as i32)
            .properties(HashMap::from([(REVISION.to_owned(), revision.to_owned())]));
        self.create(&name, request).await?;
        let server = self.link.server().await?;
        let index = self.index(&server);
        self.patiently(|| async {
            if self.has_index(&name).await? {
                return Ok(());
            }
            let request = CreateIndexRequest::builder().collection_name(name.as_str()).index_param(index.clone()).sync(false);
            let request = request.build().map_err(from_sdk)?;
            let made = self.link.long(server.client.create_index(request)).await;
            if made.is_err() && self.has_index(&name).await? { Ok(()) } else { made }
        })
        .await?;
        self.patiently(|| self.load(&name)).await
    }

    /// Whether vectors of a collection are indexed, as whoever made it had it: another kind takes a new revision.
    async fn has_index(&self, name: &str) -> StoreResult<bool> {
        let server = self.link.server().await?;
        let request = DescribeIndexRequest::builder().collection_name(name).field_name(VECTOR).build().map_err(from_sdk)?;
        let found = self.link.call(async { no_index(server.client.describe_index(request).await) }).await?;
        Ok(found.is_some_and(|f| !f.indexes().is_empty()))
    }

    fn index(&self, server: &Server) -> IndexParam {
        let c = &self.config;
        let graph = match c.index {
            MilvusIndexKind::Hnsw => true,
            MilvusIndexKind::Auto => !server.lite,
            MilvusIndexKind::Flat => false,
        };
        // Rows are of unit length: the inner product is the cosine, and nothing is divided.
        let index = IndexParam::new().field_name(VECTOR).index_name(VECTOR).metric_type(MetricType::Ip);
        if !graph {
            return index.index_type(IndexType::Flat);
        }
        let params = [("M".to_owned(), c.m.to_string()), ("efConstruction".to_owned(), c.ef_construction.to_string())];
        index.index_type(IndexType::Hnsw).extra_params(HashMap::from(params))
    }

    /// Loads a collection for searches.
    pub(super) async fn load(&self, name: &str) -> StoreResult<()> {
        let server = self.link.server().await?;
        let request = LoadCollectionRequest::builder()
            .collection_name(name)
            .replica_number(self.config.replicas as i32)
            .sync(true)
            .timeout_ms(self.config.load_ms as i64)
            .build()
            .map_err(from_sdk)?;
        self.link.long(server.client.load_collection(request)).await
    }

    /// Makes the empty collection that stands for a revision. It is never loaded.
    pub(super) async fn make_marker(&self, name: &str, revision: &str) -> StoreResult<()> {
        let schema = CollectionSchema::new()
            .description(format!("nearcast revision {revision}"))
            .add_field(FieldSchema::new().name(KEY).data_type(DataType::VarChar).max_length(64).primary_key(true))
            .add_field(FieldSchema::new().name(VECTOR).data_type(DataType::FloatVector).dimension(2));
        let request = CreateCollectionRequest::builder()
            .collection_name(name)
            .schema(schema)
            .properties(HashMap::from([(REVISION.to_owned(), revision.to_owned())]));
        self.create(name, request).await
    }

    /// Writes the row that says that a collection has not lost what was written to it.
    pub(super) async fn write_sentinel(&self, collection: Collection, revision: &str, dimension: usize) -> StoreResult<()> {
        let mut vector = vec![0.0; dimension];
        if let Some(first) = vector.first_mut() {
            *first = 1.0;
        }
        let columns = vec![
            FieldData::varchar(KEY, vec![SENTINEL.to_owned()]),
            FieldData::varchar(TENANT, vec![String::new()]),
            FieldData::varchar(ID, vec![String::new()]),
            FieldData::array_varchar(LABELS, vec![Vec::new()]),
            FieldData::float_vector(VECTOR, vec![vector]),
        ];
        let name = self.names.rows(collection, revision);
        self.patiently(|| self.put(&name, &columns)).await
    }

    /// Writes columns of rows.
    pub(super) async fn put(&self, name: &str, columns: &[FieldData]) -> StoreResult<()> {
        let server = self.link.server().await?;
        let rows = InsertRequest::builder().collection_name(name).columns(columns.to_vec()).build().map_err(from_sdk)?;
        let request = UpsertRequest::builder().insert(rows).build().map_err(from_sdk)?;
        self.link.call(server.client.upsert(request)).await.map(drop)
    }

    /// Whether a collection is there.
    pub(super) async fn has(&self, name: &str) -> StoreResult<bool> {
        let server = self.link.server().await?;
        let request = HasCollectionRequest::builder().collection_name(name).build().map_err(from_sdk)?;
        self.link.call(server.client.has_collection(request)).await.map(|r| r.exists())
    }

    /// Drops a collection; one that is not there is no error.
    pub(super) async fn discard(&self, name: &str) -> StoreResult<()> {
        if !self.has(name).await? {
            return Ok(());
        }
        let server = self.link.server().await?;
        let request = DropCollectionRequest::builder().collection_name(name).build().map_err(from_sdk)?;
        let dropped = self.link.long(server.client.drop_collection(request)).await;
        if dropped.is_err() && !self.has(name).await? { Ok(()) } else { dropped }
    }

    /// Makes a collection unless it is there. Of several processes that do at once, all succeed.
    async fn create(
        &self,
        name: &str,
        request: milvus::v2::request::collection::CreateCollectionRequestBuilder,
    ) -> StoreResult<()> {
        if self.has(name).await? {
            return Ok(());
        }
        let request = request.build().map_err(from_sdk)?;
        let server = self.link.server().await?;
        self.patiently(|| async {
            let made = self.link.long(server.client.create_collection(request.clone())).await;
            if made.is_err() && self.has(name).await? { Ok(()) } else { made }
        })
        .await
    }

    /// Tries again what may fail because another process makes the same thing just now, whatever the server calls that.
    async fn patiently<F>(&self, mut call: impl FnMut() -> F) -> StoreResult<()>
    where
        F: Future<Output = StoreResult<()>>,
    {
        let mut wait = 20;
        loop {
            match call().await {
                Err(e) if e.kind.is_transient() && wait < 2_000 => {
                    tokio::time::sleep(Duration::from_millis(wait / 2 + fastrand::u64(0..=wait / 2))).await;
                    wait *= 2;
                }
                done => return done,
            }
        }
    }
}

fn same_dimension(revision: &str, known: usize, dimension: usize) -> StoreResult<()> {
    if known == dimension {
        return Ok(());
    }
    let message =
        format!("revision {revision} has {known} components, not {dimension}; write others under a revision of their own");
    Err(invalid(message))
}
