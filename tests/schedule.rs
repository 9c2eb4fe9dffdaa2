//! Jobs at their times: in a running process, through downtime, and with one leader among instances on the real servers.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{Running, free_port, get, nearcast, run_ok, stack::Stack, town, write_lines};

/// The program with a schedule.
fn scheduled(data: &Path, args: &[&str], jobs: &str) -> Command {
    let mut command = nearcast(data, args);
    command.env("NEARCAST__SCHEDULE__JOBS", jobs);
    command.env("NEARCAST__SCHEDULE__LEASE_S", "1").env("NEARCAST__SCHEDULE__LATE_S", "2");
    command
}

fn start(data: &Path, jobs: &str) -> Running {
    let port = free_port();
    let mut running = Running(scheduled(data, &["run", "--listen", &format!("127.0.0.1:{port}")], jobs).spawn().unwrap());
    until("the server answers", || {
        assert!(running.0.try_wait().unwrap().is_none(), "the server ended");
        get(port, "/health/ready").is_ok()
    });
    running
}

/// Waits for something that comes, however slow the machine is.
fn until(what: &str, mut come: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !come() {
        assert!(Instant::now() < end, "{what}: in vain");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn terminate(running: &mut Running) -> Option<i32> {
    assert!(Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap().success());
    running.0.wait().unwrap().code()
}

#[test]
fn a_running_process_keeps_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("town.jsonl"));
    write_lines(&file, &town(51, 60, 800));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let jobs = r#"[{name="mend",cron="* * * * * *",command=["reconcile","--repair","--parts","graph"],catch_up=true},
                   {cron="0 0 1 1 *",command=["rebuild","graph"]}]"#
        .replace('\n', " ");
    let runs = || lines(&run_ok(&data, &["runs", "--json", "--limit", "1000"]));
    let of = |runs: &[Value], outcome: &str| {
        runs.iter().filter(|r| r["outcome"] == outcome && r["report"]["schedule"] == "mend").count()
    };
    let mut server = start(&data, &jobs);
    until("two runs", || of(&runs(), "done") >= 2);
    let out = scheduled(&data, &["schedule", "--list", "--json"], &jobs).output().unwrap();
    let listed = lines(&String::from_utf8(out.stdout).unwrap());
    let names: Vec<&str> = listed.iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mend", "rebuild graph"]);
    assert!(listed[0]["last"]["outcome"] == "done" || listed[0]["last"]["outcome"] == "running", "{listed:?}");
    assert!(listed[1]["next"].as_str().unwrap().contains("-01-01T00:00:00"), "{listed:?}");
    assert!(listed[1]["last"].is_null(), "{listed:?}");
    let refused = scheduled(&data, &["schedule"], &jobs).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("runs its schedule itself"), "{why}");
    assert_eq!(terminate(&mut server), Some(0));

    // Away for longer than a run may be late: told, and caught up with.
    std::thread::sleep(Duration::from_secs(4));
    let before = runs();
    let server = start(&data, &jobs);
    until("the missed ones are told", || {
        let missed = |r: &&Value| r["outcome"] == "missed" && r["report"]["missed"]["why"] == "away";
        runs().iter().any(|r| missed(&r)) && of(&runs(), "done") > of(&before, "done")
    });
    drop(server);
    // Killed, what it held is taken over at once.
    let before = of(&runs(), "done");
    let _server = start(&data, &jobs);
    until("it goes on", || of(&runs(), "done") > before);
}

#[test]
fn what_could_never_run_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (jobs, part) in [
        (r#"[{cron="at three",command=["reconcile"]}]"#, "cron"),
        (r#"[{cron="0 3 * * *",command=["reconsile"]}]"#, "reconsile"),
        (r#"[{cron="0 3 * * *",command=["serve"]}]"#, "serve"),
        (r#"[{cron="0 3 * * *",comand=["serve"]}]"#, "comand"),
    ] {
        let out = scheduled(&data, &["run"], jobs).output().unwrap();
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && why.contains(part), "{jobs}: {why}");
    }
    assert!(!data.exists());
    let out = nearcast(&data, &["schedule"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
}

#[test]
fn one_leader_among_instances_and_another_when_it_is_killed() {
    let Some(mut stack) = Stack::new("schedule") else { return };
    stack.set("SCHEDULE__JOBS", r#"[{name="look",cron="*/2 * * * * *",command=["reconcile","--parts","graph"]}]"#);
    stack.set("SCHEDULE__LEASE_S", "5");
    stack.set("SCHEDULE__LATE_S", "60");
    stack.run_ok(&["setup"]);
    let dir = tempfile::tempdir().unwrap();
    let instance = |name: &str| {
        let log = std::fs::File::create(dir.path().join(name)).unwrap();
        // The same servers, with a log that says who leads.
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
        for (key, value) in stack.nearcast(&[]).get_envs() {
            command.env(key, value.unwrap());
        }
        command.args(["schedule", "--log", "info"]).current_dir(std::env::temp_dir());
        Running(command.stdin(Stdio::null()).stderr(log).stdout(Stdio::null()).spawn().unwrap())
    };
    let said = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let leads = |name: &str| said(name).contains("runs the schedule");
    let dues = || -> Vec<String> {
        let runs = lines(&stack.run_ok(&["runs", "--job", "reconcile", "--json", "--limit", "1000"]));
        let ran = runs.iter().filter(|r| r["outcome"] != "missed");
        ran.map(|r| r["report"]["due"].as_str().unwrap_or(&r["id"].to_string()).to_owned()).collect()
    };
    let (first, second) = (instance("a"), instance("b"));
    until("one leads and runs", || (leads("a") || leads("b")) && dues().len() >= 2);
    assert!(leads("a") != leads("b"), "two lead: {} {}", said("a"), said("b"));
    let (leader, mut follower, name) = if leads("a") { (first, second, "b") } else { (second, first, "a") };
    drop(leader);
    let before = dues().len();
    until("the other takes over", || leads(name) && dues().len() > before + 1);
    assert_eq!(terminate(&mut follower), Some(0), "{}", said(name));
    let all = dues();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "a time ran twice: {all:?}");
}
