//! The tables, and a partition for each month of the data, or each year of what is long past.
//!
//! Totals are partitioned by time, so that old ones can be detached or dropped as whole tables. Counted ids are not: an id
//! counts once whatever hour it is told with, so they lie by user, where looking one up and erasing a user reads one partition.
//! Partitions are made as they come up, old ones too; while one cannot be made its rows go to the default partition.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult, Timestamp, ports::Tally, time::HOUR_MS};

use super::{
    STORE, Shared,
    months::{Known, Month, Span, missing},
    server::{Mode, Tx, get, sql},
};

/// The newest version of the tables that this program knows.
const VERSION: i64 = 1;
const OLDEST_SERVER: i32 = 140_000;
const COUNTED_PARTITIONS: u32 = 16;
/// How long making a partition waits for whoever reads, since everyone else waits behind it.
const PATIENCE_MS: u32 = 1_000;
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Version 1. `{S}` is the schema. Ids are compared byte by byte.
const VERSION_1: &str = r#"
CREATE TABLE {S}.counted (tenant text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,
  item text COLLATE "C" NOT NULL, hour bigint NOT NULL, weight bigint NOT NULL, PRIMARY KEY (tenant, user_id, id))
  PARTITION BY HASH (tenant, user_id);
CREATE TABLE {S}.totals (tenant text COLLATE "C" NOT NULL, item text COLLATE "C" NOT NULL, hour bigint NOT NULL,
  count bigint NOT NULL, weight bigint NOT NULL, PRIMARY KEY (tenant, item, hour)) PARTITION BY RANGE (hour);
CREATE TABLE {S}.totals_other PARTITION OF {S}.totals DEFAULT;
CREATE INDEX totals_by_hour ON {S}.totals (tenant, hour);
CREATE TABLE {S}.labels (tenant text COLLATE "C" NOT NULL, item text COLLATE "C" NOT NULL, categories text[] COLLATE "C",
  PRIMARY KEY (tenant, item));
CREATE INDEX labels_by_category ON {S}.labels USING gin (categories);
CREATE TABLE {S}.fits (tenant text COLLATE "C" PRIMARY KEY, half_life double precision, share double precision NOT NULL);
CREATE TABLE {S}.runs (id text COLLATE "C" PRIMARY KEY, job text NOT NULL, tenant text, started bigint NOT NULL,
  finished bigint, outcome text NOT NULL, report jsonb NOT NULL);
CREATE INDEX runs_by_start ON {S}.runs (started DESC, id);
"#;

pub(super) async fn setup(shared: &Shared) -> StoreResult<Vec<String>> {
    let mut lines = vec![server_fits(shared).await?];
    lines.extend(shared.server.attempts(|| migrate(shared)).await?);
    Ok(lines)
}

fn refused(shared: &Shared, kind: ErrorKind, message: &str) -> StoreError {
    StoreError::new(kind, STORE, format!("{}: {message}", shared.server.config.uri))
}

/// Whether this server can hold the tables at all.
async fn server_fits(shared: &Shared) -> StoreResult<String> {
    let text = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
                current_setting('server_encoding'), pg_is_in_recovery()";
    let row = shared
        .server
        .attempts(|| async {
            let mut tx = shared.server.begin(Mode::Read).await?;
            let rows = tx.rows(sql(&text.into())).await?;
            tx.commit().await?;
            Ok(rows)
        })
        .await?;
    let Some(row) = row.first() else {
        return Err(refused(shared, ErrorKind::Unavailable, "the server says nothing of itself"));
    };
    let (number, version): (i32, String) = (get(row, 0)?, get(row, 1)?);
    if number < OLDEST_SERVER {
        let message = format!("version {version} is too old: PostgreSQL 14 or newer is needed");
        return Err(refused(shared, ErrorKind::Invalid, &message));
    }
    let encoding: String = get(row, 2)?;
    if encoding != "UTF8" {
        let message = format!("the database keeps text as {encoding}: create it with ENCODING 'UTF8'");
        return Err(refused(shared, ErrorKind::Invalid, &message));
    }
    if get::<bool>(row, 3)? {
        return Err(refused(
            shared,
            ErrorKind::ReadOnly,
            "this is a standby: postgres.uri must name the primary, which takes writes",
        ));
    }
    Ok(format!("postgresql {version}"))
}

/// Takes the lock under which tables change, until the end of the transaction.
async fn lock(shared: &Shared, tx: &mut Tx<'_>) -> StoreResult<()> {
    let key = format!("nearcast engagement {}", shared.statements.schema);
    tx.rows(sql(&"SELECT pg_advisory_xact_lock(hashtextextended($1, 0))".into()).bind(key)).await.map(|_| ())
}

async fn migrate(shared: &Shared) -> StoreResult<Vec<String>> {
    let schema = format!("\"{}\"", shared.statements.schema);
    let mut tx = shared.server.begin(Mode::Write).await?;
    lock(shared, &mut tx).await?;
    let mut lines = Vec::new();
    // Making what is there already asks for rights that a worker's user need not have.
    let there = sql(&"SELECT 1 FROM pg_namespace WHERE nspname = $1".into()).bind(shared.statements.schema.clone());
    if tx.rows(there).await?.is_empty() {
        tx.simple(format!("CREATE SCHEMA {schema}")).await?;
    }
    let there = sql(&"SELECT to_regclass($1) IS NOT NULL".into()).bind(shared.statements.table("versions"));
    let rows = tx.rows(there).await?;
    if !rows.first().map_or(Ok(false), |row| get(row, 0))? {
        tx.simple(format!("CREATE TABLE {schema}.versions (version bigint PRIMARY KEY)")).await?;
    }
    let rows = tx.rows(sql(&format!("SELECT coalesce(max(version), 0) FROM {schema}.versions").into())).await?;
    let version: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
    if version > VERSION {
        let message = format!("schema {schema} was written by a newer version of the program (tables {version}): use that one");
        return Err(refused(shared, ErrorKind::TooNew, &message));
    }
    if version < 1 {
        tx.simple(VERSION_1.replace("{S}", &schema)).await?;
        for n in 0..COUNTED_PARTITIONS {
            let part = shared.statements.table(&format!("counted_{n:02}"));
            let of = shared.statements.table("counted");
            let modulus = COUNTED_PARTITIONS;
            tx.simple(format!("CREATE TABLE {part} PARTITION OF {of} FOR VALUES WITH (MODULUS {modulus}, REMAINDER {n})"))
                .await?;
        }
        tx.simple(format!("INSERT INTO {schema}.versions (version) VALUES ({VERSION})")).await?;
        lines.push(format!("schema {schema}, tables {VERSION}: made"));
    } else {
        lines.push(format!("schema {schema}, tables {version}"));
    }
    super::artefacts::ensure(shared, &mut tx).await?;
    super::aggregates::ensure(shared, &mut tx).await?;
    tx.commit().await?;
    Ok(lines)
}

/// Makes the partitions that these fall into, as far as that can be done now.
pub(super) async fn ensure_months(shared: &Shared, tallies: &[&Tally]) -> StoreResult<()> {
    let missing = {
        let known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let months: BTreeSet<Month> = tallies.iter().filter_map(|t| Month::of(t.hour())).collect();
        let missing: BTreeSet<Month> = months.into_iter().filter(|m| !known.months.contains(m)).collect();
        if missing.is_empty() || known.not_before.is_some_and(|t| t > Instant::now()) {
            return Ok(());
        }
        missing
    };
    let missing: Vec<Month> = missing.into_iter().collect();
    let attempt = shared.server.within(shared.server.config.call_timeout(), make_partitions(shared, &missing)).await;
    let refused = match attempt {
        Ok(made) => {
            learn(&shared.known, missing.into_iter().chain(made.into_iter().flat_map(Span::months)));
            return Ok(());
        }
        Err(e) if matches!(e.kind, ErrorKind::Busy | ErrorKind::Invalid | ErrorKind::Corrupt) => e,
        Err(e) => return Err(e),
    };
    // Someone reads for long, or this user may not make tables: the default partition takes the rows meanwhile.
    tracing::warn!(error = %refused, months = missing.len(), "no partition could be made: the default one takes the rows for now");
    shared.known.lock().unwrap_or_else(PoisonError::into_inner).not_before = Some(Instant::now() + TRY_AGAIN);
    Ok(())
}

fn learn(known: &Mutex<Known>, months: impl Iterator<Item = Month>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.months.extend(months);
    known.not_before = None;
}

/// Makes the partitions that are missing for these months; answers which.
async fn make_partitions(shared: &Shared, months: &[Month]) -> StoreResult<BTreeSet<Span>> {
    let s = &shared.statements;
    let Some(now) = Month::of(Timestamp::now().millis().div_euclid(HOUR_MS)) else { return Ok(BTreeSet::new()) };
    let mut tx = shared.server.begin(Mode::Write).await?;
    let still_missing = async |tx: &mut Tx<'_>| -> StoreResult<BTreeSet<Span>> {
        let rows = tx.rows(sql(&s.partitions).bind(s.table("totals"))).await?;
        let there: BTreeSet<String> = rows.iter().map(|row| get(row, 0)).collect::<StoreResult<_>>()?;
        Ok(missing(months, &there, now))
    };
    if still_missing(&mut tx).await?.is_empty() {
        tx.commit().await?;
        return Ok(BTreeSet::new());
    }
    tx.simple(format!("SET LOCAL lock_timeout = {PATIENCE_MS}")).await?;
    lock(shared, &mut tx).await?;
    let made = still_missing(&mut tx).await?;
    let (totals, other) = (s.table("totals"), s.table("totals_other"));
    // Nobody may add to the default partition between moving its rows and attaching their new home.
    tx.simple(format!("LOCK TABLE {other} IN ACCESS EXCLUSIVE MODE")).await?;
    for span in &made {
        let (part, hours) = (s.table(&span.table()), span.hours());
        let (from, to) = (hours.start, hours.end);
        tx.simple(format!(
            "CREATE TABLE {part} (LIKE {totals} INCLUDING ALL); \
             WITH moved AS (DELETE FROM {other} WHERE hour >= {from} AND hour < {to} RETURNING *) \
             INSERT INTO {part} SELECT * FROM moved; \
             ALTER TABLE {totals} ATTACH PARTITION {part} FOR VALUES FROM ({from}) TO ({to})"
        ))
        .await?;
    }
    tx.commit().await?;
    Ok(made)
}
