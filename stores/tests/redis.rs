//! The response cache on Redis, alone and behind memory: the suite of the port, and what only several instances and outages show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nearcast_domain::{
    ErrorKind, Tenant, UserId,
    ports::{CachedAnswer, ResponseCache, answer_prefix},
    testing::{self, servers},
};
use nearcast_stores::{
    cache::{RedisCache, RedisConfig, RedisMode, TieredCache},
    remote::Address,
};

const LONG: Duration = Duration::from_secs(3600);

fn config() -> Option<RedisConfig> {
    let uri = Address::new(servers::address("NEARCAST__REDIS__URI")?);
    // Machines under test are slow at times; calls that take their time are not what is tested.
    Some(RedisConfig {
        uri,
        prefix: format!("{}:", servers::unique("cache")),
        call_ms: 2_000,
        connect_ms: 5_000,
        ..RedisConfig::default()
    })
}

fn answer(body: &str, epoch: u64) -> CachedAnswer {
    CachedAnswer { body: Arc::from(body.as_bytes()), epoch }
}

fn user(name: &str) -> (Tenant, UserId, String) {
    let (tenant, user) = (Tenant::trusted("t"), UserId::trusted(name.to_owned()));
    let key = format!("{}k", answer_prefix(&tenant, &user));
    (tenant, user, key)
}

/// Until it is so; fails after long enough that something must be wrong.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not yet");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server of the test's own.
struct Server {
    port: u16,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// `None`, with a line, where there is no `redis-server`.
    fn new() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { port, dir: tempfile::tempdir().unwrap(), child: None })
    }

    fn config(&self) -> RedisConfig {
        RedisConfig {
            uri: Address::new(format!("redis://127.0.0.1:{}/", self.port)),
            call_ms: 1_000,
            connect_ms: 2_000,
            heartbeat_ms: 100,
            ..RedisConfig::default()
        }
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, more: &[&str]) {
        let dir: &Path = self.dir.path();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(dir)
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Makes the server send nothing and read nothing, as a machine does that hangs.
    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn conforms() {
    let Some(config) = config() else { return };
    let cache = RedisCache::new(&config).unwrap();
    cache.setup().await.unwrap();
    testing::cache::cache(&cache).await;
    cache.close().await;
    let (tenant, u, _) = user("u");
    assert_eq!(cache.epoch(&tenant, &u).await.unwrap_err().kind, ErrorKind::Unavailable, "closed is closed");
}

#[tokio::test]
async fn behind_memory_it_conforms_too() {
    let Some(config) = config() else { return };
    let cache = TieredCache::new(&config).unwrap();
    cache.setup().await.unwrap();
    testing::cache::cache(&cache).await;
    cache.close().await;
}

#[tokio::test]
async fn every_answer_lives_a_time_of_its_own() {
    let Some(config) = config() else { return };
    let config = RedisConfig { ttl_min_s: 100, ttl_max_s: 200, ..config };
    let cache = RedisCache::new(&config).unwrap();
    cache.setup().await.unwrap();
    let mut driver = redis::Client::open(config.uri.expose()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut seen = Vec::new();
    for i in 0..200 {
        let (_, _, key) = user(&format!("u{i}"));
        cache.put(&key, answer("x", 0), LONG).await.unwrap();
        let name = format!("{}a:{{{}}}k", config.prefix, key.trim_end_matches('k'));
        let ms: u64 = redis::cmd("PTTL").arg(name).query_async(&mut driver).await.unwrap();
        // What passed between the two calls is not more than a minute.
        assert!((40_000..=200_000).contains(&ms), "{ms}");
        seen.push(ms);
    }
    seen.sort_unstable();
    assert!(seen[199] - seen[0] > 50_000, "they differ: {} to {}", seen[0], seen[199]);
    let (_, _, key) = user("short");
    cache.put(&key, answer("x", 0), Duration::from_secs(3)).await.unwrap();
    let name = format!("{}a:{{{}}}k", config.prefix, key.trim_end_matches('k'));
    let ms: u64 = redis::cmd("PTTL").arg(name).query_async(&mut driver).await.unwrap();
    assert!(ms <= 3_000, "never longer than it was given: {ms}");
    cache.close().await;
}

#[tokio::test]
async fn instances_see_each_others_events() {
    let Some(config) = config() else { return };
    let (a, b) = (TieredCache::new(&config).unwrap(), TieredCache::new(&config).unwrap());
    a.setup().await.unwrap();
    b.setup().await.unwrap();
    for round in 0..20 {
        let (tenant, u, key) = user(&format!("u{}", round % 3));
        // Both have an answer in memory that is fresh.
        let epoch = a.epoch(&tenant, &u).await.unwrap();
        a.put(&key, answer("old", epoch), LONG).await.unwrap();
        assert_eq!(b.epoch(&tenant, &u).await.unwrap(), epoch);
        assert_eq!(b.get(&key).await.unwrap(), Some(answer("old", epoch)));
        // An event, seen by one of them.
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        writer.bump(&tenant, std::slice::from_ref(&u)).await.unwrap();
        let now = writer.epoch(&tenant, &u).await.unwrap();
        assert!(now > epoch);
        until("the other hears of it", async || reader.epoch(&tenant, &u).await.unwrap() == now).await;
        // An answer that was begun before the event comes late: it is kept nowhere as fresh.
        reader.put(&key, answer("late", epoch), LONG).await.unwrap();
        for cache in [&a, &b] {
            assert!(cache.get(&key).await.unwrap().is_none_or(|kept| kept.epoch != now));
        }
    }
    // Erased on one, gone on both.
    let (tenant, u, key) = user("erased");
    let epoch = a.epoch(&tenant, &u).await.unwrap();
    a.put(&key, answer("theirs", epoch), LONG).await.unwrap();
    assert!(b.get(&key).await.unwrap().is_some());
    assert_eq!(a.forget(&answer_prefix(&tenant, &u)).await.unwrap(), 1);
    until("the other removes it", async || b.get(&key).await.unwrap().is_none()).await;
    // Whoever was computing meanwhile does not bring it back.
    b.put(&key, answer("theirs", epoch), LONG).await.unwrap();
    until("nor does it stay in memory", async || b.get(&key).await.unwrap().is_none()).await;
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_hit_in_memory_costs_no_network() {
    let Some(mut server) = Server::new() else { return };
    server.start();
    // So rare that the test is over before reliability is.
    let cache = TieredCache::new(&RedisConfig { heartbeat_ms: 60_000, ..server.config() }).unwrap();
    cache.setup().await.unwrap();
    let (tenant, u, key) = user("u");
    let mut epoch = 0;
    // The subscription begins in the background; from then on what is read is kept.
    until("the epoch is known", async || {
        epoch = cache.epoch(&tenant, &u).await.unwrap();
        cache.put(&key, answer("x", epoch), LONG).await.unwrap();
        server.signal("-STOP");
        let known = cache.epoch(&tenant, &u).await.is_ok_and(|e| e == epoch);
        server.signal("-CONT");
        known
    })
    .await;
    server.signal("-STOP");
    for _ in 0..1000 {
        assert_eq!(cache.epoch(&tenant, &u).await.unwrap(), epoch);
        assert_eq!(cache.get(&key).await.unwrap(), Some(answer("x", epoch)));
    }
    server.signal("-CONT");
    cache.close().await;
}

#[tokio::test]
async fn gone_redis_costs_latency_only_and_no_old_answer_comes_back() {
    let Some(mut server) = Server::new() else { return };
    let config = server.config();
    let (cache, other) = (TieredCache::new(&config).unwrap(), TieredCache::new(&config).unwrap());
    let (tenant, u, key) = user("u");
    let (_, v, _) = user("v");
    // Never there: calls fail, events wait.
    assert!(cache.epoch(&tenant, &u).await.unwrap_err().kind.is_transient());
    cache.bump(&tenant, std::slice::from_ref(&v)).await.unwrap();
    server.start();
    until("it is reached", async || cache.epoch(&tenant, &u).await.is_ok() && other.epoch(&tenant, &u).await.is_ok()).await;
    let mut last = 0;
    for life in 0..3 {
        let epoch = cache.epoch(&tenant, &u).await.unwrap();
        assert!(epoch > last, "life {life}: {epoch} after {last}");
        last = epoch;
        for c in [&cache, &other] {
            c.put(&key, answer("old", epoch), LONG).await.unwrap();
        }
        server.kill();
        until("it is seen to be gone", async || cache.epoch(&tenant, &u).await.is_err()).await;
        // Quick: a thousand calls would take a quarter of an hour if each waited as long as it may.
        let begun = Instant::now();
        for _ in 0..1000 {
            assert!(cache.epoch(&tenant, &u).await.unwrap_err().kind.is_transient());
            cache.bump(&tenant, std::slice::from_ref(&u)).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(100));
        server.start();
        for c in [&cache, &other] {
            until("it is back", async || c.epoch(&tenant, &u).await.is_ok()).await;
            let now = c.epoch(&tenant, &u).await.unwrap();
            assert!(now > epoch, "life {life}: {now} after {epoch}");
            assert!(c.get(&key).await.unwrap().is_none_or(|kept| kept.epoch != now), "life {life}: an old answer is fresh");
        }
        until("both agree", async || {
            let epochs = (cache.epoch(&tenant, &u).await, other.epoch(&tenant, &u).await);
            matches!(epochs, (Ok(a), Ok(b)) if a == b)
        })
        .await;
        last = last.max(cache.epoch(&tenant, &u).await.unwrap() - 1);
    }
    cache.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_server_that_forgot_the_last_epochs_brings_no_old_answer_back() {
    let Some(mut server) = Server::new() else { return };
    server.start();
    let cache = RedisCache::new(&server.config()).unwrap();
    cache.setup().await.unwrap();
    let (tenant, u, key) = user("u");
    let epoch = cache.epoch(&tenant, &u).await.unwrap();
    cache.put(&key, answer("old", epoch), LONG).await.unwrap();
    // What a snapshot holds, or a replica that takes over: the answer, its epoch and the base, but not the event after them.
    let driver = redis::Client::open(server.config().uri.expose()).unwrap();
    let mut c = driver.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("SAVE").query_async(&mut c).await.unwrap();
    cache.bump(&tenant, std::slice::from_ref(&u)).await.unwrap();
    let now = cache.epoch(&tenant, &u).await.unwrap();
    server.kill();
    server.start();
    until("it is back", async || cache.epoch(&tenant, &u).await.is_ok()).await;
    assert_eq!(cache.get(&key).await.unwrap(), Some(answer("old", epoch)), "the snapshot was read, or this shows nothing");
    assert!(cache.epoch(&tenant, &u).await.unwrap() > now);
    // And what is evicted, with the process going on.
    let before = cache.epoch(&tenant, &u).await.unwrap();
    let mut c = driver.get_multiplexed_async_connection().await.unwrap();
    let gone: u64 =
        redis::cmd("DEL").arg(format!("nearcast:e:{{{}}}", answer_prefix(&tenant, &u))).query_async(&mut c).await.unwrap();
    assert_eq!(gone, 1);
    assert!(cache.epoch(&tenant, &u).await.unwrap() > before);
    cache.close().await;
}

/// A connection of the test's own, once the server answers.
async fn driver(port: u16) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = None;
    until("the server answers", async || {
        connection = client.get_multiplexed_async_connection().await.ok();
        connection.is_some()
    })
    .await;
    connection.unwrap()
}

async fn ask(c: &mut redis::aio::MultiplexedConnection, command: &str) -> String {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    cmd.arg(words.collect::<Vec<_>>());
    cmd.query_async(c).await.unwrap()
}

/// The suite on both kinds, and that one hears of the other.
async fn serves(config: RedisConfig) {
    let cache = RedisCache::new(&config).unwrap();
    until("it is reached", async || cache.setup().await.is_ok()).await;
    testing::cache::cache(&cache).await;
    cache.close().await;
    let config = RedisConfig { prefix: "tiered:".into(), ..config };
    let (a, b) = (TieredCache::new(&config).unwrap(), TieredCache::new(&config).unwrap());
    until("they are reached", async || a.setup().await.is_ok() && b.setup().await.is_ok()).await;
    testing::cache::cache(&a).await;
    for i in 0..30 {
        let (tenant, u, key) = user(&format!("u{i}"));
        let epoch = a.epoch(&tenant, &u).await.unwrap();
        a.put(&key, answer("x", epoch), LONG).await.unwrap();
        until("the other has it", async || b.get(&key).await.unwrap() == Some(answer("x", epoch))).await;
        assert_eq!(b.epoch(&tenant, &u).await.unwrap(), epoch);
        a.bump(&tenant, std::slice::from_ref(&u)).await.unwrap();
        let now = a.epoch(&tenant, &u).await.unwrap();
        assert!(now > epoch);
        until("the other hears of it", async || b.epoch(&tenant, &u).await.unwrap() == now).await;
    }
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_cluster_serves_as_well() {
    let (Some(mut one), Some(mut two)) = (Server::new(), Server::new()) else { return };
    let mut drivers = Vec::new();
    for (server, slots) in [(&mut one, "0 8191"), (&mut two, "8192 16383")] {
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        server.start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        let mut c = driver(server.port).await;
        ask(&mut c, &format!("CLUSTER ADDSLOTSRANGE {slots}")).await;
        drivers.push((c, server.port, bus));
    }
    let (port, bus) = (drivers[1].1, drivers[1].2.clone());
    ask(&mut drivers[0].0, &format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await;
    for (c, _, _) in &mut drivers {
        until("the cluster is whole", async || {
            let info = ask(c, "CLUSTER INFO").await;
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
        })
        .await;
    }
    let nodes = vec![
        Address::new(format!("redis://127.0.0.1:{}/", one.port)),
        Address::new(format!("redis://127.0.0.1:{}/", two.port)),
    ];
    serves(RedisConfig { mode: RedisMode::Cluster, nodes, ..one.config() }).await;
    let mut runs = Vec::new();
    for (mut c, _, _) in drivers {
        let run: Result<String, _> = redis::cmd("HGET").arg("nearcast:base").arg("run").query_async(&mut c).await;
        runs.extend(run);
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut c).await.unwrap();
        assert!(keys > 10, "one of the nodes has next to nothing: {keys}");
    }
    assert!(runs.len() == 1 && runs[0].len() == 81, "the base belongs to the runs of both nodes: {runs:?}");
}

#[tokio::test]
async fn sentinels_lead_to_the_server() {
    let (Some(mut server), Some(mut sentinel)) = (Server::new(), Server::new()) else { return };
    server.start();
    let file = sentinel.dir.path().join("sentinel.conf");
    let text = format!("port {}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\n", sentinel.port, server.port);
    std::fs::write(&file, text).unwrap();
    let child = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
    sentinel.child = Some(child);
    let nodes = vec![Address::new(format!("redis://127.0.0.1:{}/", sentinel.port))];
    serves(RedisConfig { mode: RedisMode::Sentinel, master: "main".into(), nodes, ..server.config() }).await;
}
