//! Drills on the real servers: tables emptied in PostgreSQL, edges deleted in Neo4j, a collection dropped in Milvus.

use milvus::v2::{
    ClientV2, ConnectConfig, TelemetryConfig,
    prelude::{DropAliasRequest, DropCollectionRequest, ListAliasesRequest},
};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use super::{
    parts, sum,
    support::{stack::Stack, town},
};

/// How many events are told, unless NEARCAST_JOB_EVENTS says otherwise: FerretDB and milvus-lite are slow.
const EVENTS: usize = 250;

async fn postgres(stack: &Stack, sql: &str) -> u64 {
    let mut connection = PgConnection::connect(&stack.value("POSTGRES__URI")).await.unwrap();
    let statement = sqlx::AssertSqlSafe(sql.replace("{S}", &stack.value("POSTGRES__SCHEMA")));
    let changed = sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected();
    connection.close().await.unwrap();
    changed
}

async fn neo4j(stack: &Stack, cypher: &str) {
    let of = |key: &str| stack.value(key);
    let graph = neo4rs::Graph::new(of("NEO4J__URI"), of("NEO4J__USER"), of("NEO4J__PASSWORD")).await.unwrap();
    let prefix = of("NEO4J__PREFIX");
    graph.run(neo4rs::query(&cypher.replace("{P}", &prefix))).await.unwrap();
}

/// Drops the collections of this test whose name goes on like this; answers how many.
async fn drop_collections(stack: &Stack, kind: &str) -> usize {
    let address = stack.value("MILVUS__ADDRESS");
    let uri = if address.contains("://") { address } else { format!("http://{address}") };
    let config = ConnectConfig::new().uri(uri).telemetry(TelemetryConfig::new().enabled(false));
    let client = ClientV2::new(&config).await.unwrap();
    // By its aliases: the list of milvus-lite's collections lacks what this client asks of one.
    let aliases = client.list_aliases(ListAliasesRequest::builder().build().unwrap()).await.unwrap();
    let prefix = stack.value("MILVUS__PREFIX");
    let mut dropped = 0;
    for hash in aliases.aliases().iter().filter_map(|a| a.strip_prefix(&prefix)?.strip_prefix("listed_")) {
        // A server drops no collection that an alias names.
        let alias = format!("{prefix}{}", kind.trim_end_matches('_'));
        drop(client.drop_alias(DropAliasRequest::builder().alias(alias).build().unwrap()).await);
        let name = format!("{prefix}{kind}{hash}");
        client.drop_collection(DropCollectionRequest::builder().collection_name(name).build().unwrap()).await.unwrap();
        dropped += 1;
    }
    dropped
}

#[test]
fn tables_edges_and_a_collection_lost() {
    let Some(stack) = Stack::new("drills") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let number = std::env::var("NEARCAST_JOB_EVENTS").map_or(EVENTS, |n| n.parse().unwrap());
    let events: Vec<String> = town(64, 25, number).iter().map(Value::to_string).collect();
    stack.run_ok(&["setup"]);
    stack.produce(&events);
    stack.run_ok(&["ingest", "--drain"]);
    let whole = stack.digests();
    let came_back = |what: &str| {
        assert_eq!(stack.digests(), whole, "{what}");
        eprintln!("came back: {what}");
    };

    // A few rows of each.
    runtime.block_on(async {
        let sql = "UPDATE {S}.counted SET weight = weight + 1 WHERE id IN (SELECT id FROM {S}.counted ORDER BY id LIMIT 2)";
        assert!(postgres(&stack, sql).await > 0);
        neo4j(&stack, "MATCH (:`{P}User`)-[e:ENGAGED]->() WITH e ORDER BY e.last LIMIT 2 SET e.weight = e.weight + 1").await;
    });
    let told = stack.nearcast(&["reconcile"]).output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
    let said = parts(&stack.run_ok(&["reconcile", "--repair", "--json"]));
    assert!(sum(&said, "wrong") >= 2, "{said:?}");
    came_back("rows altered, reconcile --repair");

    // Whole projections.
    runtime.block_on(async {
        postgres(&stack, "TRUNCATE {S}.counted, {S}.totals, {S}.labels").await;
        neo4j(&stack, "MATCH (n:`{P}User`) DETACH DELETE n").await;
    });
    stack.run_ok(&["rebuild", "graph", "engagement"]);
    came_back("tables emptied and people deleted, rebuild");

    // Both collections, one after the other.
    for kind in ["items_", "users_"] {
        assert_eq!(runtime.block_on(drop_collections(&stack, kind)), 1, "{kind}");
        stack.run_ok(&["rebuild", "items", "users"]);
        came_back(&format!("the collection {kind} dropped, rebuild"));
    }
    runtime.block_on(drop_collections(&stack, "users_"));
    stack.run_ok(&["reconcile", "--repair"]);
    came_back("the collection users_ dropped, reconcile --repair");
}
