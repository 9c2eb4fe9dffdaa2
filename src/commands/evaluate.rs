//! `nearcast evaluate`: imports events into a directory of its own, asks for recommendations, and compares them with what
//! was chosen next.

use std::time::Instant;

use anyhow::Context;
use futures_util::{StreamExt, stream};
use nearcast_domain::{ItemId, Tenant};
use nearcast_pipelines::evaluate::{Figures, Judge, read_holdout};
use nearcast_serve::{Query, Recommender};
use tokio_util::sync::CancellationToken;

use super::import::import;
use crate::{
    cli::EvaluateArgs,
    config::{Config, StoresConfig},
    progress::Progress,
    wiring::App,
};

/// How many answers are made at a time.
const AT_ONCE: usize = 2;

/// Prints the figures.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub async fn run(args: EvaluateArgs, mut config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let k = usize::from(args.k);
    let holdout = read_holdout(&args.holdout).with_context(|| args.holdout.display().to_string())?;
    let dir = tempfile::Builder::new().prefix("nearcast-evaluate-").tempdir().context("a directory for the evaluation")?;
    config.data_dir = dir.path().to_owned();
    config.stores = StoresConfig::default();
    // Answers are judged by what is in them; how long each took is told beside.
    config.serve.budget_ms = 10_000;
    let app = App::open(config, &cancel).await?;
    let tenant = Tenant::default();
    import(&app, &args.events, tenant.clone(), &cancel).await?;
    anyhow::ensure!(!cancel.is_cancelled(), "interrupted");
    app.settle().await?;
    if args.train {
        let report = tokio::select! {
            report = app.trainer.train(&tenant) => report?,
            () = cancel.cancelled() => anyhow::bail!("interrupted"),
        };
        eprint!("{}", super::train::sentences(&report));
    }
    let recommender = app.recommender()?;
    recommender.notice_trained().await?;
    let catalogue = app.stores.ledger.counts(&tenant).await?.items;
    let progress = Progress::new("evaluating", holdout.len() as u64, false);
    let mut judge = Judge::default();
    let mut answers = stream::iter(&holdout)
        .map(|h| {
            let (recommender, tenant) = (&recommender, &tenant);
            async move {
                let begun = Instant::now();
                let items = recommend(recommender, tenant, h.user_id.as_str(), k).await?;
                anyhow::Ok((h, items, begun.elapsed()))
            }
        })
        .buffered(AT_ONCE);
    let mut done = 0;
    while let Some(answer) = answers.next().await {
        let (h, items, took) = answer?;
        judge.add(h, &items, k, took);
        done += 1;
        progress.at(done, "");
        anyhow::ensure!(!cancel.is_cancelled(), "interrupted");
    }
    drop(answers);
    progress.done("");
    let figures = judge.figures(k, catalogue);
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("{}", table(&figures));
    }
    app.close().await
}

async fn recommend(recommender: &Recommender, tenant: &Tenant, user: &str, k: usize) -> anyhow::Result<Vec<ItemId>> {
    let user = nearcast_domain::UserId::parse(user).map_err(|e| anyhow::anyhow!("user_id {e}"))?;
    let query = Query { k, cache: false, ..Query::default() };
    let answer = recommender.recommend(tenant, &user, &query).await?;
    Ok(answer.recommendations.into_iter().map(|r| r.item_id).collect())
}

fn table(f: &Figures) -> String {
    let k = f.k;
    [
        format!("users      {:>10}\n", f.users),
        format!("NDCG@{k:<5} {:>10.4}\n", f.ndcg),
        format!("HR@{k:<7} {:>10.4}\n", f.hr),
        format!("recall@{k:<3} {:>10.4}\n", f.recall),
        format!("coverage   {:>10.4}\n", f.coverage),
        format!("short      {:>10}\n", f.short),
        format!("p50        {:>7.2} ms\n", f.p50_ms),
        format!("p99        {:>7.2} ms\n", f.p99_ms),
    ]
    .concat()
}
