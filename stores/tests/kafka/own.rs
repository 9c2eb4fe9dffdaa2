//! A Kafka of a test's own, which it may end and start again: from the jars that `infra/local/up` installed.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test says where it broke")]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

/// Where the jars are: `$NEARCAST_TEST_KAFKA_LIB`, or where `infra/local/up` puts them.
fn jars() -> Option<PathBuf> {
    if let Some(lib) = std::env::var_os("NEARCAST_TEST_KAFKA_LIB") {
        return Some(lib.into());
    }
    let home = std::env::var_os("HOME").map(|h| Path::new(&h).join(".nearcast-stack"));
    let stacks = [std::env::var_os("NEARCAST_STACK_DIR").map(Into::into), Some("/var/lib/nearcast-stack".into()), home];
    let installed = |stack: PathBuf| {
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(stack.join("software")).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
        found.sort();
        found.into_iter().map(|p| p.join("lib")).rfind(|p| p.is_dir() && p.to_string_lossy().contains("/kafka-"))
    };
    stacks.into_iter().flatten().find_map(installed)
}

/// A broker of one process.
pub struct OwnKafka {
    dir: tempfile::TempDir,
    jars: PathBuf,
    port: u16,
    process: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl OwnKafka {
    /// Starts it; `None`, with a line that says so, where Kafka is not installed.
    pub fn start() -> Option<Self> {
        let Some(jars) = jars() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "Kafka is not installed: run `infra/local/up kafka`");
            eprintln!(
                "skipped: Kafka is not installed; run `infra/local/up kafka`, or name its jars in NEARCAST_TEST_KAFKA_LIB"
            );
            return None;
        };
        let (dir, port, controller) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let data = dir.path().join("data");
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=CLIENTS://127.0.0.1:{port}\n\
             listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT\ninter.broker.listener.name=CLIENTS\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\nauto.create.topics.enable=false\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n\
             group.initial.rebalance.delay.ms=0\nlog.cleaner.dedupe.buffer.size=16777216\n",
            data.display()
        );
        std::fs::write(dir.path().join("server.properties"), properties).unwrap();
        let mut own = Self { dir, jars, port, process: None };
        let formatted = own
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(own.dir.path().join("server.properties"))
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        own.again();
        Some(own)
    }

    fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xms64m", "-Xmx256m", "-cp"]).arg(self.jars.join("*")).arg(class);
        java.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        java
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again and waits until it answers.
    pub fn again(&mut self) {
        let mut java = self.java("kafka.Kafka");
        java.arg(self.dir.path().join("server.properties")).stderr(Stdio::null());
        self.process = Some(java.spawn().unwrap());
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap();
        for _ in 0..120 {
            if client.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|m| !m.brokers().is_empty()) {
                return;
            }
            assert!(self.process.as_mut().unwrap().try_wait().unwrap().is_none(), "Kafka has ended");
        }
        panic!("Kafka does not answer");
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.kill();
    }
}
