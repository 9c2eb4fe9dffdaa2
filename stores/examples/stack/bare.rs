//! Bare clients of the four stores that write the rows which the program wrote, in the same batches.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use milvus::v2::{
    FieldData,
    prelude::{ClientV2, ConnectConfig, InsertRequest, UpsertRequest},
};
use mongodb::bson::Document;
use nearcast_domain::{
    Tenant,
    event::hex,
    ports::{Collection, VectorRow, VectorWrite as _},
    testing::servers,
    time::HOUR_MS,
};
use nearcast_stores::{
    engagement::{PostgresConfig, PostgresEngagement},
    graph::{Neo4jConfig, Neo4jGraph},
    ledger::MongoLedger,
    mongo::MongoConfig,
    remote::{Address, Secret},
    vectors::{MilvusConfig, MilvusIndex},
};
use neo4rs::{BoltList, BoltType};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;

use super::program::variable;

/// What a worker takes at once at most.
pub const BATCH: usize = 4_096;
/// Rows in one call, as the backends have it.
pub const CALL: usize = 1_000;
const DIMENSION: usize = 384;
const REVISION: &str = "bare@1";

/// One engagement, as far as it is written.
struct Touch {
    id: String,
    user: String,
    item: String,
    at: i64,
}

/// The rows that a batch of the worker becomes.
#[derive(Default)]
pub struct Rows {
    documents: Vec<(&'static str, Document)>,
    touches: Vec<Touch>,
    items: Vec<String>,
    users: BTreeSet<String>,
}

/// The documents that the program wrote, in the order of the events, in batches; with them what the other stores get of each batch.
pub async fn rows(client: &mongodb::Client, database: &str, events: &[String]) -> Vec<Rows> {
    let mut documents: BTreeMap<(bool, String), Document> = BTreeMap::new();
    for (name, is_item) in [("items", true), ("events", false)] {
        let all: Vec<Document> =
            client.database(database).collection(name).find(Document::new()).await.unwrap().try_collect().await.unwrap();
        for d in all {
            let key =
                if is_item { d.get_str("_id").unwrap().rsplit_once("default").unwrap().1 } else { d.get_str("id").unwrap() };
            documents.insert((is_item, key.to_owned()), d);
        }
    }
    let mut batches = Vec::new();
    for part in events.chunks(BATCH) {
        let mut rows = Rows::default();
        for event in part {
            let e: Value = serde_json::from_str(event).unwrap();
            let text = |field: &str| e[field].as_str().unwrap().to_owned();
            if e["type"] == "item" {
                rows.items.push(text("item_id"));
                rows.documents.extend(documents.get(&(true, text("item_id"))).map(|d| ("items", d.clone())));
            } else if let Some(d) = documents.get(&(false, text("event_id"))) {
                let at = d.get_i64("at").unwrap();
                rows.touches.push(Touch { id: text("event_id"), user: text("user_id"), item: text("item_id"), at });
                rows.users.insert(text("user_id"));
                rows.documents.push(("events", d.clone()));
            }
        }
        batches.push(rows);
    }
    batches
}

pub async fn mongo(database: &mongodb::Database, batches: &[Rows]) -> usize {
    let mut written = 0;
    for rows in batches {
        for name in ["items", "events"] {
            let all: Vec<&Document> = rows.documents.iter().filter(|(n, _)| *n == name).map(|(_, d)| d).collect();
            for part in all.chunks(CALL) {
                database.collection::<Document>(name).insert_many(part.iter().copied()).ordered(false).await.unwrap();
                written += part.len();
            }
        }
    }
    written
}

pub async fn milvus(prefix: &str, batches: &[Rows]) -> usize {
    let client = ClientV2::new(&ConnectConfig::new().uri(variable("MILVUS__ADDRESS"))).await.unwrap();
    let short = hex(&Sha256::digest(REVISION)[..8]);
    let mut rng = fastrand::Rng::with_seed(1);
    let vector: Vec<f32> = (0..DIMENSION).map(|_| rng.f32() / 11.0).collect();
    let mut written = 0;
    for rows in batches {
        let users: Vec<&String> = rows.users.iter().collect();
        for (name, ids) in [("items", rows.items.iter().collect::<Vec<_>>()), ("users", users)] {
            for part in ids.chunks(CALL) {
                let columns = vec![
                    FieldData::varchar("key", part.iter().map(|id| hex(&Sha256::digest(id.as_bytes())[..16])).collect()),
                    FieldData::varchar("tenant", vec!["default".into(); part.len()]),
                    FieldData::varchar("id", part.iter().map(|id| (*id).clone()).collect()),
                    FieldData::array_varchar("labels", vec![vec!["Comedy".into(), "Drama".into()]; part.len()]),
                    FieldData::float_vector("vector", vec![vector.clone(); part.len()]),
                ];
                let rows = InsertRequest::builder()
                    .collection_name(format!("{prefix}{name}_{short}"))
                    .columns(columns)
                    .build()
                    .unwrap();
                client.upsert(UpsertRequest::builder().insert(rows).build().unwrap()).await.unwrap();
                written += part.len();
            }
        }
    }
    written
}

pub async fn neo4j(graph: &neo4rs::Graph, prefix: &str, batches: &[Rows]) -> usize {
    let text = format!(
        "UNWIND $rows AS r MERGE (u:`{prefix}User` {{key: r[0]}}) MERGE (i:`{prefix}Item` {{key: r[1]}}) \
         MERGE (u)-[e:ENGAGED]->(i) SET e.weight = r[2], e.positive = r[3], e.first = r[4], e.last = r[5]"
    );
    let mut written = 0;
    for part in batches.iter().flat_map(|b| b.touches.chunks(CALL)) {
        let row = |t: &Touch| -> BoltType {
            let values: Vec<BoltType> =
                vec![(&*t.user).into(), (&*t.item).into(), 0.5.into(), true.into(), t.at.into(), t.at.into()];
            BoltType::List(BoltList::from(values))
        };
        let rows: Vec<BoltType> = part.iter().map(row).collect();
        graph.run(neo4rs::query(&text).param("rows", BoltType::List(BoltList::from(rows)))).await.unwrap();
        written += part.len();
    }
    written
}

pub async fn postgres(bare: &mut sqlx::PgConnection, schema: &str, batches: &[Rows]) -> usize {
    let text = format!(
        "WITH fresh AS (INSERT INTO {schema}.b_counted SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], \
         $5::bigint[]) ON CONFLICT DO NOTHING RETURNING item, hour, weight) INSERT INTO {schema}.b_totals AS t \
         SELECT item, hour, count(*), sum(weight)::bigint FROM fresh GROUP BY item, hour \
         ON CONFLICT (item, hour) DO UPDATE SET count = t.count + excluded.count, weight = t.weight + excluded.weight"
    );
    let mut written = 0;
    for part in batches.iter().flat_map(|b| b.touches.chunks(CALL)) {
        sqlx::query(sqlx::AssertSqlSafe(&*text))
            .bind(part.iter().map(|t| &*t.user).collect::<Vec<_>>())
            .bind(part.iter().map(|t| &*t.id).collect::<Vec<_>>())
            .bind(part.iter().map(|t| &*t.item).collect::<Vec<_>>())
            .bind(part.iter().map(|t| t.at / HOUR_MS).collect::<Vec<_>>())
            .bind(vec![1_i64; part.len()])
            .execute(&mut *bare)
            .await
            .unwrap();
        written += part.len();
    }
    written
}

/// What the bare clients write to, with the same indexes as the program's own.
pub struct Bare {
    pub name: String,
    mongo: mongodb::Client,
    pub graph: neo4rs::Graph,
    pub postgres: sqlx::PgConnection,
    milvus: MilvusIndex,
    /// The stores of the program, to be taken away at the end.
    others: Vec<String>,
}

impl Bare {
    pub async fn new(mongo: mongodb::Client, others: Vec<String>) -> Self {
        let name = servers::unique("bare");
        let uri = Address::new(variable("MONGODB__URI"));
        let ledger = MongoLedger::new(&MongoConfig { uri, database: name.clone(), ..MongoConfig::default() }).unwrap();
        ledger.setup().await.unwrap();
        let password = variable("NEO4J__PASSWORD");
        let graph = neo4rs::Graph::new(variable("NEO4J__URI"), "neo4j", &*password).await.unwrap();
        let config = Neo4jConfig {
            uri: Address::new(variable("NEO4J__URI")),
            password: Secret::new(password),
            prefix: format!("{name}_"),
            ..Neo4jConfig::default()
        };
        Neo4jGraph::new(&config).unwrap().setup().await.unwrap();
        let mut postgres = sqlx::PgConnection::connect(&variable("POSTGRES__URI")).await.unwrap();
        let config =
            PostgresConfig { uri: Address::new(variable("POSTGRES__URI")), schema: name.clone(), ..PostgresConfig::default() };
        PostgresEngagement::new(&config).unwrap().setup().await.unwrap();
        let tables = format!(
            "CREATE TABLE {name}.b_counted (user_id text, id text, item text, hour bigint, weight bigint, PRIMARY KEY (user_id, id)); \
             CREATE TABLE {name}.b_totals (item text, hour bigint, count bigint, weight bigint, PRIMARY KEY (item, hour))"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&mut postgres).await.unwrap();
        let config = MilvusConfig {
            address: Address::new(variable("MILVUS__ADDRESS")),
            prefix: format!("{name}_"),
            ..MilvusConfig::default()
        };
        let milvus = MilvusIndex::new(&config).unwrap();
        let unit: Vec<f32> = (0..DIMENSION).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect();
        let row = VectorRow { id: "0".into(), vector: unit.into(), labels: vec![] };
        for kind in [Collection::Items, Collection::Users] {
            milvus.upsert(&Tenant::default(), kind, REVISION, std::slice::from_ref(&row)).await.unwrap();
        }
        Self { name, mongo, graph, postgres, milvus, others }
    }

    /// Where documents go.
    pub fn database(&self) -> mongodb::Database {
        self.mongo.database(&self.name)
    }

    /// What names of collections and labels begin with.
    pub fn prefix(&self) -> String {
        format!("{}_", self.name)
    }

    pub async fn done(mut self) {
        self.milvus.switch("none").await.unwrap();
        self.milvus.drop_revision(REVISION).await.unwrap();
        for name in self.others.iter().chain([&self.name]) {
            self.mongo.database(name).drop().await.unwrap();
            let text = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
            sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut self.postgres).await.unwrap();
            for label in ["User", "Item", "Tenant"] {
                let text = format!("MATCH (n:`{name}_{label}`) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS");
                self.graph.run(neo4rs::query(&text)).await.unwrap();
            }
            for (show, drop) in [("SHOW CONSTRAINTS", "CONSTRAINT"), ("SHOW INDEXES", "INDEX")] {
                let mut names = self.graph.execute(neo4rs::query(show)).await.unwrap();
                while let Some(row) = names.next().await.unwrap() {
                    let found: String = row.get("name").unwrap();
                    if found.starts_with(&**name) {
                        self.graph.run(neo4rs::query(&format!("DROP {drop} `{found}`"))).await.unwrap();
                    }
                }
            }
        }
    }
}
