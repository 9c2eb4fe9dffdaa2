//! Artefacts of training, beside the totals: a row a version, and its body in parts that fit a message.
//!
//! Their tables stand apart from the others' version: they are made where they are missing and never change.

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, Timestamp,
    ports::{ArtefactInfo, Artefacts, NewArtefact},
};

use super::{
    PostgresEngagement, STORE, Shared,
    server::{Mode, Tx, get, sql},
};

/// Bytes of a part.
const PART: usize = 1 << 20;

/// Makes the tables where they are missing, within the transaction that makes the others.
pub(super) async fn ensure(shared: &Shared, tx: &mut Tx<'_>) -> StoreResult<()> {
    let there = sql(&"SELECT to_regclass($1) IS NOT NULL".into()).bind(shared.statements.table("artefact_parts"));
    if tx.rows(there).await?.first().map_or(Ok(false), |row| get(row, 0))? {
        return Ok(());
    }
    let (tenants, versions, parts) = tables(shared);
    tx.simple(format!(
        "CREATE TABLE {tenants} (tenant text COLLATE \"C\" PRIMARY KEY, last bigint NOT NULL, in_service bigint); \
         CREATE TABLE {versions} (tenant text COLLATE \"C\" NOT NULL, version bigint NOT NULL, created bigint NOT NULL, \
         digest text NOT NULL, figures text NOT NULL, parts bigint NOT NULL, PRIMARY KEY (tenant, version)); \
         CREATE TABLE {parts} (tenant text COLLATE \"C\" NOT NULL, version bigint NOT NULL, part bigint NOT NULL, \
         body bytea NOT NULL, PRIMARY KEY (tenant, version, part), \
         FOREIGN KEY (tenant, version) REFERENCES {versions} ON DELETE CASCADE)"
    ))
    .await
}

fn tables(shared: &Shared) -> (String, String, String) {
    let table = |name| shared.statements.table(name);
    (table("artefact_tenants"), table("artefacts"), table("artefact_parts"))
}

impl PostgresEngagement {
    /// One transaction of few rows.
    async fn small(&self, mode: Mode, text: String, tenant: &Tenant, version: Option<u64>) -> StoreResult<u64> {
        let text = text.into();
        let call = || async {
            let mut tx = self.shared.server.begin(mode).await?;
            let n = tx.run(sql(&text).bind(tenant.as_str()).bind(version.map(|v| v as i64))).await?;
            tx.commit().await?;
            Ok(n)
        };
        self.shared.server.attempts(call).await
    }
}

#[async_trait]
impl Artefacts for PostgresEngagement {
    // Not tried again: a repetition would be another version.
    async fn put(&self, tenant: &Tenant, artefact: &NewArtefact) -> StoreResult<u64> {
        let (tenants, versions, parts) = tables(&self.shared);
        let mut tx = self.shared.server.begin(Mode::Write).await?;
        let next = format!(
            "INSERT INTO {tenants} AS t (tenant, last) VALUES ($1, 1) \
             ON CONFLICT (tenant) DO UPDATE SET last = t.last + 1 RETURNING last"
        );
        let rows = tx.rows(sql(&next.into()).bind(tenant.as_str())).await?;
        let row = rows.first().ok_or_else(|| StoreError::new(ErrorKind::Corrupt, STORE, "no version was given"))?;
        let version: i64 = get(row, 0)?;
        let all: Vec<&[u8]> = artefact.body.chunks(PART).collect();
        let text = format!(
            "INSERT INTO {versions} (tenant, version, created, digest, figures, parts) VALUES ($1, $2, $3, $4, $5, $6)"
        );
        let insert = sql(&text.into())
            .bind(tenant.as_str())
            .bind(version)
            .bind(artefact.created.millis())
            .bind(artefact.digest.clone())
            .bind(artefact.figures.to_string())
            .bind(all.len() as i64);
        tx.run(insert).await?;
        let text = format!("INSERT INTO {parts} (tenant, version, part, body) VALUES ($1, $2, $3, $4)").into();
        for (n, part) in all.into_iter().enumerate() {
            tx.run(sql(&text).bind(tenant.as_str()).bind(version).bind(n as i64).bind(part.to_vec())).await?;
        }
        tx.commit().await?;
        Ok(version as u64)
    }

    async fn list(&self, tenant: &Tenant) -> StoreResult<Vec<ArtefactInfo>> {
        let (tenants, versions, _) = tables(&self.shared);
        let text = format!(
            "SELECT a.version, a.created, a.digest, a.figures, coalesce(t.in_service = a.version, false) FROM {versions} a \
             JOIN {tenants} t ON t.tenant = a.tenant WHERE a.tenant = $1 ORDER BY a.version DESC"
        )
        .into();
        let call = || async {
            let mut tx = self.shared.server.begin(Mode::Read).await?;
            let rows = tx.rows(sql(&text).bind(tenant.as_str())).await?;
            tx.commit().await?;
            let torn =
                |e: serde_json::Error| StoreError::new(ErrorKind::Corrupt, STORE, format!("figures of an artefact: {e}"));
            rows.iter()
                .map(|row| {
                    Ok(ArtefactInfo {
                        version: get::<i64>(row, 0)? as u64,
                        created: Timestamp::from_millis(get(row, 1)?),
                        digest: get(row, 2)?,
                        figures: serde_json::from_str(get(row, 3)?).map_err(torn)?,
                        in_service: get(row, 4)?,
                    })
                })
                .collect()
        };
        self.shared.server.attempts(call).await
    }

    async fn body(&self, tenant: &Tenant, version: u64) -> StoreResult<Option<Vec<u8>>> {
        let (_, versions, parts) = tables(&self.shared);
        let count = format!("SELECT parts FROM {versions} WHERE tenant = $1 AND version = $2").into();
        let part = format!("SELECT body FROM {parts} WHERE tenant = $1 AND version = $2 AND part = $3").into();
        let mut tx = self.shared.server.begin(Mode::LongRead).await?;
        let rows = tx.rows(sql(&count).bind(tenant.as_str()).bind(version as i64)).await?;
        let Some(n) = rows.first().map(|row| get::<i64>(row, 0)).transpose()? else {
            tx.commit().await?;
            return Ok(None);
        };
        let mut body = Vec::new();
        for at in 0..n {
            let rows = tx.rows(sql(&part).bind(tenant.as_str()).bind(version as i64).bind(at)).await?;
            let row =
                rows.first().ok_or_else(|| StoreError::new(ErrorKind::Corrupt, STORE, "a part of an artefact is missing"))?;
            body.extend_from_slice(get::<&[u8]>(row, 0)?);
        }
        tx.commit().await?;
        Ok(Some(body))
    }

    async fn switch(&self, tenant: &Tenant, version: Option<u64>) -> StoreResult<bool> {
        let (tenants, versions, _) = tables(&self.shared);
        let text = format!(
            "UPDATE {tenants} SET in_service = $2::bigint WHERE tenant = $1 AND ($2::bigint IS NULL \
             OR EXISTS (SELECT 1 FROM {versions} WHERE tenant = $1 AND version = $2::bigint))"
        );
        Ok(self.small(Mode::Write, text, tenant, version).await? > 0 || version.is_none())
    }

    async fn in_service(&self) -> StoreResult<Vec<(Tenant, u64)>> {
        let (tenants, ..) = tables(&self.shared);
        let text = format!("SELECT tenant, in_service FROM {tenants} WHERE in_service IS NOT NULL ORDER BY tenant").into();
        let call = || async {
            let mut tx = self.shared.server.begin(Mode::Read).await?;
            let rows = tx.rows(sql(&text)).await?;
            tx.commit().await?;
            rows.iter().map(|r| Ok((Tenant::trusted(get::<&str>(r, 0)?), get::<i64>(r, 1)? as u64))).collect()
        };
        self.shared.server.attempts(call).await
    }

    async fn remove(&self, tenant: &Tenant, version: u64) -> StoreResult<()> {
        let (tenants, versions, _) = tables(&self.shared);
        let text = format!(
            "DELETE FROM {versions} WHERE tenant = $1 AND version = $2 \
             AND NOT EXISTS (SELECT 1 FROM {tenants} WHERE tenant = $1 AND in_service = $2)"
        );
        self.small(Mode::Write, text, tenant, Some(version)).await.map(|_| ())
    }
}
