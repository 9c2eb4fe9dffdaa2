//! The real program in its demo, with a port and a data directory of its own.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The first start makes and embeds the sample data; a debug build on a slow machine takes its time for that.
const PATIENCE: Duration = Duration::from_secs(900);

/// A running `nearcast demo`.
pub struct Server {
    child: Child,
    /// Where the page is, without a slash at the end.
    pub address: String,
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts it, and waits until it is ready and has people.
    pub fn start(data: &Path, port: u16) -> Self {
        let log = data.with_extension("log");
        let child = Command::new(env!("CARGO_BIN_EXE_nearcast"))
            .args(["demo", "--no-open", "--port", &port.to_string(), "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { child, address: format!("http://127.0.0.1:{port}") };
        let begun = Instant::now();
        while !server.ready() {
            let ended = server.child.try_wait().unwrap();
            let told = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the demo ended with {ended:?}:\n{}", told());
            assert!(begun.elapsed() < PATIENCE, "the demo does not get ready:\n{}", told());
            thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn ready(&self) -> bool {
        let up = ureq::get(format!("{}/health/ready", self.address)).call().is_ok();
        up && self.get("/users?limit=1").is_some_and(|people| people["users"][0].is_object() || people["users"][0].is_string())
    }

    /// The body of a `GET`, where there is one.
    pub fn get(&self, path: &str) -> Option<Value> {
        let mut answer = ureq::get(format!("{}{path}", self.address)).call().ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }

    /// Ends it without a word of warning.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
