//! Artefacts: what training made, in versions, and which version is in service.
//!
//! A version is never changed once it was put. Which one is in service is one fact a tenant, switched in one step; every process looks
//! at it now and then. No event is in an artefact, and none stands in a digest.

use async_trait::async_trait;

use crate::{StoreResult, Tenant, Timestamp};

/// What training made, on its way to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewArtefact {
    /// When it was made.
    pub created: Timestamp,
    /// The SHA-256 of the body, in hexadecimal digits.
    pub digest: String,
    /// What it was judged by, as training reports it.
    pub figures: serde_json::Value,
    /// See [`crate::learned::Learned::to_bytes`].
    pub body: Vec<u8>,
}

/// A version, without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtefactInfo {
    /// Counts up from 1 in each tenant; a number is never used again.
    pub version: u64,
    /// When it was made.
    pub created: Timestamp,
    /// The SHA-256 of the body.
    pub digest: String,
    /// What it was judged by.
    pub figures: serde_json::Value,
    /// Whether requests are answered with it.
    pub in_service: bool,
}

/// Keeps artefacts.
#[async_trait]
pub trait Artefacts: Send + Sync {
    /// Keeps an artefact, durably and whole, under the next version. It is not in service by that.
    async fn put(&self, tenant: &Tenant, artefact: &NewArtefact) -> StoreResult<u64>;

    /// All versions of a tenant, the newest first.
    async fn list(&self, tenant: &Tenant) -> StoreResult<Vec<ArtefactInfo>>;

    /// The body of a version, as it was put.
    async fn body(&self, tenant: &Tenant, version: u64) -> StoreResult<Option<Vec<u8>>>;

    /// Takes a version into service, or none at all. `false`: there is no such version, and nothing changed.
    async fn switch(&self, tenant: &Tenant, version: Option<u64>) -> StoreResult<bool>;

    /// What is in service, by tenant. Cheap: it is asked again and again.
    async fn in_service(&self) -> StoreResult<Vec<(Tenant, u64)>>;

    /// Removes a version that is not in service; one that is stays.
    async fn remove(&self, tenant: &Tenant, version: u64) -> StoreResult<()>;
}

/// Where nothing was ever trained.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoArtefacts;

#[async_trait]
impl Artefacts for NoArtefacts {
    async fn put(&self, _: &Tenant, _: &NewArtefact) -> StoreResult<u64> {
        Err(crate::StoreError::new(crate::ErrorKind::Invalid, "artefacts", "nothing is kept here"))
    }

    async fn list(&self, _: &Tenant) -> StoreResult<Vec<ArtefactInfo>> {
        Ok(Vec::new())
    }

    async fn body(&self, _: &Tenant, _: u64) -> StoreResult<Option<Vec<u8>>> {
        Ok(None)
    }

    async fn switch(&self, _: &Tenant, version: Option<u64>) -> StoreResult<bool> {
        Ok(version.is_none())
    }

    async fn in_service(&self) -> StoreResult<Vec<(Tenant, u64)>> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &Tenant, _: u64) -> StoreResult<()> {
        Ok(())
    }
}
