//! What the tests of whole processes share: sample events, a process that is ended for sure, and a small HTTP client.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test says where it broke")]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub mod models;
pub mod proxy;
pub mod stack;

/// The program, with a model that needs no network and a data directory.
pub fn nearcast(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.args(args).arg("--data-dir").arg(data).arg("--log").arg("warn");
    // A stack that the environment names is for the tests that ask for it.
    for (variable, _) in std::env::vars().filter(|(v, _)| v.starts_with("NEARCAST__")) {
        command.env_remove(variable);
    }
    command.env("NEARCAST__MODEL__NAME", nearcast_embed::statics::BUILT_IN).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null());
    command
}

/// Runs to the end.
pub fn run(data: &Path, args: &[&str]) -> Output {
    nearcast(data, args).output().unwrap()
}

/// Runs to the end, which must be a good one; gives standard output.
pub fn run_ok(data: &Path, args: &[&str]) -> String {
    let out = run(data, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The digests of a data directory.
pub fn digests(data: &Path) -> Value {
    serde_json::from_str(&run_ok(data, &["verify", "--json"])).unwrap()
}

/// A process that does not outlive its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts `run` and waits until it answers.
pub fn serve(data: &Path, port: u16) -> Running {
    let address = format!("127.0.0.1:{port}");
    let child = nearcast(data, &["run", "--listen", &address]).spawn().unwrap();
    let mut running = Running(child);
    let until = Instant::now() + Duration::from_secs(60);
    while get(port, "/health/ready").is_err() {
        assert!(running.0.try_wait().unwrap().is_none(), "the server ended");
        assert!(Instant::now() < until, "the server does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

/// A client that is refused nothing but takes any status.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .proxy(None)
        .build()
        .into()
}

/// GET: the status and the body.
pub fn get(port: u16, path: &str) -> Result<(u16, String), ureq::Error> {
    let mut answer = agent().get(format!("http://127.0.0.1:{port}{path}")).call()?;
    Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
}

/// GET of JSON.
pub fn get_json(port: u16, path: &str) -> Value {
    let (status, body) = get(port, path).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// POST of JSON.
pub fn post(port: u16, path: &str, body: &Value) -> Result<(u16, Value), ureq::Error> {
    let mut answer = agent()
        .post(format!("http://127.0.0.1:{port}{path}"))
        .header("content-type", "application/json")
        .send(body.to_string())?;
    let text = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// A small town: items first, then what people write and do, in the order of time; with a few who are erased, a few broken
/// lines and a few repetitions.
pub fn town(seed: u64, people: usize, events: usize) -> Vec<Value> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let subjects = ["coffee grinder", "trail shoe", "star map", "rye bread", "board game"];
    let words = ["quiet", "light", "old", "best", "small", "for beginners", "in winter", "at night"];
    let mut out: Vec<Value> = (0..60)
        .map(|i| {
            let subject = subjects[i % subjects.len()];
            json!({"type":"item","item_id":format!("i{i}"),"text":format!("{subject} {} {i}", rng.choice(words).unwrap()),"categories":[subject]})
        })
        .collect();
    let time = |n: usize| format!("2026-01-{:02}T{:02}:{:02}:{:02}Z", 1 + n / 86_400 % 28, n / 3600 % 24, n / 60 % 60, n % 60);
    for n in 0..events {
        let user = rng.usize(..people);
        let item = (user % subjects.len()) + subjects.len() * rng.usize(..12);
        let event = match rng.u8(..20) {
            0 => json!({"type":"erasure","user_id":format!("u{user}"),"timestamp":time(n)}),
            1..=5 => {
                let text = format!("{} {}", subjects[user % subjects.len()], rng.choice(words).unwrap());
                json!({"type":"message","message_id":format!("m{n}"),"user_id":format!("u{user}"),"text":text,"timestamp":time(n)})
            }
            6 => json!({"type":"engagement","user_id":format!("u{user}"),"item_id":format!("i{item}"),"timestamp":time(n)}),
            _ => {
                let kind = *rng.choice(["view", "click", "purchase", "rating"].iter()).unwrap();
                json!({"type":"engagement","event_id":format!("e{n}"),"user_id":format!("u{user}"),"item_id":format!("i{item}"),
                       "kind":kind,"value":rng.u8(1..=5),"timestamp":time(n)})
            }
        };
        out.push(event);
        if rng.u8(..50) == 0 {
            let again = out[out.len() - 1].clone();
            out.push(again);
        }
    }
    out
}

/// Writes events as lines.
pub fn write_lines(path: &Path, events: &[Value]) {
    let text: String = events.iter().map(|e| format!("{e}\n")).collect();
    std::fs::write(path, text).unwrap();
}
