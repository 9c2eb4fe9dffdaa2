//! The real servers of `infra/local/`, with names of a test's own in every one of them.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nearcast_domain::testing::servers::{address, own_names, unique};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde_json::Value;

use super::{Running, free_port, get};

/// What must be set for the stack to be used.
const ADDRESSES: [&str; 6] = [
    "NEARCAST__KAFKA__BROKERS",
    "NEARCAST__MONGODB__URI",
    "NEARCAST__MILVUS__ADDRESS",
    "NEARCAST__NEO4J__URI",
    "NEARCAST__POSTGRES__URI",
    "NEARCAST__REDIS__URI",
];

/// The configuration of one test in the shared servers.
pub struct Stack {
    name: String,
    env: Vec<(String, String)>,
}

impl Stack {
    /// `None`, said aloud, where the servers are not there (under CI a failure).
    pub fn new(name: &str) -> Option<Self> {
        let mut env: Vec<(String, String)> = Vec::new();
        for variable in ADDRESSES {
            env.push((variable.into(), address(variable)?));
        }
        for (variable, value) in std::env::vars() {
            if variable.starts_with("NEARCAST__") && !ADDRESSES.contains(&variable.as_str()) {
                env.push((variable, value));
            }
        }
        let name = unique(name);
        env.extend(own_names(&name));
        env.push(("NEARCAST__MODEL__NAME".into(), nearcast_embed::statics::BUILT_IN.into()));
        Some(Self { name, env })
    }

    /// Sets a key for all commands to come.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.push((format!("NEARCAST__{key}"), value.into()));
    }

    /// The value that commands will see.
    pub fn value(&self, key: &str) -> String {
        let key = format!("NEARCAST__{key}");
        self.env.iter().rev().find(|(k, _)| *k == key).map(|(_, v)| v.clone()).unwrap()
    }

    /// The program on these servers. `data` is used by nothing when no store is embedded.
    pub fn nearcast(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
        command.args(args).args(["--log", "warn"]).current_dir(std::env::temp_dir()).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs to a good end; gives standard output.
    pub fn run_ok(&self, args: &[&str]) -> String {
        let out = self.nearcast(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The digests of all stores.
    pub fn digests(&self) -> Value {
        serde_json::from_str(&self.run_ok(&["verify", "--json"])).unwrap()
    }

    /// A worker that goes on until it is killed, its log in a file.
    pub fn worker(&self, log: &Path) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        Running(self.nearcast(&["ingest"]).stderr(log).stdout(Stdio::null()).spawn().unwrap())
    }

    /// The API on a free port, once it answers.
    pub fn serve(&self, log: &Path) -> (Running, u16) {
        let port = free_port();
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let command = &mut self.nearcast(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
        let child: Child = command.stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let mut running = Running(child);
        let until = Instant::now() + Duration::from_secs(60);
        while get(port, "/health/live").is_err() {
            assert!(running.0.try_wait().unwrap().is_none(), "the server ended");
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        (running, port)
    }

    /// A plain producer.
    pub fn producer(&self) -> ThreadedProducer<DefaultProducerContext> {
        ClientConfig::new()
            .set("bootstrap.servers", self.value("KAFKA__BROKERS"))
            .set("linger.ms", "20")
            .set("message.max.bytes", "8000000")
            .create()
            .unwrap()
    }

    /// Produces events in order, keyed by user or item, and waits until the broker has them.
    pub fn produce(&self, events: &[String]) {
        let producer = self.producer();
        let topic = self.value("KAFKA__TOPIC");
        for event in events {
            let key = key_of(event);
            let mut record = BaseRecord::to(&topic).key(&key).payload(event);
            while let Err((e, back)) = producer.send(record) {
                let full = e.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
                assert!(full, "{e}");
                std::thread::sleep(Duration::from_millis(5));
                record = back;
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// Whether the servers are those that `infra/local/up` starts, so that they may be ended and started. Under CI they must be.
    pub fn ours() -> bool {
        let printed = Self::script("env", &[]).output().unwrap();
        let ours = String::from_utf8_lossy(&printed.stdout).contains(&address("NEARCAST__KAFKA__BROKERS").unwrap_or_default());
        assert!(ours || std::env::var("CI").as_deref() != Ok("true"), "CI must run on the servers of infra/local/up");
        ours
    }

    /// Starts (`up`) or ends (`down`) servers: `kafka`, `postgres`, `ferretdb`, `neo4j`, `redis`, `milvus`.
    pub fn server(action: &str, names: &[&str]) {
        let out = Self::script(action, names).output().unwrap();
        assert!(out.status.success(), "{action} {names:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn script(name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("infra/local").join(name));
        command.args(args).stdin(Stdio::null());
        command
    }

    /// The name that all of this test's things begin with.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a producer uses as the key: the user, or the item of an item.
fn key_of(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    let key = if event["type"] == "item" { &event["item_id"] } else { &event["user_id"] };
    key.as_str().unwrap().to_owned()
}

/// The first events of the films' file in the event format; `None`, said aloud, where there is none (under CI a failure).
pub fn films(most: usize) -> Option<Vec<String>> {
    use std::io::BufRead as _;
    let path = std::env::var_os("NEARCAST_TEST_DATA").map(|d| PathBuf::from(d).join("movielens.events.jsonl.gz"));
    let Some(path) = path.filter(|p| p.exists()) else {
        let missing = "NEARCAST_TEST_DATA names no directory with movielens.events.jsonl.gz (MovieLens latest-small of 2016 in the \
                       event format)";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    };
    let lines = std::io::BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())).lines();
    Some(lines.map(Result::unwrap).take(most).collect())
}
