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
    let out = embedded(&mut Command::new(program)).args(args).arg("--data-dir").arg(data_dir).stdin(Stdio::null()).output()?;
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
    /// Starts `run` on embedded stores and waits until it is ready.
    pub fn start(program: &Path, data_dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(program, data_dir, &[])
    }

    /// The same with these variables.
    pub fn start_with(program: &Path, data_dir: &Path, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        Self::begin(embedded(&mut command).envs(env.iter().copied()).args(["run", "--data-dir"]).arg(data_dir))
    }

    /// The same on these cores alone.
    pub fn start_on(program: &Path, data_dir: &Path, cores: &str, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        Self::begin(
            embedded(&mut command)
                .envs(env.iter().copied())
                .args(["-c", cores])
                .arg(program)
                .args(["run", "--data-dir"])
                .arg(data_dir),
        )
    }

    /// Starts a role with exactly these variables.
    pub fn start_in(program: &Path, role: &str, env: &[(String, String)]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        Self::begin(embedded(&mut command).arg(role).envs(env.iter().cloned()))
    }

    /// A bare HTTP server in a process of its own.
    pub fn hello() -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = Command::new(std::env::current_exe()?).arg("hello").arg(port.to_string()).stdin(Stdio::null()).spawn()?;
        Self { child, port }.ready("/")
    }

    fn begin(command: &mut Command) -> anyhow::Result<Self> {
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let child = command
            .args(["--log", "error", "--listen", &listen])
            .stdin(Stdio::null())
            .spawn()
            .context("starting the server")?;
        Self { child, port }.ready("/health/ready")
    }

    fn ready(self, path: &str) -> anyhow::Result<Self> {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Ok(mut client) = Client::connect(self.port)
                && client.get(path).is_ok_and(|a| a.status == 200)
            {
                return Ok(self);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the server is not ready after a minute")
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// A figure without labels.
    pub fn figure(&self, name: &str) -> anyhow::Result<f64> {
        let text = String::from_utf8(Client::connect(self.port)?.get("/metrics")?.body)?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.context("no such figure")?.trim().parse()?)
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

/// A command on embedded stores, to be started by the caller.
pub fn command(program: &Path, data_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    embedded(&mut command).args(args).arg("--data-dir").arg(data_dir).args(["--log", "error"]).stdin(Stdio::null());
    command
}

/// Stores that the environment names are for who asks for them.
fn embedded(command: &mut Command) -> &mut Command {
    for (variable, _) in std::env::vars().filter(|(v, _)| v.starts_with("NEARCAST__") && !v.starts_with("NEARCAST__MODEL")) {
        command.env_remove(variable);
    }
    command
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Keeps this thread, and those that it starts from now on, to these cores.
pub fn pin(cores: &str) -> anyhow::Result<()> {
    let me = std::process::id().to_string();
    let out = Command::new("taskset").args(["-cp", cores, &me]).output().context("taskset of util-linux is needed")?;
    ensure!(out.status.success(), "taskset: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Answers `hello` until the process ends.
pub fn hello(port: u16) -> anyhow::Result<()> {
    use axum::{Router, routing::get};
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(axum::serve(listener, Router::new().route("/", get(|| async { "hello" }))).await?)
    })
}
