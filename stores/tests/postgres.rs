//! The engagement totals on a real PostgreSQL. Needs `NEARCAST__POSTGRES__URI`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod proxy;

use std::time::Duration;

use nearcast_domain::{
    ErrorKind, EventId, ItemId, StoreResult, Tenant, Timestamp, UserId,
    ports::{EngagementRead as _, EngagementWrite, ItemLabels, Tally, TrendingQuery},
    testing::{self, events::tenant, servers},
    time::{DAY_MS, HOUR_MS},
};
use nearcast_stores::{
    engagement::{PipelineRun, PostgresConfig, PostgresEngagement, SqliteEngagement},
    remote::{Address, Secret},
};
use proxy::{Line, Proxy};
use sqlx::{Connection as _, Row as _};

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

    fn another(&self) -> PostgresEngagement {
        PostgresEngagement::new(&self.config).unwrap()
    }

    async fn remove(self) {
        self.store.close().await;
        let mut c = connect(&self.config).await;
        let sql = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = $1 ORDER BY tablename DESC";
        let tables = sqlx::query(sql).bind(&self.config.schema).fetch_all(&mut c).await.unwrap();
        // One by one: a schema of many partitions takes more locks than a small server has.
        for table in tables {
            run(&mut c, &format!("DROP TABLE IF EXISTS {} CASCADE", table.get::<String, _>(0))).await;
        }
        run(&mut c, &format!("DROP SCHEMA \"{}\" CASCADE", self.config.schema)).await;
    }
}

async fn connect(config: &PostgresConfig) -> sqlx::PgConnection {
    sqlx::PgConnection::connect(config.uri.expose()).await.unwrap()
}

async fn run(c: &mut sqlx::PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(c).await.unwrap();
}

/// How many rows a table of the schema has by itself.
async fn rows(own: &Own, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM ONLY \"{}\".\"{table}\"", own.config.schema);
    sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connect(&own.config).await).await.unwrap().get(0)
}

#[tokio::test]
async fn engagement_on_postgres() {
    let Some(a) = Own::new().await else { return };
    let (b, c, d) = (Own::new().await.unwrap(), Own::new().await.unwrap(), Own::new().await.unwrap());
    testing::engagement::engagement(&a.store).await;
    testing::engagement::engagement_digests(&b.store, &c.store).await;
    testing::engagement::engagement_reopened(async || d.another()).await;
    for own in [a, b, c, d] {
        own.remove().await;
    }
}

#[tokio::test]
async fn aggregates_on_postgres() {
    let Some(own) = Own::new().await else { return };
    nearcast_domain::testing::aggregates::aggregates(&own.store).await;
    own.remove().await;
}

#[tokio::test]
async fn artefacts_on_postgres() {
    let Some(own) = Own::new().await else { return };
    testing::artefacts::artefacts(&own.store).await;
    testing::artefacts::artefacts_reopened(async || own.another()).await;
    own.remove().await;
}

/// Ids that end a quotation, sort differently by locale, or are as long as an id may be.
fn id(n: u32) -> String {
    match n % 7 {
        0 => format!("\u{fffd}{n}"),
        1 => format!("🦊{n}"),
        2 => format!("{n:x>256}"),
        3 => format!("'; DROP TABLE counted; -- {n}"),
        4 => format!("\"\\{{a,NULL}} é{n}"),
        5 => format!("A{n}"),
        _ => format!("a_{n}"),
    }
}

fn item(n: u32) -> ItemId {
    ItemId::parse(&id(n)).unwrap()
}

fn user(n: u32) -> UserId {
    UserId::parse(&id(n)).unwrap()
}

/// An event of a few years, and some from before the epoch; the same id may come with other content.
fn tally(rng: &mut fastrand::Rng, users: std::ops::Range<u32>) -> Tally {
    let hours = i64::from(rng.u32(0..40)) * 700 - i64::from(rng.bool()) * 3;
    let timestamp = Timestamp::from_millis(if rng.u8(..) < 3 { -HOUR_MS } else { 26 * 365 * DAY_MS + hours * HOUR_MS });
    let (id, user) = (EventId::parse(&id(rng.u32(0..300))).unwrap(), user(rng.u32(users)));
    Tally { id, user, item: item(rng.u32(0..40)), weight: [rng.f32(), 0.0, 0.1, 1.0][rng.usize(0..4)], timestamp }
}

fn labels(rng: &mut fastrand::Rng, number: usize) -> Vec<ItemLabels> {
    (0..number)
        .map(|_| {
            let mut categories: Vec<String> = (0..rng.u32(0..4)).map(|_| id(rng.u32(0..8))).collect();
            categories.sort();
            categories.dedup();
            ItemLabels { item: item(rng.u32(0..45)), categories }
        })
        .collect()
}

enum Step {
    Record(Vec<Tally>),
    Labels(Vec<ItemLabels>),
    Erase(UserId),
}

impl Step {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(0..8) {
            0 => Self::Erase(user(rng.u32(0..30))),
            1 => {
                let number = rng.usize(0..30);
                Self::Labels(labels(rng, number))
            }
            _ => {
                let number = rng.usize(1..500);
                Self::Record((0..number).map(|_| tally(rng, 0..30)).collect())
            }
        }
    }

    async fn run(&self, store: &dyn EngagementWrite, t: &Tenant) -> StoreResult<()> {
        match self {
            Self::Record(tallies) => store.record(t, tallies).await,
            Self::Labels(labels) => store.set_labels(t, labels).await,
            Self::Erase(user) => store.erase(t, user).await.map(|_| ()),
        }
    }
}

async fn sqlite() -> (tempfile::TempDir, SqliteEngagement) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteEngagement::open(&dir.path().join("engagement.db")).await.unwrap();
    (dir, store)
}

/// Everything that can be read is the same on both, to the bit.
async fn same(a: &dyn EngagementWrite, b: &dyn EngagementWrite, t: &Tenant) {
    assert_eq!(a.digest().await.unwrap(), b.digest().await.unwrap());
    for limit in [7, usize::MAX] {
        assert_eq!(a.hours(t, limit).await.unwrap(), b.hours(t, limit).await.unwrap());
    }
    for category in [None, Some(id(1)), Some(id(4)), Some("nothing".to_owned())] {
        for half_life_hours in [None, Some(3.5), Some(240.0), Some(20_000.0), Some(1e-9)] {
            for limit in [1, 5, 1000] {
                let query = TrendingQuery { category: category.clone(), half_life_hours, limit };
                let (x, y) = (a.trending(t, query.clone()).await.unwrap(), b.trending(t, query.clone()).await.unwrap());
                let bits = |list: &[(ItemId, f64)]| list.iter().map(|(i, s)| (i.clone(), s.to_bits())).collect::<Vec<_>>();
                assert_eq!(bits(&x), bits(&y), "{query:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_same_as_in_sqlite() {
    let Some(own) = Own::new().await else { return };
    let (_dir, embedded) = sqlite().await;
    let mut rng = fastrand::Rng::with_seed(5);
    let tenants = [tenant("t"), tenant("t'\"")];
    for n in 0..60 {
        let (t, step) = (&tenants[n % 2], Step::random(&mut rng));
        step.run(&embedded, t).await.unwrap();
        for _ in 0..=rng.u32(0..2) {
            step.run(&own.store, t).await.unwrap();
        }
    }
    for t in &tenants {
        same(&own.store, &embedded, t).await;
    }
    own.remove().await;
}

#[tokio::test]
async fn given_up_anywhere_and_told_again() {
    let Some(mut own) = Own::new().await else { return };
    own.config.batch_rows = 40;
    own.store = own.another();
    let (_dir, embedded) = sqlite().await;
    let t = tenant("t");
    let mut rng = fastrand::Rng::with_seed(6);
    let mut cut = 0;
    for n in 0..60 {
        let step = Step::random(&mut rng);
        step.run(&embedded, &t).await.unwrap();
        for _ in 0..3 {
            let wait = Duration::from_micros(rng.u64(0..20_000));
            cut += u32::from(tokio::time::timeout(wait, step.run(&own.store, &t)).await.is_err());
            if rng.bool() {
                // As after a crash: a process that knows nothing of before.
                own.store = own.another();
            }
        }
        step.run(&own.store, &t).await.unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    assert!(cut > 10, "only {cut} calls were given up halfway");
    same(&own.store, &embedded, &t).await;
    own.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_share_every_total() {
    let Some(own) = Own::new().await else { return };
    let (_dir, embedded) = sqlite().await;
    let t = tenant("t");
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4_u32 {
        // Each has users of its own, and after a rebalance another tells the same once more.
        let mut rng = fastrand::Rng::with_seed(u64::from(worker / 2));
        let from = worker / 2 * 7;
        let mut batches: Vec<Vec<Tally>> = Vec::new();
        let mut all: std::collections::BTreeMap<(UserId, EventId), Tally> = std::collections::BTreeMap::new();
        for _ in 0..15 {
            let told = (0..200).map(|_| tally(&mut rng, from..from + 7));
            // The ledger gives the same content for the same id.
            batches.push(told.map(|t| all.entry((t.user.clone(), t.id.clone())).or_insert(t).clone()).collect());
        }
        for batch in &batches {
            embedded.record(&t, batch).await.unwrap();
        }
        let (store, t) = (own.another(), t.clone());
        let mut order = fastrand::Rng::with_seed(u64::from(worker));
        workers.spawn(async move {
            for mut batch in batches {
                order.shuffle(&mut batch);
                store.record(&t, &batch).await.unwrap();
            }
            store.close().await;
        });
    }
    let mut rng = fastrand::Rng::with_seed(9);
    for n in 0..20 {
        let wanted = labels(&mut rng, 20);
        let (a, b) = tokio::join!(own.store.set_labels(&t, &wanted), own.store.set_labels(&t, &wanted));
        a.and(b).unwrap();
        embedded.set_labels(&t, &wanted).await.unwrap();
        let who = user(30 + n);
        let gone = [Tally { user: who.clone(), ..tally(&mut rng, 0..1) }];
        own.store.record(&t, &gone).await.unwrap();
        assert_eq!(own.store.erase(&t, &who).await.unwrap(), 1);
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    same(&own.store, &embedded, &t).await;
    own.remove().await;
}

fn at(who: u32, n: u32, days: i64) -> Tally {
    let timestamp = Timestamp::from_millis(days * DAY_MS);
    Tally { id: EventId::parse(&n.to_string()).unwrap(), user: user(who), item: item(n % 5), weight: 1.0, timestamp }
}

#[tokio::test]
async fn partitions_are_made_as_they_come_up() {
    let Some(own) = Own::new().await else { return };
    let (_dir, embedded) = sqlite().await;
    let t = tenant("t");
    // 1970, 1997, 1969 and 2300: the last two have no partition of their own.
    let batch = [at(1, 1, 3), at(1, 2, 10_000), at(1, 3, -1), at(2, 4, 120_530)];
    own.store.record(&t, &batch).await.unwrap();
    assert_eq!(rows(&own, "totals_1970").await, 1);
    assert_eq!(rows(&own, "totals_1997").await, 1);
    assert_eq!(rows(&own, "totals_other").await, 2);
    // What is not long past has a month.
    let today = Timestamp::now().millis() / DAY_MS;
    let news = [at(1, 90, today)];
    own.store.record(&t, &news).await.unwrap();
    embedded.record(&t, &news).await.unwrap();
    let month = format!("totals_{}", Timestamp::now().to_string()[..7].replace('-', "_"));
    assert_eq!(rows(&own, &month).await, 1, "{month}");
    // Someone reads for long: no partition can be made, and the rows wait in the default one.
    let mut reader = connect(&own.config).await;
    run(&mut reader, &format!("BEGIN; LOCK TABLE \"{}\".totals_other IN ACCESS SHARE MODE", own.config.schema)).await;
    let more = [at(1, 5, 11_000), at(3, 6, 11_001), at(3, 7, 10_001)];
    own.store.record(&t, &more).await.unwrap();
    assert_eq!(rows(&own, "totals_other").await, 4);
    run(&mut reader, "COMMIT").await;
    // Another process makes it, and moves them there.
    own.another().record(&t, &more[..1]).await.unwrap();
    assert_eq!(rows(&own, "totals_other").await, 2);
    assert_eq!(rows(&own, "totals_2000").await, 2);
    embedded.record(&t, &batch).await.unwrap();
    embedded.record(&t, &more).await.unwrap();
    same(&own.store, &embedded, &t).await;
    // Several processes find the same month missing at once.
    let stores: Vec<PostgresEngagement> = (0..4).map(|_| own.another()).collect();
    let fresh: Vec<Tally> = (0..4).map(|n| at(9, 50 + n, 13_000 + i64::from(n) * 31)).collect();
    for done in futures_util::future::join_all(stores.iter().map(|s| s.record(&t, &fresh))).await {
        done.unwrap();
    }
    embedded.record(&t, &fresh).await.unwrap();
    same(&own.store, &embedded, &t).await;
    assert_eq!(rows(&own, "totals_other").await, 2);
    own.remove().await;
}

#[tokio::test]
async fn setup_by_several_at_once() {
    let Some(uri) = servers::address("NEARCAST__POSTGRES__URI") else { return };
    let config = PostgresConfig { uri: Address::new(uri), schema: servers::unique("t"), ..PostgresConfig::default() };
    let stores: Vec<PostgresEngagement> = (0..4).map(|_| PostgresEngagement::new(&config).unwrap()).collect();
    let e = stores[0].record(&tenant("t"), &[at(1, 1, 1)]).await.unwrap_err();
    assert!(e.kind == ErrorKind::Invalid && e.message.contains("nearcast setup"), "{e}");
    let done = futures_util::future::join_all(stores.iter().map(PostgresEngagement::setup)).await;
    let lines: Vec<Vec<String>> = done.into_iter().map(Result::unwrap).collect();
    assert_eq!(lines.iter().filter(|l| l[1].ends_with("made")).count(), 1, "{lines:?}");
    assert!(stores[0].setup().await.unwrap()[1].ends_with("tables 1"));
    let own = Own { config, store: stores.into_iter().next().unwrap() };
    own.store.record(&tenant("t"), &[at(1, 1, 1)]).await.unwrap();
    run(&mut connect(&own.config).await, &format!("INSERT INTO \"{}\".versions VALUES (99)", own.config.schema)).await;
    assert_eq!(own.store.setup().await.unwrap_err().kind, ErrorKind::TooNew);
    own.remove().await;
}

#[tokio::test]
async fn runs_of_jobs_are_kept_as_they_stand() {
    let Some(own) = Own::new().await else { return };
    let run = |id: &str, job: &str, started: i64| PipelineRun {
        id: id.into(),
        job: job.into(),
        tenant: None,
        started: Timestamp::from_millis(started),
        finished: None,
        outcome: "running".into(),
        report: serde_json::json!({"rows": 0, "text": "é'\""}),
    };
    let (a, b, c) = (run("a", "reembed", 1), run("b", "rebuild", 2), run("c", "reembed", 3));
    for run in [&a, &b, &c] {
        own.store.record_run(run).await.unwrap();
    }
    let done = PipelineRun { finished: Some(Timestamp::from_millis(9)), outcome: "done".into(), tenant: Some("t".into()), ..a };
    own.store.record_run(&done).await.unwrap();
    assert_eq!(own.store.runs(None, 2).await.unwrap(), [c.clone(), b]);
    assert_eq!(own.store.runs(Some("reembed"), 9).await.unwrap(), [c, done]);
    own.remove().await;
}

/// No call takes longer than this, whatever happens to the server.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), call).await.expect("a call hangs")
}

#[tokio::test]
async fn a_line_that_breaks_or_goes_silent() {
    let Some(own) = Own::new().await else { return };
    let (login, rest) = own.config.uri.expose().rsplit_once('@').unwrap();
    let (place, database) = rest.split_once('/').unwrap();
    let proxy = Proxy::to(place).await;
    let uri = Address::new(format!("{login}@{}/{database}", proxy.address));
    let config = PostgresConfig { uri, connect_timeout_ms: 1_000, call_timeout_ms: 1_500, ..own.config.clone() };
    let store = PostgresEngagement::new(&config).unwrap();
    let t = tenant("t");
    for (n, (line, kind)) in [(Line::Gone, ErrorKind::Unavailable), (Line::Silent, ErrorKind::Timeout)].into_iter().enumerate()
    {
        let batch = [at(1, n as u32, 100)];
        for found in futures_util::future::join_all((0..4).map(|_| store.trend_fit(&t))).await {
            found.unwrap();
        }
        proxy.set(line);
        for _ in 0..2 {
            assert_eq!(soon(store.trend_fit(&t)).await.unwrap_err().kind, kind, "{line:?}");
            assert_eq!(soon(store.record(&t, &batch)).await.unwrap_err().kind, kind, "{line:?}");
            assert_eq!(soon(store.digest()).await.unwrap_err().kind, kind, "{line:?}");
        }
        proxy.set(Line::Open);
        soon(store.record(&t, &batch)).await.unwrap();
        assert_eq!(soon(store.digest()).await.unwrap(), own.store.digest().await.unwrap());
    }
    store.close().await;
    assert_eq!(store.trend_fit(&t).await.unwrap_err().kind, ErrorKind::Unavailable, "closed");
    own.remove().await;
}

/// A server of the test's own, started as someone who is not root.
struct Cluster {
    dir: tempfile::TempDir,
    port: u16,
    pooler: Option<std::process::Child>,
}

impl Cluster {
    /// `None`, with a line, where a program is missing; in CI that is a failure.
    fn start(settings: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if pg("initdb", "--version").is_none() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "initdb is missing: install postgresql");
            eprintln!("skipped: initdb is not there; install postgresql");
            return None;
        }
        if is_root() {
            assert!(std::process::Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap().success());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { dir, port, pooler: None };
        let data = cluster.path("data");
        pg("initdb", &format!("-D {data} -U nearcast -A trust -E UTF8 --no-locale --no-sync")).unwrap();
        let socket = cluster.path("");
        let lines = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{socket}'\nfsync = off\n{settings}"
        );
        shell(&format!("cat >> {data}/postgresql.conf <<'E'\n{lines}\nE")).unwrap();
        cluster.up();
        Some(cluster)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn up(&self) {
        pg("pg_ctl", &format!("-D {} -l {} -w -t 60 start", self.path("data"), self.path("log"))).unwrap();
    }

    fn stop(&self, how: &str) {
        pg("pg_ctl", &format!("-D {} -m {how} -w -t 60 stop", self.path("data")));
    }

    fn config(&self, port: u16) -> PostgresConfig {
        let uri = Address::new(format!("postgres://nearcast@127.0.0.1:{port}/postgres"));
        PostgresConfig { uri, connect_timeout_ms: 2_000, call_timeout_ms: 20_000, ..PostgresConfig::default() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(pooler) = &mut self.pooler {
            // By its own id: what was started may be a step in between that changes the user.
            let _ = command(&format!("kill -9 \"$(cat {})\"", self.dir.path().join("pgbouncer.pid").display())).status();
            let _ = pooler.kill();
            let _ = pooler.wait();
        }
        self.stop("immediate");
    }
}

fn is_root() -> bool {
    std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// A line for the shell, as the user of the server.
fn command(line: &str) -> std::process::Command {
    let mut c = std::process::Command::new(if is_root() { "runuser" } else { "sh" });
    if is_root() {
        c.args(["-u", "postgres", "--", "sh"]);
    }
    c.arg("-c").arg(line).current_dir("/").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    c
}

fn shell(line: &str) -> Option<()> {
    command(line).status().unwrap().success().then_some(())
}

/// A program of the server, from the path or from where Debian keeps it.
fn pg(program: &str, arguments: &str) -> Option<()> {
    shell(&format!("PATH=\"$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)\"; {program} {arguments}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_fills_up_and_turns_read_only() {
    let Some(cluster) = Cluster::start("max_connections = 8\nsuperuser_reserved_connections = 3") else { return };
    let config = cluster.config(cluster.port);
    let store = PostgresEngagement::new(&config).unwrap();
    store.setup().await.unwrap();
    let t = tenant("t");
    store.record(&t, &[at(1, 1, 1)]).await.unwrap();

    for how in ["fast", "immediate"] {
        cluster.stop(how);
        let e = soon(store.record(&t, &[at(1, 2, 1)])).await.unwrap_err();
        assert_eq!(e.kind, ErrorKind::Unavailable, "{e}");
        cluster.up();
        soon(store.record(&t, &[at(1, 2, 1)])).await.unwrap();
    }

    // Someone else holds every connection that this user may have.
    run(
        &mut connect(&config).await,
        "CREATE ROLE plain LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA nearcast TO plain; GRANT USAGE ON SCHEMA nearcast TO plain",
    )
    .await;
    let plain = PostgresConfig { user: "plain".into(), password: Secret::new("x"), ..config.clone() };
    store.close().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let uri = format!("postgres://plain@127.0.0.1:{}/postgres", cluster.port);
        held.extend(sqlx::PgConnection::connect(&uri).await.ok());
    }
    let crowded = PostgresEngagement::new(&plain).unwrap();
    let e = soon(crowded.trend_fit(&t)).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Busy, "{e}");
    assert!(e.message.contains("postgres.connections"), "{e}");
    drop(held);
    soon(async {
        while crowded.trend_fit(&t).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // One who may make no tables: the default partition takes the rows of a new month.
    crowded.record(&t, &[at(2, 3, 5_000)]).await.unwrap();
    crowded.close().await;

    // A standby: everything can be read and nothing written.
    cluster.stop("fast");
    shell(&format!("touch {}/standby.signal", cluster.path("data"))).unwrap();
    cluster.up();
    let standby = PostgresEngagement::new(&config).unwrap();
    assert_eq!(standby.hours(&t, 9).await.unwrap().len(), 3);
    let e = standby.record(&t, &[at(1, 9, 1)]).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::ReadOnly, "{e}");
    assert!(e.message.contains("primary"), "{e}");
    assert_eq!(standby.setup().await.unwrap_err().kind, ErrorKind::ReadOnly);
    standby.close().await;
}

/// Behind a pooler that gives a connection to someone else after each transaction: two connections for six stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_pgbouncer_in_transaction_mode() {
    if command("command -v pgbouncer").status().unwrap().code() != Some(0) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "pgbouncer is missing: install it");
        return eprintln!("skipped: pgbouncer is not there; install it");
    }
    let Some(mut cluster) = Cluster::start("") else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ini = format!(
        "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres user=nearcast\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nlogfile = {}\npidfile = {}\n",
        cluster.port,
        cluster.path("pgbouncer.log"),
        cluster.path("pgbouncer.pid")
    );
    let file = cluster.path("pgbouncer.ini");
    shell(&format!("cat > {file} <<'E'\n{ini}\nE")).unwrap();
    cluster.pooler = Some(command(&format!("exec pgbouncer {file}")).spawn().unwrap());
    let config = cluster.config(port);
    let own = Own { store: PostgresEngagement::new(&config).unwrap(), config };
    soon(async {
        while own.store.setup().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let (_dir, embedded) = sqlite().await;
    let t = tenant("t");
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..6_u32 {
        let mut rng = fastrand::Rng::with_seed(u64::from(worker));
        let steps: Vec<Step> = (0..12)
            .map(|n| match n {
                5 => Step::Erase(user(worker * 5)),
                _ => Step::Record((0..80).map(|_| tally(&mut rng, worker * 5..worker * 5 + 5)).collect()),
            })
            .collect();
        for step in &steps {
            step.run(&embedded, &t).await.unwrap();
        }
        let (store, t) = (own.another(), t.clone());
        workers.spawn(async move {
            for step in steps {
                step.run(&store, &t).await.unwrap();
                let query = TrendingQuery { category: None, half_life_hours: Some(9.0), limit: 3 };
                store.trending(&t, query).await.unwrap();
                store.digest().await.unwrap();
            }
            store.close().await;
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    same(&own.store, &embedded, &t).await;
    own.store.close().await;
}
