//! Which revision is current: the alias `current` names the revision's marker, an empty collection whose properties hold its name.
//!
//! That alias is the only truth, and changing it the only step of a switch that counts; what follows for others' sake can be repeated.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use milvus::v2::{
    error::Error,
    prelude::{
        AlterAliasRequest, CreateAliasRequest, DescribeAliasRequest, DescribeCollectionRequest, DropAliasRequest,
        ListAliasesRequest,
    },
};
use nearcast_domain::{ErrorKind, StoreError, StoreResult, ports::Collection};

use super::{
    Shared,
    link::{from_sdk, is_missing},
    rows::VECTOR,
};

/// The property that holds a revision's name.
pub(super) const REVISION: &str = "nearcast.revision";

/// The current revision.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Current {
    pub(super) revision: String,
    /// Of its vectors; `None` where none was ever written.
    pub(super) dimension: Option<usize>,
}

/// What was read last, and when.
#[derive(Debug, Default)]
pub(super) struct Cached(Option<(Instant, Option<Current>)>);

impl Shared {
    /// The current revision, read anew where that was done too long ago.
    pub(super) async fn current(&self) -> StoreResult<Option<Current>> {
        let fresh = Duration::from_millis(self.config.current_ms);
        let cached = self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        match cached {
            Some((when, current)) if when.elapsed() < fresh => Ok(current),
            _ => self.read_current().await,
        }
    }

    /// The current revision, read from the server.
    pub(super) async fn read_current(&self) -> StoreResult<Option<Current>> {
        let when = Instant::now();
        let current = match self.revision_of(&self.names.current()).await? {
            Some(revision) => {
                let dimension = self.dimension(&revision).await?;
                Some(Current { revision, dimension })
            }
            None => None,
        };
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0 = Some((when, current.clone()));
        Ok(current)
    }

    /// What was remembered no longer holds.
    pub(super) fn forget_current(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
    }

    /// Points `current` at a revision whose marker exists; the other aliases after it.
    pub(super) async fn make_current(&self, revision: &str) -> StoreResult<()> {
        let set = self.set_alias(&self.names.current(), &self.names.marker(revision)).await;
        self.forget_current();
        set?;
        self.follow(revision).await
    }

    /// Points `current` at a revision unless it points somewhere. Of several writers, the server takes the first.
    pub(super) async fn claim(&self, revision: &str) -> StoreResult<()> {
        if self.target(&self.names.current()).await?.is_none() {
            let made = self.create_alias(&self.names.current(), &self.names.marker(revision)).await;
            if made.is_err() && self.target(&self.names.current()).await?.is_none() {
                made?;
            }
        }
        self.forget_current();
        match self.read_current().await? {
            Some(current) => self.follow(&current.revision).await,
            None => Ok(()),
        }
    }

    /// Makes the aliases that others read follow `current`.
    pub(super) async fn repair_aliases(&self) -> StoreResult<()> {
        match self.read_current().await? {
            Some(current) => self.follow(&current.revision).await,
            None => Ok(()),
        }
    }

    async fn follow(&self, revision: &str) -> StoreResult<()> {
        for collection in Collection::ALL {
            let target = self.names.rows(collection, revision);
            if self.has(&target).await? && self.target(&self.names.alias(collection)).await?.as_deref() != Some(&*target) {
                self.set_alias(&self.names.alias(collection), &target).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn set_alias(&self, alias: &str, collection: &str) -> StoreResult<()> {
        let server = self.link.server().await?;
        let request = AlterAliasRequest::builder().alias(alias).collection_name(collection).build().map_err(from_sdk)?;
        let error = match self.link.call(async { Ok(server.client.alter_alias(request).await) }).await? {
            Ok(()) => return Ok(()),
            Err(e) => e,
        };
        if self.target(alias).await?.is_some() {
            return Err(from_sdk(error));
        }
        let made = self.create_alias(alias, collection).await;
        // Another process may have made it in between.
        if made.is_err() && self.target(alias).await?.as_deref() == Some(collection) { Ok(()) } else { made }
    }

    async fn create_alias(&self, alias: &str, collection: &str) -> StoreResult<()> {
        let server = self.link.server().await?;
        let request = CreateAliasRequest::builder().alias(alias).collection_name(collection).build().map_err(from_sdk)?;
        self.link.call(server.client.create_alias(request)).await
    }

    /// Drops an alias; one that is not there is no error.
    pub(super) async fn drop_alias(&self, alias: &str) -> StoreResult<()> {
        if self.target(alias).await?.is_none() {
            return Ok(());
        }
        let server = self.link.server().await?;
        let request = DropAliasRequest::builder().alias(alias).build().map_err(from_sdk)?;
        self.link.call(server.client.drop_alias(request)).await
    }

    /// The collections with rows of this kind, of every revision.
    pub(super) async fn every(&self, collection: Collection) -> StoreResult<Vec<String>> {
        let server = self.link.server().await?;
        let request = ListAliasesRequest::builder().build().map_err(from_sdk)?;
        let all = self.link.call(server.client.list_aliases(request)).await?;
        Ok(all.aliases().iter().filter_map(|alias| self.names.of_listed(collection, alias)).collect())
    }

    /// The collection that an alias names.
    pub(super) async fn target(&self, alias: &str) -> StoreResult<Option<String>> {
        let server = self.link.server().await?;
        let request = DescribeAliasRequest::builder().alias(alias).build().map_err(from_sdk)?;
        let found = self.link.call(async { missing(server.client.describe_alias(request).await) }).await?;
        Ok(found.map(|f| f.collection_name().to_owned()).filter(|name| !name.is_empty()))
    }

    /// The revision that a marker, or an alias of one, stands for.
    async fn revision_of(&self, marker: &str) -> StoreResult<Option<String>> {
        let Some(target) = self.target(marker).await? else { return Ok(None) };
        let server = self.link.server().await?;
        let request = DescribeCollectionRequest::builder().collection_name(target.as_str()).build().map_err(from_sdk)?;
        let Some(found) = self.link.call(async { missing(server.client.describe_collection(request).await) }).await? else {
            return Ok(None);
        };
        match found.description().get_properties().get(REVISION) {
            Some(revision) => Ok(Some(revision.clone())),
            None => Err(StoreError::new(
                ErrorKind::Corrupt,
                "vectors",
                format!(
                    "the alias {} names {target}, which is no revision's: drop the alias or give another milvus.prefix",
                    marker
                ),
            )),
        }
    }

    /// The dimension of a revision's vectors; `None` where it has no collections.
    pub(super) async fn dimension(&self, revision: &str) -> StoreResult<Option<usize>> {
        let server = self.link.server().await?;
        for collection in Collection::ALL {
            let name = self.names.rows(collection, revision);
            let request = DescribeCollectionRequest::builder().collection_name(name).build().map_err(from_sdk)?;
            if let Some(found) = self.link.call(async { missing(server.client.describe_collection(request).await) }).await? {
                let schema = found.description().get_schema();
                let field = schema.get_fields().iter().find(|f| f.get_name() == VECTOR);
                return Ok(field.map(|f| f.get_dimension() as usize).filter(|d| *d > 0));
            }
        }
        Ok(None)
    }
}

/// `None` for what is not there.
#[allow(clippy::result_large_err)] // The error is the client's.
pub(super) fn missing<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}
