//! `nearcast reembed`: another model, without anyone noticing.
//!
//! A plan is written down first, so that every process writes both models' vectors. Then the new revision is filled from the ledger,
//! compared with the old one, and made current by one call to the index: that call is the switch, and all else follows it. Whatever is
//! killed in between is taken up again by the same command, or given up by `--rollback`.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use nearcast_domain::{ErrorKind, ItemId, StoreError, UserId, ports::Embedder};
use nearcast_embed::statics::Pairs;
use nearcast_ingest::Projector;
use nearcast_pipelines::reembed::{Fill, Filled, Parity, parity};
use serde_json::{Value, json};

use super::{Outcome, Place};
use crate::{
    cli::ReembedArgs,
    commands::FOLLOW_EVERY,
    models,
    wiring::{Named, Phase, Plan},
};

/// Users or items whose vectors are written at once.
const PAGE: usize = 256;
/// Until other processes have seen a plan and ended the batches that they had begun before: many times what both take.
const SEEN_BY_ALL: Duration = Duration::from_millis(6 * FOLLOW_EVERY.as_millis() as u64);
/// How often what was missed is looked for before the job goes on: while events come in, some are always on their way.
const ROUNDS: usize = 5;

/// Does what the flags ask for.
pub async fn run(args: &ReembedArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    place.app.follow().await?;
    match &args.model {
        Some(model) => to(args, model, place).await,
        None if args.rollback => rollback(args, place).await,
        None => prune(place).await,
    }
}

async fn to(args: &ReembedArgs, model: &str, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let app = place.app;
    let source = if place.base.join(model).is_dir() { place.base.join(model).display().to_string() } else { model.to_owned() };
    let (target, embedder) = app.revisions.find(&source).await?;
    let from = app.revisions.named();
    let current = app.stores.vectors.revision().await?;
    if from == target || current.as_deref() == Some(target.revision()) {
        let plan = app.plan().await?.filter(|p| p.to.label == target.label && p.phase == Phase::Filling);
        let Some(mut plan) = plan else {
            let text = vec![format!("{} is the model whose vectors are read already", target.label)];
            return Ok(Outcome { report: json!({ "model": target.label, "switched": false }), text, failed: None });
        };
        // Killed between the switch and what follows it.
        plan.phase = Phase::Switched;
        app.set_plan(Some(&plan)).await?;
        let settled = settle(place, args, &embedder).await?;
        let report =
            json!({ "from": plan.from.label, "to": target.label, "switched": true, "settled": settled, "anomalies": [] });
        return Ok(Outcome { report, text: vec![format!("{} is read from now on", target.label)], failed: None });
    }
    let plan = begin(place, from, target).await?;
    phase(place, "filling: vectors are made from the ledger");
    let filled = fill(place, args, &embedder, false).await?;
    if args.fill_only {
        let text = vec![format!(
            "{} vectors made in {} shards; the rest is for a worker without --fill-only",
            filled.vectors, filled.shards
        )];
        return Ok(Outcome { report: json!({ "filled": filled }), text, failed: None });
    }
    phase(place, "projecting: profiles and items are written");
    catch_up(place, args, &embedder).await?;
    phase(place, "comparing: the new revision with the old one");
    compare_and_switch(place, args, plan, &embedder, &filled).await
}

/// Tells what goes on.
fn phase(place: &Place<'_>, what: &str) {
    place.out.note(&format!("phase: {what}"));
}

/// Writes the plan down, or goes on with the one that is there, and waits until everybody writes both revisions.
async fn begin(place: &Place<'_>, from: Named, target: Named) -> anyhow::Result<Plan> {
    let app = place.app;
    let plan = match app.plan().await? {
        Some(plan) if plan.to.label == target.label && plan.phase != Phase::Pruning => Plan { phase: Phase::Filling, ..plan },
        Some(plan) if plan.phase == Phase::Pruning => {
            bail!("what an earlier re-embedding left is being dropped; finish that with nearcast reembed --prune")
        }
        Some(plan) if plan.phase == Phase::Filling => bail!(
            "a re-embedding from {} to {} is under way: go on with it, or give it up with nearcast reembed --rollback",
            plan.from.label,
            plan.to.label
        ),
        Some(plan) => bail!(
            "the vectors of {} are kept beside those of {}; drop what is not read with nearcast reembed --prune first",
            plan.from.label,
            plan.to.label
        ),
        None => Plan { from, to: target, phase: Phase::Filling },
    };
    app.set_plan(Some(&plan)).await?;
    app.follow().await?;
    seen_by_all(place).await;
    Ok(plan)
}

async fn seen_by_all(place: &Place<'_>) {
    if place.app.config.stores.any_shared() {
        tokio::time::sleep(SEEN_BY_ALL).await;
    }
}

async fn fill(place: &Place<'_>, args: &ReembedArgs, embedder: &Arc<dyn Embedder>, again: bool) -> anyhow::Result<Filled> {
    let (app, out) = (place.app, place.out.clone());
    let mut texts = 0;
    // What was missed is little, and how much is not known.
    for tenant in if again { Vec::new() } else { app.stores.ledger.tenants().await? } {
        let counts = app.stores.ledger.counts(&tenant).await?;
        texts += counts.items + counts.events;
    }
    let fill = Fill {
        ledger: app.stores.ledger.clone(),
        embedder: embedder.clone(),
        leases: app.stores.leases.clone(),
        positions: app.stores.positions.clone(),
        // One process has a data directory: whoever comes next takes over what a killed one held, at once.
        holder: if app.config.stores.any_shared() { app.holder.clone() } else { "the data directory".into() },
        only: args.shard.map(usize::from),
        share: place.share(args.pace.share),
        // Of at most so many: engagements have no text.
        progress: Box::new(move |done| out.progress("vectors", done, texts)),
        cancel: place.cancel.clone(),
    };
    Ok(fill.run(again).await?)
}

/// Writes every profile and item of a revision into the index, from the ledger.
async fn project(place: &Place<'_>, projector: &Projector) -> anyhow::Result<u64> {
    let (ledger, mut rows) = (&place.app.stores.ledger, 0);
    for tenant in ledger.tenants().await? {
        let mut after: Option<ItemId> = None;
        loop {
            go_on(place)?;
            let page = ledger.catalogue(&tenant, after.as_ref(), PAGE, None).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.item.item_id.clone());
            let items: Vec<ItemId> = page.iter().map(|s| s.item.item_id.clone()).collect();
            projector.mend_items(&tenant, &items).await?;
            rows += items.len() as u64;
        }
        let mut after: Option<UserId> = None;
        loop {
            go_on(place)?;
            let page = ledger.users(&tenant, "", after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            projector.mend_profiles(&tenant, &page).await?;
            rows += page.len() as u64;
            place.out.progress("profiles", rows, 0);
        }
    }
    Ok(rows)
}

fn go_on(place: &Place<'_>) -> anyhow::Result<()> {
    ensure!(!place.cancel.is_cancelled(), "interrupted; the same command goes on from there");
    Ok(())
}

/// The projector that this process writes a model's revision with, so that both never write the same profile at once.
fn projector(place: &Place<'_>, embedder: &Arc<dyn Embedder>) -> Arc<Projector> {
    let (lanes, revision) = (place.app.worker.lanes(), &embedder.model().revision);
    let own = [Some(&lanes.main), lanes.also.as_ref()].into_iter().flatten().find(|l| l.projector.revision() == revision);
    let projector = own.map_or_else(|| place.app.worker.shadow(embedder), |l| l.projector.clone());
    if place.app.config.stores.any_shared() {
        projector.set_shared();
    }
    projector
}

/// Whatever a worker wrote in one revision alone, before it had seen the plan.
async fn catch_up(place: &Place<'_>, args: &ReembedArgs, embedder: &Arc<dyn Embedder>) -> anyhow::Result<u64> {
    let mut made = 0;
    let all = ReembedArgs { shard: None, ..args.clone() };
    for _ in 0..ROUNDS {
        project(place, &projector(place, embedder)).await?;
        let late = fill(place, &all, embedder, true).await?;
        made += late.vectors;
        if late.vectors == 0 {
            break;
        }
    }
    // A text that was new in the last round may lack its profile's part: the worker that wrote it marks its people stale.
    while place.app.worker.refresh_stale().await? > 0 {}
    Ok(made)
}

/// After the switch: what others wrote until they had seen it.
async fn settle(place: &Place<'_>, args: &ReembedArgs, embedder: &Arc<dyn Embedder>) -> anyhow::Result<u64> {
    place.app.follow().await?;
    seen_by_all(place).await;
    catch_up(place, args, embedder).await
}

async fn compare_and_switch(
    place: &Place<'_>,
    args: &ReembedArgs,
    mut plan: Plan,
    embedder: &Arc<dyn Embedder>,
    filled: &Filled,
) -> anyhow::Result<Outcome> {
    let app = place.app;
    let vectors = &app.stores.vectors;
    let (old, new) = (vectors.of_revision(plan.from.revision()), vectors.of_revision(plan.to.revision()));
    let parity = parity(&*app.stores.ledger, &*old, &*new, args.sample).await?;
    let before = app.revisions.opened(&plan.from).await?;
    let sts = sts(place, args, &before, embedder).await?;
    let refused = gate(args, &parity, sts);
    let mut report = json!({
        "from": plan.from.label, "to": plan.to.label, "filled": filled, "parity": parity,
        "sts": sts.map(|(old, new)| json!({ "old": old, "new": new })),
        "switched": refused.is_empty(), "anomalies": anomalies(filled, &parity, &refused),
    });
    let mut text = vec![format!(
        "{} vectors made; overlap@10 {:.3} over {} rows, profiles {} -> {}, items {} -> {}",
        filled.vectors, parity.overlap, parity.sampled, parity.users.0, parity.users.1, parity.items.0, parity.items.1
    )];
    if !refused.is_empty() {
        let why = format!(
            "not switched: {}; both revisions are kept up to date: change the thresholds, or give it up with --rollback",
            refused.join(", ")
        );
        return Ok(Outcome { report, text, failed: Some(why) });
    }
    go_on(place)?;
    phase(place, "switching");
    // The switch. All of what follows is repeated by whoever comes next.
    app.vectors_told.switch(plan.to.revision()).await?;
    plan.phase = Phase::Switched;
    app.set_plan(Some(&plan)).await?;
    phase(place, "settling: what was written meanwhile");
    report["settled"] = Value::from(settle(place, args, embedder).await?);
    text.push(format!("{} is read from now on; {} is kept for --rollback until --prune", plan.to.label, plan.from.label));
    Ok(Outcome { report, text, failed: None })
}

fn gate(args: &ReembedArgs, p: &Parity, sts: Option<(f64, f64)>) -> Vec<String> {
    let mut refused = Vec::new();
    if p.overlap < args.min_overlap {
        refused.push(format!("overlap@10 is {:.3}, --min-overlap asks for {}", p.overlap, args.min_overlap));
    }
    // While events come in, counts are read one after the other: a hundredth may differ.
    for (what, (old, new)) in [("profiles", p.users), ("items", p.items)] {
        if old.abs_diff(new) > old.max(new) / 100 {
            refused.push(format!("the old revision has {old} {what}, the new one {new}"));
        }
    }
    if p.norms_wrong > 0 {
        refused.push(format!("{} vectors are not of unit length", p.norms_wrong));
    }
    if p.missing > p.sampled / 100 {
        refused.push(format!("{} of the sampled rows are missing", p.missing));
    }
    if let Some((old, new)) = sts.filter(|(old, new)| old - new > args.max_sts_loss) {
        refused.push(format!("the correlation with people falls from {old:.4} to {new:.4}"));
    }
    refused
}

fn anomalies(filled: &Filled, p: &Parity, refused: &[String]) -> Vec<String> {
    let mut all = refused.to_vec();
    if p.users.1 + p.items.1 == 0 {
        all.push("there was nothing to embed".into());
    }
    if filled.vectors > 0 && filled.bytes == 0 {
        all.push("every text was empty".into());
    }
    all
}

/// Both models' correlation with what people say, old and new.
async fn sts(
    place: &Place<'_>,
    args: &ReembedArgs,
    old: &Arc<dyn Embedder>,
    new: &Arc<dyn Embedder>,
) -> anyhow::Result<Option<(f64, f64)>> {
    let Some(file) = &args.sts else { return Ok(None) };
    let (file, config) = (place.base.join(file), place.app.config.model.clone());
    let names = [old.model().name.clone(), new.model().name.clone()];
    let sources = [place.app.plan().await?.map(|p| p.from.source).unwrap_or_default(), args.model.clone().unwrap_or_default()];
    let work = move || {
        let pairs = Pairs::read(&file).with_context(|| file.display().to_string())?;
        let mut found = [0.0; 2];
        for ((name, source), found) in names.iter().zip(&sources).zip(&mut found) {
            let source = if source.is_empty() { name } else { source };
            *found = pairs.spearman(&models::load(&config, Some(source))?, 1)?;
        }
        anyhow::Ok((found[0], found[1]))
    };
    Ok(Some(tokio::task::spawn_blocking(work).await??))
}

async fn rollback(args: &ReembedArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let app = place.app;
    let Some(mut plan) = app.plan().await? else { bail!("there is no re-embedding to take back") };
    let current = app.stores.vectors.revision().await?;
    if current.as_deref() == Some(plan.to.revision()) {
        ensure!(plan.phase != Phase::Pruning, "the vectors of {} are being dropped already", plan.from.label);
        let before = app.revisions.opened(&plan.from).await?;
        catch_up(place, args, &before).await?;
        app.vectors_told.switch(plan.from.revision()).await?;
        plan.phase = Phase::RolledBack;
        app.set_plan(Some(&plan)).await?;
        let settled = settle(place, args, &before).await?;
        let text = vec![format!("{} is read again; {} is kept until --prune", plan.from.label, plan.to.label)];
        let report =
            json!({ "from": plan.to.label, "to": plan.from.label, "switched": true, "settled": settled, "anomalies": [] });
        return Ok(Outcome { report, text, failed: None });
    }
    let dropped = drop_unread(place, &mut plan).await?;
    let text = vec![format!(
        "given up: {dropped} vectors of {} are dropped; {} was read all the time",
        plan.to.label, plan.from.label
    )];
    Ok(Outcome { report: json!({ "dropped": dropped, "switched": false, "anomalies": [] }), text, failed: None })
}

async fn prune(place: &Place<'_>) -> anyhow::Result<Outcome> {
    let Some(mut plan) = place.app.plan().await? else {
        let text = vec!["there is nothing to drop".to_owned()];
        return Ok(Outcome { report: json!({ "dropped": 0, "anomalies": [] }), text, failed: None });
    };
    ensure!(plan.phase != Phase::Filling, "the re-embedding to {} is not done; give it up with --rollback", plan.to.label);
    let dropped = drop_unread(place, &mut plan).await?;
    let text = vec![format!("{dropped} vectors of the revision that nobody reads are dropped")];
    Ok(Outcome { report: json!({ "dropped": dropped, "anomalies": [] }), text, failed: None })
}

/// Drops whichever revision of a plan is not current, and the plan.
async fn drop_unread(place: &Place<'_>, plan: &mut Plan) -> anyhow::Result<u64> {
    let app = place.app;
    let current = app.stores.vectors.revision().await?;
    let unread = [&plan.from, &plan.to].into_iter().find(|n| Some(n.revision()) != current.as_deref()).cloned();
    let Some(unread) = unread else { bail!("both models of the plan are one") };
    phase(place, "pruning: the revision that nobody reads");
    plan.phase = Phase::Pruning;
    app.set_plan(Some(plan)).await?;
    app.follow().await?;
    seen_by_all(place).await;
    match app.vectors_told.drop_revision(unread.revision()).await {
        Err(StoreError { kind: ErrorKind::Invalid, message, .. }) => bail!(message),
        done => done?,
    }
    let dropped = app.stores.ledger.drop_vectors(unread.revision()).await?;
    for named in [&plan.from, &plan.to] {
        Fill::forget(&*app.stores.positions, named.revision()).await?;
    }
    app.set_plan(None).await?;
    app.stores.vectors.checkpoint().await?;
    Ok(dropped)
}
