//! `nearcast evaluate`: imports events into a directory of its own, asks for recommendations, and compares them with what
//! was chosen next.

use std::time::Instant;

use anyhow::Context;
use futures_util::{StreamExt, stream};
use nearcast_domain::{ItemId, Tenant, candidate::Source};
use nearcast_pipelines::evaluate::{Figures, Holdout, Judge, Shelf, read_holdout};
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
    let catalogue = app.stores.ledger.counts(&tenant).await?.items;
    let test = Test {
        shelf: shelf(&app, &tenant).await?,
        app: &app,
        tenant: &tenant,
        holdout: &holdout,
        k,
        catalogue,
        cancel: &cancel,
    };
    let mut by_source = Vec::new();
    if args.sources {
        for source in [Source::Graph, Source::SimilarUsers, Source::SimilarText, Source::Trending] {
            by_source.push((source, test.run(Some(source)).await?));
        }
    }
    let mut before = None;
    let mut trained = None;
    if args.train {
        before = Some(test.run(None).await?);
        let report = tokio::select! {
            report = app.trainer.train(&tenant) => report?,
            () = cancel.cancelled() => anyhow::bail!("interrupted"),
        };
        eprint!("{}", super::train::sentences(&report));
        let current = app.trainer.current(&tenant).await?;
        for source in [Source::Learned, Source::Next] {
            if args.sources && current.as_ref().is_some_and(|l| l.blend.of(source) > 0.0) {
                by_source.push((source, test.run(Some(source)).await?));
            }
        }
        trained = Some(report);
    }
    let figures = test.run(None).await?;
    if args.json {
        let mut out = serde_json::to_value(&figures)?;
        if let (Some(before), Some(trained)) = (&before, &trained) {
            out["before"] = serde_json::to_value(before)?;
            out["train"] = serde_json::to_value(trained)?;
        }
        if args.sources {
            out["sources"] = by_source
                .iter()
                .map(|(s, f)| Ok((s.name().to_owned(), serde_json::to_value(f)?)))
                .collect::<anyhow::Result<serde_json::Map<_, _>>>()?
                .into();
        }
        println!("{out}");
    } else {
        print!("{}", table(&figures));
        let rows = by_source.iter().map(|(s, f)| (s.name(), f));
        let rows: Vec<(&str, &Figures)> =
            rows.chain(before.as_ref().map(|b| ("untrained", b))).chain([("all", &figures)]).collect();
        if rows.len() > 1 {
            print!("{}", comparison(k, &rows));
        }
    }
    app.close().await
}

/// What is measured, and on whom.
struct Test<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    holdout: &'a [Holdout],
    k: usize,
    catalogue: u64,
    shelf: Shelf,
    cancel: &'a CancellationToken,
}

impl Test<'_> {
    /// The figures of everything together, or of one source by itself.
    async fn run(&self, alone: Option<Source>) -> anyhow::Result<Figures> {
        let mut config = self.app.config.serve.clone();
        if let Some(source) = alone {
            let w = &mut config.weights;
            for (of, weight) in [
                (Source::Graph, &mut w.graph),
                (Source::Learned, &mut w.learned),
                (Source::Next, &mut w.next),
                (Source::SimilarUsers, &mut w.similar_users),
                (Source::SimilarText, &mut w.similar_text),
                (Source::Trending, &mut w.trending),
            ] {
                if of != source {
                    *weight = 0.0;
                }
            }
        }
        let recommender = Recommender::new(self.app.serve_stores(), config)?;
        recommender.notice_trained().await?;
        let progress = Progress::new(alone.map_or("evaluating", Source::name), self.holdout.len() as u64, false);
        let mut judge = Judge::default();
        let mut answers = stream::iter(self.holdout)
            .map(|h| {
                let recommender = &recommender;
                async move {
                    let begun = Instant::now();
                    let items = recommend(recommender, self.tenant, h.user_id.as_str(), self.k).await?;
                    anyhow::Ok((h, items, begun.elapsed()))
                }
            })
            .buffered(AT_ONCE);
        let mut done = 0;
        while let Some(answer) = answers.next().await {
            let (h, items, took) = answer?;
            judge.add(h, &items, self.k, took, &self.shelf);
            done += 1;
            progress.at(done, "");
            anyhow::ensure!(!self.cancel.is_cancelled(), "interrupted");
        }
        drop(answers);
        progress.done("");
        Ok(judge.figures(self.k, self.catalogue))
    }
}

/// What is known of items.
async fn shelf(app: &App, tenant: &Tenant) -> anyhow::Result<Shelf> {
    const PAGE: usize = 1_000;
    let mut shelf = Shelf::default();
    let edges = app.stores.graph.scan(tenant).await?;
    shelf.people = edges.iter().map(|e| &e.user).collect::<std::collections::BTreeSet<_>>().len();
    for e in edges {
        *shelf.fans.entry(e.item).or_default() += 1;
    }
    let revision = app.embedder.model().revision.clone();
    let mut after = None;
    loop {
        let page = app.stores.ledger.catalogue(tenant, after.as_ref(), PAGE, Some(&revision)).await?;
        let whole = page.len() == PAGE;
        after = page.last().map(|s| s.item.item_id.clone());
        shelf.texts.extend(page.into_iter().filter_map(|s| Some((s.item.item_id, s.vector?))));
        if !whole {
            return Ok(shelf);
        }
    }
}

/// Several of them, a line each.
fn comparison(k: usize, rows: &[(&str, &Figures)]) -> String {
    let mut out = format!(
        "\n{:<14} {:>8} {:>17} {:>7} {:>9} {:>8} {:>10} {:>6}\n",
        "",
        format!("NDCG@{k}"),
        "95 %",
        format!("HR@{k}"),
        "coverage",
        "novelty",
        "diversity",
        "cold"
    );
    for (name, f) in rows {
        let bounds = format!("{:.4} to {:.4}", f.ndcg_low, f.ndcg_high);
        out += &format!(
            "{name:<14} {:>8.4} {bounds:>17} {:>7.4} {:>9.4} {:>8.2} {:>10.3} {:>6.3}\n",
            f.ndcg, f.hr, f.coverage, f.novelty, f.diversity, f.cold
        );
    }
    out
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
        format!("NDCG@{k:<5} {:>10.4}  ({:.4} to {:.4})\n", f.ndcg, f.ndcg_low, f.ndcg_high),
        format!("HR@{k:<7} {:>10.4}\n", f.hr),
        format!("recall@{k:<3} {:>10.4}\n", f.recall),
        format!("coverage   {:>10.4}\n", f.coverage),
        format!("short      {:>10}\n", f.short),
        format!("p50        {:>7.2} ms\n", f.p50_ms),
        format!("p99        {:>7.2} ms\n", f.p99_ms),
    ]
    .concat()
}
