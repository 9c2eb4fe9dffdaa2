//! Edges and tallies a second into Neo4j and PostgreSQL, through the backends and by bare clients that write the same rows in
//! the same batches: `cargo run --release --example remote_rates -- [ROWS] [BATCH]`, with the servers' addresses in the
//! environment. Writes under names of its own and takes them away again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Instant;

use nearcast_domain::{
    EventId, ItemId, Tenant, Timestamp, UserId,
    ports::{Edge, EngagementWrite as _, GraphRead as _, GraphWrite as _, Tally},
    time::HOUR_MS,
};
use nearcast_stores::{
    engagement::{PostgresConfig, PostgresEngagement},
    graph::{Neo4jConfig, Neo4jGraph},
    remote::{Address, Secret},
};
use neo4rs::{BoltList, BoltType};
use sqlx::Connection as _;

const USERS: u32 = 2_000;
const ITEMS: u32 = 1_700;

struct Fact {
    user: u32,
    item: u32,
    hour: i64,
    id: usize,
}

/// Popular items and less popular ones, over three months.
fn facts(number: usize) -> Vec<Fact> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut fact = |id| {
        let item = (f64::from(ITEMS) * rng.f64().powi(3)) as u32;
        Fact { user: rng.u32(0..USERS), item, hour: 490_000 + rng.i64(0..2_000), id }
    };
    (0..number).map(&mut fact).collect()
}

fn edge(f: &Fact) -> Edge {
    let last = Timestamp::from_millis(f.hour * HOUR_MS);
    let (user, item) = (UserId::trusted(format!("user-{}", f.user)), ItemId::trusted(format!("item-{}", f.item)));
    Edge { user, item, weight: 0.5, positive: true, first: last, last }
}

fn tally(f: &Fact) -> Tally {
    let Edge { user, item, weight, last, .. } = edge(f);
    Tally { id: EventId::trusted(format!("event-{}", f.id)), user, item, weight, timestamp: last }
}

fn say(what: &str, rows: usize, since: Instant) {
    println!("{what:<44} {:>8.0} rows/s", rows as f64 / since.elapsed().as_secs_f64());
}

#[tokio::main]
async fn main() {
    let number = |n| std::env::args().nth(n).and_then(|a| a.parse().ok());
    let (rows, batch) = (number(1).unwrap_or(30_000), number(2).unwrap_or(1_000));
    let facts = facts(rows);
    neo4j(&facts, batch).await;
    postgres(&facts, batch).await;
}

async fn neo4j(facts: &[Fact], batch: usize) {
    let variable = |key: &str| std::env::var(key).unwrap_or_default();
    let prefix = nearcast_domain::testing::servers::unique("rates");
    let config = Neo4jConfig {
        uri: Address::new(variable("NEARCAST__NEO4J__URI")),
        password: Secret::new(variable("NEARCAST__NEO4J__PASSWORD")),
        prefix: prefix.clone(),
        batch_rows: batch,
        ..Neo4jConfig::default()
    };
    let t = Tenant::default();
    let graph = Neo4jGraph::new(&config).unwrap();
    graph.setup().await.unwrap();
    let bare = neo4rs::Graph::new(config.uri.expose(), &*config.user, config.password.read("x").unwrap()).await.unwrap();
    for label in ["User", "Item"] {
        let text = format!("CREATE CONSTRAINT `{prefix}_b{label}` FOR (n:`{prefix}b{label}`) REQUIRE n.key IS UNIQUE");
        bare.run(neo4rs::query(&text)).await.unwrap();
    }
    let text = format!(
        "UNWIND $rows AS r MERGE (u:`{prefix}bUser` {{key: r[0]}}) MERGE (i:`{prefix}bItem` {{key: r[1]}}) \
         MERGE (u)-[e:ENGAGED]->(i) SET e.weight = r[2], e.positive = r[3], e.first = r[4], e.last = r[5]"
    );
    let row = |e: Edge| -> BoltType {
        let values: Vec<BoltType> = vec![
            e.user.as_str().into(),
            e.item.as_str().into(),
            f64::from(e.weight).into(),
            e.positive.into(),
            e.first.millis().into(),
            e.last.millis().into(),
        ];
        BoltType::List(BoltList::from(values))
    };
    for round in ["the plans are made", "half of them again"] {
        let half = &facts[..facts.len() / 2];
        let facts = if round.starts_with("the") { half } else { facts };
        let since = Instant::now();
        for part in facts.chunks(batch) {
            let rows: Vec<BoltType> = part.iter().map(|f| row(edge(f))).collect();
            let query = neo4rs::query(&text).param("rows", BoltType::List(BoltList::from(rows)));
            bare.run(query).await.unwrap();
        }
        say(&format!("neo4j, bare client, {round}"), facts.len(), since);
        let since = Instant::now();
        for part in facts.chunks(batch) {
            graph.set_edges(&t, &part.iter().map(edge).collect::<Vec<_>>()).await.unwrap();
        }
        say(&format!("neo4j, the backend, {round}"), facts.len(), since);
    }
    let since = Instant::now();
    let edges = graph.scan(&t).await.unwrap();
    say("neo4j, scan", edges.len(), since);
    let since = Instant::now();
    graph.digest().await.unwrap();
    say("neo4j, digest", edges.len(), since);
    let asked: Vec<UserId> = (0..100).map(|n| UserId::trusted(format!("user-{n}"))).collect();
    let since = Instant::now();
    for part in asked.chunks(10) {
        graph.edges_of_users(&t, part, 50).await.unwrap();
    }
    println!("neo4j, newest 50 edges of 10 users: {:.1} ms a call", since.elapsed().as_secs_f64() * 100.0);
    for label in ["User", "Item", "Tenant", "bUser", "bItem"] {
        let text = format!("MATCH (n:`{prefix}{label}`) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS");
        bare.run(neo4rs::query(&text)).await.unwrap();
    }
    for (show, drop) in [("SHOW CONSTRAINTS", "CONSTRAINT"), ("SHOW INDEXES", "INDEX")] {
        let mut names = bare.execute(neo4rs::query(show)).await.unwrap();
        while let Some(row) = names.next().await.unwrap() {
            let name: String = row.get("name").unwrap();
            if name.starts_with(&prefix) {
                bare.run(neo4rs::query(&format!("DROP {drop} `{name}`"))).await.unwrap();
            }
        }
    }
}

async fn postgres(facts: &[Fact], batch: usize) {
    let uri = std::env::var("NEARCAST__POSTGRES__URI").unwrap_or_default();
    let schema = nearcast_domain::testing::servers::unique("rates");
    let config = PostgresConfig { uri: Address::new(&*uri), schema: schema.clone(), ..PostgresConfig::default() };
    let store = PostgresEngagement::new(&config).unwrap();
    store.setup().await.unwrap();
    let mut bare = sqlx::PgConnection::connect(&uri).await.unwrap();
    let tables = format!(
        "CREATE TABLE {schema}.b_counted (user_id text, id text, item text, hour bigint, weight bigint, PRIMARY KEY (user_id, id)); \
         CREATE TABLE {schema}.b_totals (item text, hour bigint, count bigint, weight bigint, PRIMARY KEY (item, hour))"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&mut bare).await.unwrap();
    let text = format!(
        "WITH fresh AS (INSERT INTO {schema}.b_counted SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], \
         $5::bigint[]) ON CONFLICT DO NOTHING RETURNING item, hour, weight) INSERT INTO {schema}.b_totals AS t \
         SELECT item, hour, count(*), sum(weight)::bigint FROM fresh GROUP BY item, hour \
         ON CONFLICT (item, hour) DO UPDATE SET count = t.count + excluded.count, weight = t.weight + excluded.weight"
    );
    let t = Tenant::default();
    for round in ["new", "again"] {
        let since = Instant::now();
        for part in facts.chunks(batch) {
            let part: Vec<Tally> = part.iter().map(tally).collect();
            sqlx::query(sqlx::AssertSqlSafe(&*text))
                .bind(part.iter().map(|t| t.user.as_str()).collect::<Vec<_>>())
                .bind(part.iter().map(|t| t.id.as_str()).collect::<Vec<_>>())
                .bind(part.iter().map(|t| t.item.as_str()).collect::<Vec<_>>())
                .bind(part.iter().map(Tally::hour).collect::<Vec<_>>())
                .bind(part.iter().map(Tally::steps).collect::<Vec<_>>())
                .execute(&mut bare)
                .await
                .unwrap();
        }
        say(&format!("postgres, bare client, {round}"), facts.len(), since);
        let since = Instant::now();
        for part in facts.chunks(batch) {
            store.record(&t, &part.iter().map(tally).collect::<Vec<_>>()).await.unwrap();
        }
        say(&format!("postgres, the backend, {round}"), facts.len(), since);
    }
    store.close().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).execute(&mut bare).await.unwrap();
}
