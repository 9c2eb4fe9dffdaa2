//! Speed of the whole program on real data: import, uncached answers, freshness, memory; beside a bare HTTP server.
//!
//! Times a program as its users run it, from outside, and judges nothing: ratios come from one run, side by side.

mod client;
mod data;
mod load;
mod program;
mod reembed;
mod speed;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Benchmarks of Nearcast.
#[derive(Debug, Parser)]
struct Cli {
    /// The program to measure (default: beside this one).
    #[arg(long, global = true)]
    program: Option<PathBuf>,
    /// Where the public data sets lie in the event format (default: $NEARCAST_TEST_DATA).
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load of every kind beside a bare HTTP server, with a report as HTML and JSON.
    Load(load::LoadArgs),
    /// The bare HTTP server itself.
    #[command(hide = true)]
    Hello {
        /// Its port.
        port: u16,
    },
    /// Another model under requests and events, killed in each phase, and how busy it keeps the model.
    Reembed(reembed::ReembedArgs),
    /// Import, answers, freshness and memory on the MovieLens events.
    Speed {
        /// Requests a connection.
        #[arg(long, default_value_t = 500)]
        requests: usize,
        /// Connections at once.
        #[arg(long, default_value_t = 8)]
        connections: usize,
        /// Events whose way to a changed answer is timed.
        #[arg(long, default_value_t = 200)]
        events: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Command::Hello { port } = cli.command {
        return program::hello(port);
    }
    let program = program::find(cli.program)?;
    let data = data::find(cli.data)?;
    match cli.command {
        Command::Load(args) => load::run(program, data, &args),
        Command::Reembed(args) => reembed::run(&program, &data, &args),
        Command::Hello { .. } => Ok(()),
        Command::Speed { requests, connections, events } => speed::run(&program, &data, requests, connections, events),
    }
}
