//! The program with names of its own in the shared servers, and events for it.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nearcast_domain::testing::servers;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
    topic_partition_list::TopicPartitionListElem,
};
use serde_json::Value;

/// A variable of the configuration, empty where it is not set.
pub fn variable(key: &str) -> String {
    std::env::var(format!("NEARCAST__{key}")).unwrap_or_default()
}

/// What a producer uses as the key: the user, or the item of an item.
fn key_of(event: &str) -> String {
    let e: Value = serde_json::from_str(event).unwrap();
    let key = if e["type"] == "item" { &e["item_id"] } else { &e["user_id"] };
    key.as_str().unwrap().to_owned()
}

pub type Sender = ThreadedProducer<DefaultProducerContext>;

/// The program under measurement.
pub struct Program {
    path: String,
    /// What all its names begin with.
    pub name: String,
    env: Vec<(String, String)>,
}

impl Program {
    /// Names nobody else has.
    pub fn new(path: String) -> Self {
        let name = servers::unique("bench");
        let mut env = servers::own_names(&name);
        env.push(("NEARCAST__MODEL__NAME".into(), "static-minilm-152".into()));
        Self { path, name, env }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).args(["--log", "warn"]).envs(self.env.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null());
        command.current_dir(std::env::temp_dir());
        command
    }

    /// Runs it to a good end; answers how long that took.
    pub fn run(&self, args: &[&str]) -> Duration {
        let begun = Instant::now();
        assert!(self.command(args).status().unwrap().success(), "{args:?}");
        begun.elapsed()
    }

    /// Starts it; ends with what is returned.
    pub fn start(&self, args: &[&str]) -> Running {
        Running(self.command(args).spawn().unwrap())
    }

    /// A producer.
    pub fn producer(&self) -> Sender {
        ClientConfig::new().set("bootstrap.servers", variable("KAFKA__BROKERS")).set("linger.ms", "5").create().unwrap()
    }

    /// Gives one event to a producer.
    pub fn send(&self, producer: &Sender, event: &str) {
        let (topic, key) = (format!("{}.events", self.name), key_of(event));
        let mut record = BaseRecord::to(&topic).key(&key).payload(event);
        while let Err((_, back)) = producer.send(record) {
            std::thread::sleep(Duration::from_millis(5));
            record = back;
        }
    }

    /// Produces events in order, and waits until the broker has them.
    pub fn produce(&self, events: &[String]) {
        let producer = self.producer();
        events.iter().for_each(|e| self.send(&producer, e));
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// Waits until a worker is in its group.
    pub fn joined(&self) {
        let consumer = self.consumer(&self.name);
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let groups = consumer.client().fetch_group_list(Some(&self.name), Duration::from_secs(10));
            if groups.is_ok_and(|g| g.groups().iter().any(|g| g.state() == "Stable" && !g.members().is_empty())) {
                return;
            }
            assert!(Instant::now() < until, "no worker joins its group");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the group has committed so many records.
    pub fn committed(&self, number: usize) {
        let consumer = self.consumer(&self.name);
        let topic = format!("{}.events", self.name);
        let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap();
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            all.add_partition(&topic, partition.id());
        }
        let until = Instant::now() + Duration::from_secs(600);
        let done = |list: &TopicPartitionList| -> i64 {
            let offset = |e: &TopicPartitionListElem<'_>| if let Offset::Offset(n) = e.offset() { n } else { 0 };
            list.elements().iter().map(offset).sum()
        };
        while done(&consumer.committed_offsets(all.clone(), Duration::from_secs(10)).unwrap()) < number as i64 {
            assert!(Instant::now() < until, "the worker does not come to an end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", variable("KAFKA__BROKERS")).set("group.id", group).set("auto.offset.reset", "earliest");
        config.create().unwrap()
    }
}

/// A process that ends with this.
pub struct Running(Child);

impl Running {
    /// Lets it come to its end; answers how long that took.
    pub fn stop(mut self) -> Duration {
        let begun = Instant::now();
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
        begun.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
