//! The vector index: unit vectors by id, in two collections, searched by cosine.
//!
//! Vectors of two revisions are never compared: each revision has collections of its own, and one revision is current.

use async_trait::async_trait;

use crate::{
    StoreResult, Tenant, Vector,
    digest::{Digest, vector_bytes},
};

/// What is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Collection {
    /// Profiles by user id.
    Users,
    /// Texts by item id.
    Items,
}

impl Collection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Users, Self::Items];

    /// The name as stores and metrics use it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Items => "items",
        }
    }
}

/// A vector to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRow {
    /// User or item id.
    pub id: String,
    /// Unit length; the dimension of its revision.
    pub vector: Vector,
    /// What a search can be narrowed to (an item's categories). Sorted.
    pub labels: Vec<String>,
}

impl VectorRow {
    /// Adds this row to a digest, as every backend must: tenant, collection, id, vector, then each label.
    pub fn add_to(&self, digest: &mut Digest, tenant: &Tenant, collection: Collection) {
        add_row(digest, tenant.as_str(), collection, &self.id, &self.vector, self.labels.iter().map(String::as_str));
    }
}

/// [`VectorRow::add_to`] for backends that keep the parts of a row apart.
pub fn add_row<'a>(
    digest: &mut Digest,
    tenant: &'a str,
    collection: Collection,
    id: &'a str,
    vector: &[f32],
    labels: impl Iterator<Item = &'a str>,
) {
    let bytes = vector_bytes(vector);
    let mut fields: Vec<&[u8]> = vec![tenant.as_bytes(), collection.name().as_bytes(), id.as_bytes(), &bytes];
    for label in labels {
        fields.push(label.as_bytes());
    }
    digest.add(&fields);
}

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorQuery {
    /// Unit length.
    pub vector: Vector,
    /// How many are wanted.
    pub limit: usize,
    /// Only rows with this label.
    pub label: Option<String>,
    /// None of these ids.
    pub exclude: Vec<String>,
}

/// A vector that is near.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// User or item id.
    pub id: String,
    /// Cosine, -1 to 1.
    pub score: f32,
}

/// What serving reads: always in the current revision.
#[async_trait]
pub trait VectorRead: Send + Sync {
    /// The current revision, once one was written or switched to.
    async fn revision(&self) -> StoreResult<Option<String>>;

    /// The vectors of these ids, in the order asked.
    async fn get(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>>;

    /// The nearest rows: by score from the top, ties by id. Sees every row whose upsert was acknowledged.
    async fn search(&self, tenant: &Tenant, collection: Collection, query: VectorQuery) -> StoreResult<Vec<Hit>>;

    /// How many rows a tenant has.
    async fn count(&self, tenant: &Tenant, collection: Collection) -> StoreResult<u64>;

    /// The digest of the rows of the current revision: tenant, collection, id, vector, labels.
    async fn digest(&self) -> StoreResult<Digest>;
}

/// What the worker and jobs write.
#[async_trait]
pub trait VectorWrite: VectorRead {
    /// Sets rows of a revision, durably. The first revision ever written becomes current.
    async fn upsert(&self, tenant: &Tenant, collection: Collection, revision: &str, rows: &[VectorRow]) -> StoreResult<()>;

    /// Removes ids from every revision, durably. Ids that are not there are no error.
    async fn delete(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<()>;

    /// Makes a revision current, for both collections at once.
    async fn switch(&self, revision: &str) -> StoreResult<()>;

    /// Forgets a revision that is not current.
    async fn drop_revision(&self, revision: &str) -> StoreResult<()>;

    /// Whether what was stored could not be read back, so that the caller must write everything again from the ledger.
    /// The index is empty but usable then. Stays so, across restarts too, until [`Self::checkpoint`] is called: a rebuild
    /// that was interrupted begins again. Stays true, over restarts too, until [`Self::checkpoint`]: call
    /// that when everything was written.
    async fn needs_rebuild(&self) -> StoreResult<bool>;

    /// Writes down whatever makes the next start faster. Never needed for correctness.
    async fn checkpoint(&self) -> StoreResult<()>;
}
