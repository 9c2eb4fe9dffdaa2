//! The engagement totals on a real PostgreSQL. Needs `NEARCAST__POSTGRES__URI`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use nearcast_domain::testing::{self, servers};
use nearcast_stores::{
    engagement::{PostgresConfig, PostgresEngagement},
    remote::Address,
};

/// A schema of its own in the server, taken away at the end.
struct Own {
    config: PostgresConfig,
    store: PostgresEngagement,
}

impl Own {
    async fn new() -> Option<Self> {
        let uri = Address::new(servers::address("NEARCAST__POSTGRES__URI")?);
        let config = PostgresConfig { uri, schema: servers::unique("t"), ..PostgresConfig::default() };
        let store = PostgresEngagement::new(&config).unwrap();
        store.setup().await.unwrap();
        Some(Self { config, store })
    }

    async fn remove(self) {
        self.store.close().await;
        run(&self.config, &format!("DROP SCHEMA \"{}\" CASCADE", self.config.schema)).await;
    }
}

async fn run(config: &PostgresConfig, sql: &str) {
    use sqlx::Connection as _;
    let mut c = sqlx::PgConnection::connect(config.uri.expose()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut c).await.unwrap();
    c.close().await.unwrap();
}

#[tokio::test]
async fn engagement_on_postgres() {
    let Some(a) = Own::new().await else { return };
    let (b, c, d) = (Own::new().await.unwrap(), Own::new().await.unwrap(), Own::new().await.unwrap());
    testing::engagement::engagement(&a.store).await;
    testing::engagement::engagement_digests(&b.store, &c.store).await;
    testing::engagement::engagement_reopened(async || PostgresEngagement::new(&d.config).unwrap()).await;
    for own in [a, b, c, d] {
        own.remove().await;
    }
}
