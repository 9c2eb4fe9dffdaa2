//! The `nearcast` binary: command line, configuration, wiring. The only crate that names concrete stores.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (of the command line or the configuration).

mod cli;
mod commands;
mod config;
mod data_dir;
mod demo;
mod jobs;
mod memory;
mod models;
mod otlp;
mod progress;
mod shutdown;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let config = match config::load(&cli, std::env::vars()) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("nearcast: {e}");
            return ExitCode::from(2);
        }
    };
    match commands::run(cli.command, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // One line: causes follow each other.
            eprintln!("nearcast: {}", one_line(&e));
            ExitCode::FAILURE
        }
    }
}

fn one_line(e: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in e.chain().map(ToString::to_string) {
        // A cause that its effect already quotes is not told twice.
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
