//! `nearcast train`: learns from the history now, lists what was learned, or goes back.

use anyhow::Context;
use nearcast_domain::{Tenant, ports::ArtefactInfo};
use nearcast_pipelines::train::{Figures, Report, Verdict};
use tokio_util::sync::CancellationToken;

use crate::{cli::TrainArgs, config::Config, wiring::App};

/// Does one of the three.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub async fn run(args: TrainArgs, config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let tenant = Tenant::parse(&args.tenant).map_err(|e| anyhow::anyhow!("--tenant {e}"))?;
    let app = App::open(config, &cancel).await?;
    let text = match (args.list, args.rollback) {
        (true, _) => listed(&app.trainer.list(&tenant).await?, args.json)?,
        (_, true) => {
            let version = app.trainer.roll_back(&tenant).await?;
            match (args.json, version) {
                (true, version) => format!("{}\n", serde_json::json!({ "in_service": version })),
                (false, Some(version)) => format!("version {version} is in service\n"),
                (false, None) => "nothing learned is in service; answers are made with the defaults\n".into(),
            }
        }
        _ => {
            let report = tokio::select! {
                report = app.trainer.train(&tenant) => report?,
                () = cancel.cancelled() => anyhow::bail!("interrupted; what is in service stays"),
            };
            if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { sentences(&report) }
        }
    };
    app.close().await?;
    print!("{text}");
    Ok(())
}

/// What became of a training, in words.
pub fn sentences(report: &Report) -> String {
    let Some(f) = &report.figures else {
        return "there is too little history to learn from; answers are made as before\n".into();
    };
    let verdict = match report.verdict {
        Verdict::Better => "better: it is in service",
        Verdict::Refreshed => "the blend stays, and weights between items were made anew: it is in service",
        Verdict::Kept | Verdict::TooLittle => "not clearly better: what was in service stays",
    };
    let [mean, low, high] = f.difference;
    let version = report.version.map_or_else(String::new, |v| format!("version {v}: "));
    let mut out = format!(
        "{version}{verdict} ({:.1} s)\n{} choices; judged on {} people's next ones (cut by {})\n\
         NDCG@10 before {:.4}, after {:.4}; difference {mean:+.4} ({low:+.4} to {high:+.4})\n",
        report.seconds, f.choices, f.people, f.slices, f.before, f.after
    );
    for s in &f.sources {
        out += &format!("  {:<14} {:.4} ({:.4} to {:.4})\n", s.source, s.ndcg, s.low, s.high);
    }
    let b = &f.blend;
    out += &format!(
        "weights: graph {:.2}, learned {:.2}, next {:.2}, similar_users {:.2}, similar_text {:.2}, trending {:.2}; fading {:.2} and {:.2}\n",
        b.graph, b.learned, b.next, b.similar_users, b.similar_text, b.trending, b.graph_recency, b.learned_recency
    );
    if b.trending_pace > 0.0 || b.trending_taste > 0.0 || b.moment > 0.0 {
        let pace = match b.trending_pace > 0.0 {
            true => format!("fades by half in {} of the history's span", b.trending_pace),
            false => "fades as fits the catalogue".into(),
        };
        out += &format!("trending {pace}; taste {:.2}, moment {:.2}\n", b.trending_taste, b.moment);
    }
    if b.diversity > 0.0 {
        out += &format!("diversity {:.2}: it costs next to nothing here\n", b.diversity);
    }
    out
}

fn listed(all: &[ArtefactInfo], json: bool) -> anyhow::Result<String> {
    let mut out = String::new();
    for a in all {
        if json {
            let line = serde_json::json!({
                "version": a.version, "created": a.created, "digest": a.digest, "in_service": a.in_service, "figures": a.figures,
            });
            out += &format!("{line}\n");
            continue;
        }
        let f: Figures = serde_json::from_value(a.figures.clone()).context("the figures of an artefact")?;
        let mark = if a.in_service { "*" } else { " " };
        out += &format!(
            "{mark} {:>4}  {}  {:?}: NDCG@10 {:.4} before, {:.4} after; {} items, {} choices\n",
            a.version, a.created, f.verdict, f.before, f.after, f.items, f.choices
        );
    }
    if out.is_empty() && !json {
        out = "nothing was learned yet\n".into();
    }
    Ok(out)
}
