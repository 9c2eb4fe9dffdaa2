//! The command line: names, flags and their help. Nothing is done here.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

/// Turns what people write and do into recommendations.
#[derive(Debug, Parser)]
#[command(name = "nearcast", version, about, max_term_width = 100)]
pub struct Cli {
    /// Which configuration file to read (default: nearcast.toml, where there is one).
    #[arg(long, global = true, value_name = "F")]
    pub config: Option<PathBuf>,
    /// Where data lies (default: ./nearcast-data).
    #[arg(long, global = true, value_name = "D")]
    pub data_dir: Option<PathBuf>,
    /// How much is logged: error, warn, info, debug, trace, or a filter such as nearcast=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sample data, everything in one process, and a page to look at.
    Demo(DemoArgs),
    /// Everything in one process: API, worker and upkeep.
    Run(ListenArgs),
    /// The API alone: answers, and takes events into the log.
    Serve(ListenArgs),
    /// The worker alone: events from the log to the stores.
    Ingest(IngestArgs),
    /// Events from files (.jsonl, .jsonl.gz, - for standard input), an export, MovieLens, a Stack Exchange dump or Gorse's; waits
    /// until all is served.
    Import(ImportArgs),
    /// Everything as Parquet or NDJSON, for a warehouse or another instance.
    Export(ExportArgs),
    /// Engagement by hour or by day, brought up to date.
    Aggregate(AggregateArgs),
    /// How good the recommendations are: HR, NDCG, recall, coverage, latency.
    Evaluate(EvaluateArgs),
    /// Learns from the history; takes what it learned into service only where that is better.
    Train(TrainArgs),
    /// A digest of every store, and one of all.
    Verify(JsonArgs),
    /// Another embedding model: vectors made anew beside the current ones, compared, then switched.
    Reembed(ReembedArgs),
    /// Projections written anew from the ledger, while requests go on.
    Rebuild(RebuildArgs),
    /// Projections compared with the ledger by digests of key ranges.
    Reconcile(ReconcileArgs),
    /// The log told again from a position or a time on; changes nothing where nothing was lost.
    Replay(ReplayArgs),
    /// Forgets users everywhere, with receipts; or searches everywhere for what is left of them.
    Erase(EraseArgs),
    /// What jobs did, the newest first.
    Runs(RunsArgs),
    /// Runs the jobs of [[schedule.jobs]] at their times (UTC), in one of all instances; `nearcast run` does so by itself.
    Schedule(ScheduleArgs),
    /// Makes topics, collections, indexes and constraints in the configured stores; may be repeated.
    Setup,
    /// Records that could not be used.
    Dlq {
        /// What to do with them.
        #[command(subcommand)]
        action: DlqAction,
    },
    /// Embedding models.
    Models {
        /// What to do with them.
        #[command(subcommand)]
        action: ModelsAction,
    },
    /// Texts, one a line, to vectors.
    Embed(EmbedArgs),
    /// The configuration in force.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
}

/// Where to listen.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Address and port (default: 127.0.0.1:8080).
    #[arg(long, value_name = "A:P")]
    pub listen: Option<SocketAddr>,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The port of the page on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Address and port, instead of --port.
    #[arg(long, value_name = "A:P", conflicts_with = "port")]
    pub listen: Option<SocketAddr>,
    /// Do not open the page in a browser.
    #[arg(long)]
    pub no_open: bool,
    /// The seed of the sample data.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Flags of `ingest`.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// End when the log is empty instead of waiting for more.
    #[arg(long)]
    pub drain: bool,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files of events (- is standard input); or a directory that `nearcast export` wrote, MovieLens' ratings.csv or ratings.dat, Posts.xml
    /// of a Stack Exchange dump, a dump of Gorse, or the directory of any of these.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Whose format the files have, where their names do not tell.
    #[arg(long, value_parser = ["events", "export", "movielens", "stackexchange", "gorse"])]
    pub from: Option<String>,
    /// The tenant of events that name none.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Print the counts as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// What is known: events.
    #[arg(long, value_name = "F")]
    pub events: PathBuf,
    /// What was chosen next: lines of {"user_id","items"}.
    #[arg(long, value_name = "H")]
    pub holdout: PathBuf,
    /// Learn from the events first, as `nearcast train` does.
    #[arg(long)]
    pub train: bool,
    /// Also measure each source by itself.
    #[arg(long)]
    pub sources: bool,
    /// How many recommendations each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub k: u16,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Whose history.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Do not train: list the versions, the newest first.
    #[arg(long, conflicts_with = "rollback")]
    pub list: bool,
    /// Do not train: take the version before the one in service back into service, or none.
    #[arg(long)]
    pub rollback: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A flag of its own.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How hard a job works.
#[derive(Debug, Clone, Args)]
pub struct Pace {
    /// The share of the time that it works, above 0 and at most 1 (default: 1; 0.5 where a running process does it beside requests).
    #[arg(long, value_parser = share)]
    pub share: Option<f64>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 1.0);
    share.ok_or_else(|| "must lie above 0 and at most at 1".into())
}

/// Flags of `reembed`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "rollback", "prune"]))]
pub struct ReembedArgs {
    /// The model: a known name or a directory. The same again goes on where it was interrupted.
    #[arg(long, value_name = "M")]
    pub model: Option<String>,
    /// Gives up what was not switched yet; after the switch, goes back to the model before.
    #[arg(long)]
    pub rollback: bool,
    /// Drops the vectors that are kept for --rollback.
    #[arg(long)]
    pub prune: bool,
    /// Makes vectors and ends before the comparison and the switch: one worker of several.
    #[arg(long, requires = "model")]
    pub fill_only: bool,
    /// Only this shard of users, 0 to 15.
    #[arg(long, requires = "fill_only", value_parser = clap::value_parser!(u8).range(0..16))]
    pub shard: Option<u8>,
    /// The share of the ten nearest that must be the same in both, 0 to 1.
    #[arg(long, default_value_t = 0.1)]
    pub min_overlap: f64,
    /// How many users and items of each tenant are compared.
    #[arg(long, default_value_t = 200)]
    pub sample: usize,
    /// A file of the STS benchmark to measure both models on (tab-separated; score in column 5, sentences in 6 and 7).
    #[arg(long, value_name = "FILE")]
    pub sts: Option<PathBuf>,
    /// By how much the new model's correlation on --sts may lie below the old one's.
    #[arg(long, default_value_t = 0.05)]
    pub max_sts_loss: f64,
    /// How it is done.
    #[command(flatten)]
    pub pace: Pace,
}

/// Flags of `rebuild`.
#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    /// What.
    #[arg(required = true, value_parser = ["users", "items", "graph", "engagement", "neighbours"])]
    pub parts: Vec<String>,
    /// How it is done.
    #[command(flatten)]
    pub pace: Pace,
}

/// Flags of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// Puts right what differs. Without it, a difference ends with exit code 1.
    #[arg(long)]
    pub repair: bool,
    /// Only these: users, items, graph, engagement, neighbours (default: all).
    #[arg(long, value_name = "PART", value_delimiter = ',', value_parser = ["users", "items", "graph", "engagement", "neighbours"])]
    pub parts: Vec<String>,
    /// How it is done.
    #[command(flatten)]
    pub pace: Pace,
}

/// Flags of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The directory that it becomes; it must not be there yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Only these: events (erasures are among them), items, users, profiles, embeddings (default: all).
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = ["events", "items", "users", "profiles", "embeddings"])]
    pub what: Vec<String>,
    /// As what.
    #[arg(long, default_value = "parquet", value_parser = ["parquet", "ndjson"])]
    pub format: String,
    /// How long the time of one directory is.
    #[arg(long, default_value = "month", value_parser = ["day", "month"])]
    pub by: String,
    /// Into how many shards users are cut (default: one for each million events, at most 64).
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,
    /// Megabytes of rows that wait in memory for their files.
    #[arg(long, default_value_t = 64)]
    pub memory_mb: usize,
    /// Replaces the export that is there, once the new one is whole.
    #[arg(long)]
    pub replace: bool,
    /// How it is done.
    #[command(flatten)]
    pub pace: Pace,
}

/// Flags of `aggregate`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("span").required(true).args(["hourly", "daily"]))]
pub struct AggregateArgs {
    /// A row for each item and hour with an engagement.
    #[arg(long)]
    pub hourly: bool,
    /// A row for each item and day (UTC).
    #[arg(long)]
    pub daily: bool,
    /// Counts everything since this time (RFC 3339) anew. Without --since and --until: only what changed, however late.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Counts everything before this time (RFC 3339) anew.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Keeps so many hours as hours, counted back from the newest engagement; what is older is kept by day.
    #[arg(long, value_name = "N")]
    pub keep_hours: Option<u32>,
    /// Changes nothing: prints what is there, a JSON object a row.
    #[arg(long)]
    pub print: bool,
    /// Only whose customers (default: all).
    #[arg(long)]
    pub tenant: Option<String>,
    /// How it is done.
    #[command(flatten)]
    pub pace: Pace,
}

/// Flags of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// `earliest`, a position (embedded: the number of a record; Kafka: offsets such as 0@17,3@44), or a time (RFC 3339; embedded: of
    /// the events themselves, Kafka: of their arrival).
    #[arg(long, value_name = "P")]
    pub from: String,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    /// Whom.
    #[arg(required_unless_present = "list")]
    pub users: Vec<String>,
    /// A file of users, one a line; `tenant<TAB>user` names another tenant.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Whose customers.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Erases nobody: searches every store, index file, cache, log and dead letter for them. Finding something ends with exit code 1.
    #[arg(long)]
    pub verify: bool,
    /// Print receipts as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `runs`.
#[derive(Debug, Clone, Args)]
pub struct RunsArgs {
    /// Only of this job.
    #[arg(long)]
    pub job: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// A JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `schedule`.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// Runs nothing: a line a job, with when it is due next and what came of it last.
    #[arg(long)]
    pub list: bool,
    /// With --list: a JSON object a line.
    #[arg(long, requires = "list")]
    pub json: bool,
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqAction {
    /// One line each.
    List {
        /// Only those whose reason holds this text.
        #[arg(long)]
        reason: Option<String>,
        /// Only those since this time (RFC 3339).
        #[arg(long)]
        since: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// One whole, with its original bytes.
    Show {
        /// As `list` prints it.
        id: String,
        /// Only the original bytes.
        #[arg(long)]
        raw: bool,
    },
    /// Takes them in again; those that still cannot be used stay.
    Redrive {
        /// Only these.
        ids: Vec<String>,
        /// Only those whose reason holds this text.
        #[arg(long)]
        reason: Option<String>,
        /// Only those since this time (RFC 3339).
        #[arg(long)]
        since: Option<String>,
        /// Only those before this time (RFC 3339).
        #[arg(long)]
        until: Option<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// Print the counts as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub enum ModelsAction {
    /// The known ones, and which are here.
    List(JsonArgs),
    /// Fetches one, with its checksum verified.
    Pull {
        /// Its name.
        name: String,
    },
    /// Reads one again and compares its checksums.
    Verify {
        /// Its name.
        name: String,
    },
    /// All that is known of one.
    Info {
        /// Its name.
        name: String,
    },
    /// Makes a small static model out of a BERT model and texts of yours; no network and no accelerator is needed to run it.
    Distill(DistillArgs),
    /// Lets a data directory that holds no data yet begin with this model.
    Use {
        /// Its name.
        name: String,
    },
}

/// Flags of `models distill`.
#[derive(Debug, Args)]
pub struct DistillArgs {
    /// The model to learn from: a known name, or a directory.
    #[arg(long, value_name = "MODEL", default_value = nearcast_embed::registry::DEFAULT_MODEL)]
    pub from: String,
    /// Texts to fit the table to: a file of a text a line (.jsonl: events, whose texts are taken; either may end in .gz), or a
    /// directory of such files. Tens of thousands, as various as what will be embedded.
    #[arg(long, value_name = "FILE", required = true)]
    pub texts: Vec<PathBuf>,
    /// What it is called: letters, digits, dots, dashes.
    #[arg(long)]
    pub name: String,
    /// The directory to write (default: beside the fetched models, where --model and model.name find it by its name).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Length of its vectors; 152 keep 30,522 tokens within 5 MB.
    #[arg(long, default_value_t = 152, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub dimension: u16,
    /// How strongly the table is held to what the model says of each token by itself; a text counts 1.
    #[arg(long, default_value_t = 0.1)]
    pub ridge: f32,
    /// `a` of the weights a/(a + p), with p the share of a token in the texts.
    #[arg(long, default_value_t = 1e-3)]
    pub smoothing: f32,
    /// Rounds of fitting.
    #[arg(long, default_value_t = 40)]
    pub rounds: u16,
    /// A file of the STS benchmark to measure both models on (tab-separated; score in column 5, sentences in 6 and 7).
    #[arg(long, value_name = "FILE")]
    pub sts: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// A file of texts, one a line; - is standard input.
    pub file: PathBuf,
    /// ndjson or npy.
    #[arg(long, default_value = "ndjson", value_parser = ["ndjson", "npy"])]
    pub format: String,
    /// Which model instead of the configured one.
    #[arg(long)]
    pub model: Option<String>,
    /// End standard error with one line of JSON: texts, tokens, seconds without loading.
    #[arg(long)]
    pub stats: bool,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Checks it; silent and 0 when it is sound.
    Check,
    /// Prints it whole, defaults included and secrets hidden.
    Print,
}
