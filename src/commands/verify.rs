//! `nearcast verify`: a digest of every store, and one of all.

use tokio_util::sync::CancellationToken;

use crate::{cli::JsonArgs, config::Config, wiring::App};

/// Finishes work that an interrupted process left behind first, so that the digests depend on the facts alone.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub async fn run(args: JsonArgs, config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let app = App::open(config, &cancel).await?;
    app.settle().await?;
    let d = nearcast_pipelines::verify::verify(
        &*app.stores.ledger,
        &*app.stores.vectors,
        &*app.stores.graph,
        &*app.stores.engagement,
    )
    .await?;
    if args.json {
        println!("{}", serde_json::to_string(&d)?);
    } else {
        for s in &d.stores {
            println!("{:<12} {} {:>10} rows", s.store, s.digest, s.rows);
        }
        println!("{:<12} {}", "all", d.all);
    }
    app.close().await
}
