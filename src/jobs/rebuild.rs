//! `nearcast rebuild` and `nearcast reconcile`.
//!
//! No projection but the neighbour lists has a shadow of the same revision: rows are written over where they are wrong, while requests
//! find every other one. Lists are replaced in one step.

use std::sync::Arc;

use nearcast_pipelines::reconcile::{Options, Part, PartReport, Reconcile};
use serde_json::json;

use super::{Outcome, Place, truth::Projected};
use crate::cli::{RebuildArgs, ReconcileArgs};

/// Writes projections anew.
pub async fn rebuild(args: &RebuildArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let options = Options { repair: true, everything: true, share: place.share(args.pace.share) };
    let reports = compare(place, &parts(&args.parts), options).await?;
    place.app.stores.vectors.checkpoint().await?;
    Ok(outcome(&reports, true))
}

/// Compares projections with the ledger, and puts them right where that is asked for.
pub async fn reconcile(args: &ReconcileArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let options = Options { repair: args.repair, everything: false, share: place.share(args.pace.share) };
    let parts = if args.parts.is_empty() { Part::ALL.to_vec() } else { parts(&args.parts) };
    // What is only late is not wrong.
    while place.app.worker.refresh_stale().await? > 0 {}
    if !place.live && parts.contains(&Part::Neighbours) {
        place.app.upkeep.pass().await?;
    }
    let reports = compare(place, &parts, options).await?;
    Ok(outcome(&reports, args.repair))
}

fn parts(names: &[String]) -> Vec<Part> {
    names.iter().filter_map(|n| Part::parse(n)).collect()
}

async fn compare(place: &Place<'_>, parts: &[Part], options: Options) -> anyhow::Result<Vec<PartReport>> {
    let (app, out) = (place.app, place.out.clone());
    let job = Reconcile {
        ledger: app.stores.ledger.clone(),
        truth: Arc::new(Projected(app.worker.lanes().main.projector.clone())),
        vectors: app.stores.vectors.clone(),
        graph: app.graph_told.clone(),
        engagement: app.stores.engagement.clone(),
        neighbours: app.config.upkeep.neighbours.clone(),
        options,
        progress: Box::new(move |what, done| out.progress(what, done, 0)),
        cancel: place.cancel.clone(),
    };
    Ok(job.run(parts).await?)
}

fn outcome(reports: &[PartReport], repaired: bool) -> Outcome {
    let mut text = Vec::new();
    for r in reports {
        let state = match (r.wrong, repaired) {
            (0, _) => "right".to_owned(),
            (n, true) => format!("{n} wrong, put right"),
            (n, false) => format!("{n} wrong"),
        };
        text.push(format!(
            "{:<11} {:<16} {:>9} rows, {:>5} of {} ranges differ, {:>7} rows read: {state}",
            r.part.name(),
            r.tenant.as_str(),
            r.rows,
            r.ranges_different,
            r.ranges,
            r.rows_read
        ));
    }
    let wrong: u64 = reports.iter().filter(|r| !r.is_right()).map(|r| r.wrong).sum();
    let failed =
        (wrong > 0).then(|| format!("{wrong} rows differ from the ledger; put them right with nearcast reconcile --repair"));
    let empty = reports.iter().all(|r| r.rows == 0);
    let anomalies: Vec<&str> = if empty { vec!["there was nothing to compare"] } else { Vec::new() };
    Outcome { report: json!({ "parts": reports, "anomalies": anomalies }), text, failed }
}
