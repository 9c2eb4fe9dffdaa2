//! How much of the cores each server and the program take, by what Linux says of their processes. Elsewhere it says nothing.

use std::{collections::BTreeMap, time::Duration};

/// Ticks of a core in a second, as Linux tells them to every process.
const TICKS: f64 = 100.0;

/// By name, seconds of cores so far.
#[derive(Clone, Default)]
pub struct Cores(BTreeMap<&'static str, f64>);

/// Who a process is, by its command.
fn name_of(command: &str, pid: u32) -> Option<&'static str> {
    if pid == std::process::id() {
        return Some("producer");
    }
    let first = command.split('\0').next().unwrap_or_default();
    let program = first.split(' ').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    match program.trim_end_matches(':') {
        "java" if command.contains("kafka.Kafka") => Some("Kafka"),
        "java" if command.contains("neo4j") => Some("Neo4j"),
        "ferretdb" => Some("FerretDB"),
        "postgres" => Some("PostgreSQL"),
        "redis-server" => Some("Redis"),
        p if p.starts_with("nearcast") => Some("the program"),
        _ if command.contains("milvus") => Some("milvus-lite"),
        _ => None,
    }
}

/// Seconds of cores of a process and of its children that have ended.
fn spent(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold blanks; fields 14 to 17 are the times.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|f| f.parse::<u64>().ok()).sum();
    Some(ticks as f64 / TICKS)
}

impl Cores {
    /// As of now.
    pub fn now() -> Self {
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if let (Some(name), Some(spent)) = (name_of(&command, pid), spent(pid)) {
                *all.entry(name).or_default() += spent;
            }
        }
        Self(all)
    }

    /// What was spent since, most first.
    pub fn since(&self, took: Duration) -> String {
        let now = Self::now().0;
        let mut spent: Vec<(&str, f64)> = now.iter().map(|(n, s)| (*n, s - self.0.get(n).unwrap_or(&0.0))).collect();
        spent.retain(|(_, s)| *s >= 0.05);
        spent.sort_by(|a, b| b.1.total_cmp(&a.1));
        let all: f64 = spent.iter().map(|(_, s)| s).sum();
        let each: Vec<String> = spent.iter().map(|(name, s)| format!("{name} {s:.1}")).collect();
        format!("{all:.1} s of cores in {:.1} s: {}", took.as_secs_f64(), each.join(", "))
    }
}
