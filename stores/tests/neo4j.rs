//! The graph on a real Neo4j. Needs `NEARCAST__NEO4J__URI` (and `…__USER`, `…__PASSWORD`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use nearcast_domain::testing::{self, servers};
use nearcast_stores::{
    graph::{Neo4jConfig, Neo4jGraph},
    remote::{Address, Secret},
};

/// Where the server is; `None` where there is none.
fn config(prefix: &str) -> Option<Neo4jConfig> {
    let uri = servers::address("NEARCAST__NEO4J__URI")?;
    let variable = |key: &str, other: &str| std::env::var(key).unwrap_or_else(|_| other.to_owned());
    Some(Neo4jConfig {
        uri: Address::new(uri),
        user: variable("NEARCAST__NEO4J__USER", "neo4j"),
        password: Secret::new(variable("NEARCAST__NEO4J__PASSWORD", "")),
        prefix: prefix.to_owned(),
        ..Neo4jConfig::default()
    })
}

/// A graph of its own in the server, taken away at the end.
struct Own {
    config: Neo4jConfig,
    graph: Neo4jGraph,
}

impl Own {
    async fn new() -> Option<Self> {
        let config = config(&servers::unique("t"))?;
        let graph = Neo4jGraph::new(&config).unwrap();
        graph.setup().await.unwrap();
        Some(Self { config, graph })
    }

    /// Removes everything that bears the prefix.
    async fn remove(self) {
        self.graph.close().await;
        let c = &self.config;
        let driver = neo4rs::Graph::new(c.uri.expose(), &*c.user, c.password.read("test").unwrap()).await.unwrap();
        for label in ["Touched", "User", "Item", "Tenant"] {
            let label = format!("{}{label}", c.prefix);
            driver
                .run(neo4rs::query(&format!(
                    "MATCH (n:`{label}`) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS"
                )))
                .await
                .unwrap();
        }
        for (show, drop) in [("SHOW CONSTRAINTS", "CONSTRAINT"), ("SHOW INDEXES", "INDEX")] {
            let mut names = driver.execute(neo4rs::query(show)).await.unwrap();
            while let Some(row) = names.next().await.unwrap() {
                let name: String = row.get("name").unwrap();
                if name.starts_with(&c.prefix) {
                    driver.run(neo4rs::query(&format!("DROP {drop} `{name}`"))).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn graph_on_neo4j() {
    let Some(a) = Own::new().await else { return };
    let (b, c, d) = (Own::new().await.unwrap(), Own::new().await.unwrap(), Own::new().await.unwrap());
    testing::graph::graph(&a.graph).await;
    testing::graph::graph_digests(&b.graph, &c.graph).await;
    testing::graph::graph_reopened(async || Neo4jGraph::new(&d.config).unwrap()).await;
    for own in [a, b, c, d] {
        own.remove().await;
    }
}
