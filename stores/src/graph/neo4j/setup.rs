//! Constraints, indexes, and whether the server can be used at all.

use std::time::{Duration, Instant};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};

use super::{STORE, Shared, rows::get};

/// The oldest server that knows every statement in use.
const OLDEST_MAJOR: u32 = 5;
/// How long one step may take: on a graph that exists already, an index is filled first.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two looks at indexes that are being filled.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn setup(shared: &Shared) -> StoreResult<Vec<String>> {
    let limit = LONGEST.max(shared.config.call_timeout());
    let asked = || neo4rs::query("CALL dbms.components() YIELD name, versions, edition RETURN versions[0] AS version, edition");
    let rows = shared.core.read(limit, asked).await?;
    let mut lines = Vec::new();
    if let Some(row) = rows.first() {
        let (version, edition): (String, String) = (get(row, "version")?, get(row, "edition")?);
        let major = version.split('.').next().and_then(|n| n.parse::<u32>().ok());
        if major.is_none_or(|n| n < OLDEST_MAJOR) {
            let message = format!("neo4j {}: version {version} is too old: Neo4j 5 or newer is needed", shared.config.uri);
            return Err(StoreError::new(ErrorKind::Invalid, STORE, message));
        }
        lines.push(format!("neo4j {version} ({edition})"));
    }
    for (what, statement) in &shared.cypher.schema {
        shared.core.write_within(limit, || vec![neo4rs::query(statement)]).await?;
        lines.push(what.clone());
    }
    // Writers rely on the constraints: they count only once their indexes are filled. Those of others in the same database, which may
    // come and go meanwhile, are none of ours.
    let until = Instant::now() + limit;
    let unfilled = || {
        let text = "SHOW INDEXES YIELD state, labelsOrTypes \
                    WHERE any(l IN labelsOrTypes WHERE l STARTS WITH $prefix) AND state <> 'ONLINE' RETURN count(*) AS unfilled";
        neo4rs::query(text).param("prefix", shared.config.prefix.as_str())
    };
    loop {
        let rows = shared.core.read(limit, unfilled).await?;
        let left: i64 = rows.first().map_or(Ok(0), |row| get(row, "unfilled"))?;
        if left == 0 {
            return Ok(lines);
        }
        if Instant::now() >= until {
            let message = format!("neo4j {}: {left} indexes are not filled yet; try again later", shared.config.uri);
            return Err(StoreError::new(ErrorKind::Timeout, STORE, message));
        }
        tokio::time::sleep(AGAIN).await;
    }
}
