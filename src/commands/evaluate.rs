//! `nearcast evaluate`: imports events into a directory of its own, asks for recommendations, and compares them with what
//! was chosen next.

use std::time::Instant;

use anyhow::Context;
use futures_util::{StreamExt, stream};
use nearcast_domain::{
    ItemId, Tenant,
    candidate::Source,
    learned::{GROUPS, group_of},
};
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
        groups: groups(&app, &tenant, &holdout).await?,
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
            by_source.push((source, test.run(Some(source)).await?.0));
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
                by_source.push((source, test.run(Some(source)).await?.0));
            }
        }
        trained = Some(report);
    }
    let (figures, by_group) = test.run(None).await?;
    if args.json {
        let mut out = serde_json::to_value(&figures)?;
        if let (Some(before), Some(trained)) = (&before, &trained) {
            out["before"] = serde_json::to_value(&before.0)?;
            out["train"] = serde_json::to_value(trained)?;
        }
        out["groups"] = GROUPS
            .iter()
            .zip(&by_group)
            .map(|(g, f)| Ok(((*g).to_owned(), serde_json::to_value(f)?)))
            .collect::<anyhow::Result<serde_json::Map<_, _>>>()?
            .into();
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
        let mut rows: Vec<(String, &Figures)> = by_source.iter().map(|(s, f)| (s.name().to_owned(), f)).collect();
        let wholes = before.iter().map(|(b, groups)| ("untrained", b, groups)).chain([("all", &figures, &by_group)]);
        for (name, whole, groups) in wholes {
            rows.push((name.to_owned(), whole));
            // Of people, by how many items they have.
            let some = GROUPS.iter().zip(groups).filter(|(_, f)| f.users > 0 && f.users < whole.users);
            rows.extend(some.map(|(group, f)| (format!("  {group} items"), f)));
        }
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
    /// By person of the holdout, which group they are of: by how many items they have.
    groups: Vec<usize>,
    cancel: &'a CancellationToken,
}

impl Test<'_> {
    /// The figures of everything together, or of one source by itself; and the same by group of people.
    async fn run(&self, alone: Option<Source>) -> anyhow::Result<(Figures, Vec<Figures>)> {
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
        let (mut judge, mut by_group) = (Judge::default(), GROUPS.map(|_| Judge::default()));
        let mut answers = stream::iter(self.holdout.iter().zip(&self.groups))
            .map(|(h, group)| {
                let recommender = &recommender;
                async move {
                    let begun = Instant::now();
                    let items = recommend(recommender, self.tenant, h.user_id.as_str(), self.k).await?;
                    anyhow::Ok((h, *group, items, begun.elapsed()))
                }
            })
            .buffered(AT_ONCE);
        let mut done = 0;
        while let Some(answer) = answers.next().await {
            let (h, group, items, took) = answer?;
            judge.add(h, &items, self.k, took, &self.shelf);
            by_group[group].add(h, &items, self.k, took, &self.shelf);
            done += 1;
            progress.at(done, "");
            anyhow::ensure!(!self.cancel.is_cancelled(), "interrupted");
        }
        drop(answers);
        progress.done("");
        let figures = |judge: Judge| judge.figures(self.k, self.catalogue);
        Ok((figures(judge), by_group.into_iter().map(figures).collect()))
    }
}

/// Of each person, their group.
async fn groups(app: &App, tenant: &Tenant, holdout: &[Holdout]) -> anyhow::Result<Vec<usize>> {
    const PAGE: usize = 500;
    /// As many as the last group asks for.
    const MOST: usize = 21;
    let mut out = Vec::with_capacity(holdout.len());
    for some in holdout.chunks(PAGE) {
        let users: Vec<_> = some.iter().map(|h| h.user_id.clone()).collect();
        let edges = app.stores.graph.edges_of_users(tenant, &users, MOST).await?;
        out.extend(edges.iter().map(|e| group_of(e.len())));
    }
    Ok(out)
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
fn comparison(k: usize, rows: &[(String, &Figures)]) -> String {
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
