//! The program under test as a process: run to its end, or serving until dropped.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::client::Client;

/// The program to measure.
pub fn find(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("nearcast"),
    };
    if !path.is_file() {
        bail!("{} is not there; build it with `cargo build --release`, or name it with --program", path.display());
    }
    Ok(path)
}

/// Runs to the end, and says how long it took.
pub fn run(program: &Path, data_dir: &Path, args: &[&str]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let out = Command::new(program).args(args).arg("--data-dir").arg(data_dir).stdin(Stdio::null()).output()?;
    ensure!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(begun.elapsed())
}

/// A serving process.
pub struct Server {
    child: Child,
    /// Its port on loopback.
    pub port: u16,
}

impl Server {
    /// Starts `run` and waits until it is ready.
    pub fn start(program: &Path, data_dir: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let child = Command::new(program)
            .args(["run", "--log", "warn", "--listen", &listen, "--data-dir"])
            .arg(data_dir)
            .stdin(Stdio::null())
            .spawn()
            .context("starting the server")?;
        let server = Self { child, port };
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Ok(mut client) = Client::connect(port)
                && client.get("/health/ready").is_ok_and(|a| a.status == 200)
            {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the server is not ready after a minute")
    }

    /// Resident memory in megabytes: now, and at its highest.
    pub fn memory_mb(&self) -> anyhow::Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kb = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        Ok((kb("VmRSS:") / 1024.0, kb("VmHWM:") / 1024.0))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
