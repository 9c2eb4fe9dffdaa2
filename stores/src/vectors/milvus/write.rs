//! What the worker and jobs write.

use async_trait::async_trait;
use milvus::v2::prelude::DeleteRequest;
use nearcast_domain::{
    StoreError, StoreResult, Tenant,
    ports::{Collection, VectorRow, VectorWrite},
};

use super::{
    MilvusIndex, Shared,
    current::{Current, missing},
    filter::Filter,
    link::{from_sdk, invalid},
    names::key,
    read::present,
    rows::{batches, columns, distinct},
    schema::SENTINEL,
};
use crate::{remote::with_retries, vectors::state::check_unit};

/// Ids in one deletion.
const KEYS_AT_ONCE: usize = 1_000;

impl Shared {
    async fn delete_from(&self, name: &str, keys: &[String]) -> StoreResult<()> {
        let server = self.link.server().await?;
        let (filter, values) = Filter::keys(keys.to_vec()).render(!server.lite);
        let request = DeleteRequest::builder().collection_name(name).filter(filter).filter_templates(values);
        let request = request.build().map_err(from_sdk)?;
        self.link.call(async { missing(server.client.delete(request).await) }).await.map(drop)
    }

    async fn write(&self, tenant: &Tenant, collection: Collection, revision: &str, rows: &[&VectorRow]) -> StoreResult<()> {
        let name = self.names.rows(collection, revision);
        for batch in batches(rows, self.config.batch_bytes) {
            let columns = columns(tenant, batch);
            with_retries(self.config.retry, || self.put(&name, &columns)).await?;
        }
        Ok(())
    }
}

fn check(rows: &[VectorRow]) -> StoreResult<usize> {
    let dimension = rows.first().map_or(0, |r| r.vector.len());
    for row in rows {
        if row.vector.len() != dimension {
            let message = format!("`{}` has {} components, others of the same batch {dimension}", row.id, row.vector.len());
            return Err(invalid(message));
        }
        check_unit(&row.vector).map_err(|e| StoreError { message: format!("`{}`: {}", row.id, e.message), ..e })?;
    }
    Ok(dimension)
}

#[async_trait]
impl VectorWrite for MilvusIndex {
    async fn upsert(&self, tenant: &Tenant, collection: Collection, revision: &str, rows: &[VectorRow]) -> StoreResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (dimension, shared) = (check(rows)?, &self.shared);
        let rows = distinct(rows);
        with_retries(shared.config.retry, || shared.make(revision, dimension)).await?;
        let written = shared.write(tenant, collection, revision, &rows).await;
        if written.is_err() && !shared.has(&shared.names.rows(collection, revision)).await? {
            // Someone dropped the revision since this process made it.
            shared.unmake(revision);
            with_retries(shared.config.retry, || shared.make(revision, dimension)).await?;
            return shared.write(tenant, collection, revision, &rows).await;
        }
        written
    }

    async fn delete(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let keys: Vec<String> = ids.iter().map(|id| key(tenant, id)).collect();
        // Listed anew each time: another process may have begun a revision.
        for name in with_retries(shared.config.retry, || shared.every(collection)).await? {
            for keys in keys.chunks(KEYS_AT_ONCE) {
                with_retries(shared.config.retry, || shared.delete_from(&name, keys)).await?;
            }
        }
        Ok(())
    }

    async fn switch(&self, revision: &str) -> StoreResult<()> {
        let shared = &self.shared;
        with_retries(shared.config.retry, || async {
            shared.make_marker(&shared.names.marker(revision), revision).await?;
            shared.make_current(revision).await
        })
        .await
    }

    async fn drop_revision(&self, revision: &str) -> StoreResult<()> {
        let shared = &self.shared;
        if shared.read_current().await?.is_some_and(|c| c.revision == revision) {
            return Err(invalid(format!("revision {revision} is current; switch to another before dropping it")));
        }
        shared.unmake(revision);
        // The markers last: whoever is interrupted in between leaves a revision that says of itself that rows are missing.
        with_retries(shared.config.retry, || async {
            shared.repair_aliases().await?;
            for collection in Collection::ALL {
                shared.discard(&shared.names.rows(collection, revision)).await?;
            }
            shared.drop_alias(&shared.names.listed(revision)).await?;
            shared.discard(&shared.names.made(revision)).await?;
            shared.discard(&shared.names.marker(revision)).await
        })
        .await
    }

    async fn needs_rebuild(&self) -> StoreResult<bool> {
        let shared = &self.shared;
        let Some(Current { revision, .. }) = shared.read_current().await? else { return Ok(false) };
        if !shared.has(&shared.names.made(&revision)).await? {
            return Ok(false);
        }
        for collection in Collection::ALL {
            let name = shared.names.rows(collection, &revision);
            if !shared.has(&name).await? || !present(shared, &name, vec![SENTINEL.to_owned()]).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn checkpoint(&self) -> StoreResult<()> {
        // Rows are durable when they are acknowledged. What is missing is to say that all of them were written again.
        let shared = &self.shared;
        if self.needs_rebuild().await?
            && let Some(Current { revision, dimension: Some(dimension) }) = shared.read_current().await?
        {
            shared.unmake(&revision);
            shared.make(&revision, dimension).await?;
            for collection in Collection::ALL {
                shared.write_sentinel(collection, &revision, dimension).await?;
            }
        }
        Ok(())
    }
}
