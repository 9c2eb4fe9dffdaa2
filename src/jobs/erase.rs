//! `nearcast erase`: users forgotten everywhere, with receipts; and a search for what is left of them.
//!
//! An erasure goes through the log like every other event, so that it has its place among the user's others. Receipts hold numbers,
//! never what was erased.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nearcast_domain::{
    Tenant, Timestamp, UserId,
    digest::bucket,
    ports::{Collection, DeadLetterFilter, HistoryLimit, answer_prefix},
};
use serde::Serialize;
use serde_json::json;

use super::{Outcome, Place};
use crate::{cli::EraseArgs, commands};

/// Users in one portion.
const PORTION: usize = 500;
/// How long the worker of another process may take for a portion.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ids shorter than this are found by chance in any file.
const TELLING: usize = 6;
/// Dead letters in one page.
const PAGE: usize = 1000;

/// What stores hold of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
struct Held {
    messages: usize,
    engagements: usize,
    edges: usize,
    profiles: usize,
}

#[derive(Debug, Clone, Serialize)]
struct Receipt {
    tenant: Tenant,
    user: UserId,
    at: Timestamp,
    deleted: Held,
    left: Held,
}

/// Erases, or searches.
pub async fn run(args: &EraseArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let users = users(args, place)?;
    if args.verify { search(&users, place).await } else { erase(&users, place).await }
}

fn users(args: &EraseArgs, place: &Place<'_>) -> anyhow::Result<Vec<(Tenant, UserId)>> {
    let tenant = Tenant::parse(&args.tenant).map_err(|e| anyhow::anyhow!("--tenant {e}"))?;
    let parse = |tenant: &Tenant, id: &str| match UserId::parse(id) {
        Ok(user) => Ok((tenant.clone(), user)),
        Err(e) => Err(anyhow::anyhow!("the user {id:?} {e}")),
    };
    let mut users = args.users.iter().map(|id| parse(&tenant, id)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(list) = &args.list {
        let path = place.base.join(list);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in text.lines().map(|l| l.trim_end_matches('\r')).filter(|l| !l.is_empty()) {
            users.push(match line.split_once('\t') {
                Some((other, id)) => {
                    parse(&Tenant::parse(other).map_err(|e| anyhow::anyhow!("the tenant {other:?} {e}"))?, id)?
                }
                None => parse(&tenant, line)?,
            });
        }
    }
    users.sort();
    users.dedup();
    Ok(users)
}

async fn held(place: &Place<'_>, tenant: &Tenant, user: &UserId) -> anyhow::Result<Held> {
    let (stores, one) = (&place.app.stores, std::slice::from_ref(user));
    let everything = HistoryLimit { engagements: usize::MAX, messages: usize::MAX };
    let history = stores.ledger.histories(tenant, one, everything, None).await?;
    let edges = stores.graph.edges_of_users(tenant, one, usize::MAX).await?;
    let mut profiles = 0;
    for index in revisions(place).await? {
        let found = index.get(tenant, Collection::Users, &[user.as_str().to_owned()]).await?;
        profiles += found.iter().flatten().count();
    }
    Ok(Held {
        messages: history.iter().map(|h| h.messages.len()).sum(),
        engagements: history.iter().map(|h| h.engagements.iter().filter(|e| !e.is_message).count()).sum(),
        edges: edges.iter().map(Vec::len).sum(),
        profiles,
    })
}

/// The index in every revision that is known of.
async fn revisions(place: &Place<'_>) -> anyhow::Result<Vec<Arc<dyn nearcast_domain::ports::VectorRead>>> {
    let vectors = &place.app.stores.vectors;
    let mut names: Vec<String> = vectors.revision().await?.into_iter().collect();
    if let Some(plan) = place.app.plan().await? {
        names.extend([plan.from.revision().to_owned(), plan.to.revision().to_owned()]);
    }
    names.sort();
    names.dedup();
    Ok(names.iter().map(|n| vectors.of_revision(n)).collect())
}

async fn erase(users: &[(Tenant, UserId)], place: &Place<'_>) -> anyhow::Result<Outcome> {
    let app = place.app;
    let mut receipts = Vec::new();
    for portion in users.chunks(PORTION) {
        ensure!(!place.cancel.is_cancelled(), "interrupted; who was erased stays erased, and the same command goes on");
        let at = Timestamp::now();
        let (mut before, mut tokens) = (Vec::new(), Vec::new());
        for (tenant, user) in portion {
            before.push(held(place, tenant, user).await?);
            let event = json!({ "type": "erasure", "tenant": tenant, "user_id": user, "timestamp": at });
            let record = (user.as_str().to_owned(), Arc::from(event.to_string().into_bytes()));
            tokens.push(app.stores.log.sink().publish(tenant, &[record]).await?);
        }
        if !place.live && app.dir.is_some() && !app.config.stores.any_shared() {
            commands::drain(app, &place.cancel).await?;
        }
        let progress = app.stores.log.progress();
        let done = async {
            for token in &tokens {
                progress.reached(token).await?;
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, done).await;
        waited.context("the erasures are in the log, but no worker takes them: start nearcast ingest or nearcast run")??;
        for ((tenant, user), deleted) in portion.iter().zip(before) {
            let left = held(place, tenant, user).await?;
            receipts.push(Receipt { tenant: tenant.clone(), user: user.clone(), at, deleted, left });
        }
        place.out.progress("erased", receipts.len() as u64, users.len() as u64);
    }
    app.stores.compact().await?;
    let left = receipts.iter().filter(|r| r.left != Held::default()).count();
    let text = receipts.iter().map(|r| {
        let d = &r.deleted;
        format!(
            "{} {}/{}: {} messages, {} engagements, {} edges, {} profiles deleted",
            r.at, r.tenant, r.user, d.messages, d.engagements, d.edges, d.profiles
        )
    });
    let text = text.collect();
    // What a user does after their erasure is a new beginning; everything before must be gone.
    let failed = (left > 0).then(|| format!("of {left} users something is there again: they went on after their erasure"));
    let unknown = receipts.iter().filter(|r| r.deleted == Held::default()).count();
    let anomalies: Vec<String> = if unknown > 0 { vec![format!("{unknown} users were not known")] } else { Vec::new() };
    // The receipts are the caller's to keep: what is written down as this run must not name whoever is erased.
    place.out.note(&format!("{} users erased", receipts.len()));
    Ok(Outcome { report: json!({ "receipts": receipts, "anomalies": anomalies }), text, failed })
}

async fn search(users: &[(Tenant, UserId)], place: &Place<'_>) -> anyhow::Result<Outcome> {
    let mut found: Vec<String> = Vec::new();
    for (tenant, user) in users {
        search_stores(place, tenant, user, &mut found).await?;
    }
    search_letters(place, users, &mut found).await?;
    let searched = search_log(place, users, &mut found).await?;
    let files = search_files(place, users, &mut found)?;
    found.sort();
    found.dedup();
    let mut text: Vec<String> = found.clone();
    text.push(format!(
        "searched for {} users: ledger, vectors, graph, engagement, cache, dead letters, {searched}, {files} files: {}",
        users.len(),
        if found.is_empty() { "nothing" } else { "found as told above" }
    ));
    let failed = (!found.is_empty()).then(|| format!("something is left in {} places", found.len()));
    Ok(Outcome { report: json!({ "users": users.len(), "files": files, "found": found, "anomalies": [] }), text, failed })
}

async fn search_stores(place: &Place<'_>, tenant: &Tenant, user: &UserId, found: &mut Vec<String>) -> anyhow::Result<()> {
    let stores = &place.app.stores;
    let h = held(place, tenant, user).await?;
    let mut add = |store: &str, n: usize| {
        if n > 0 {
            found.push(format!("{tenant}/{user}: {n} in {store}"));
        }
    };
    add("the ledger", h.messages + h.engagements);
    add("the graph", h.edges);
    add("the vector index", h.profiles);
    let listed = stores.ledger.users(tenant, user.as_str(), None, 1).await?;
    add("the ledger's users", listed.iter().filter(|u| *u == user).count());
    const RANGES: usize = 4096;
    let counted = stores.engagement.counted_users(tenant, RANGES, &[bucket(user.as_str(), RANGES)]).await?;
    add("engagement totals", counted.iter().filter(|u| *u == user).count());
    let cached = stores.cache.forget(&answer_prefix(tenant, user)).await?;
    add("the cache (now removed)", cached as usize);
    Ok(())
}

async fn search_letters(place: &Place<'_>, users: &[(Tenant, UserId)], found: &mut Vec<String>) -> anyhow::Result<()> {
    let letters = &place.app.stores.dead_letters;
    let mut filter = DeadLetterFilter { limit: PAGE, ..DeadLetterFilter::default() };
    loop {
        let page = letters.list(&filter).await?;
        let Some(last) = page.last() else { return Ok(()) };
        filter.after = Some(last.id.clone());
        for letter in &page {
            for (tenant, user) in users.iter().filter(|(t, _)| *t == letter.tenant) {
                if letter.user.as_ref() == Some(user) || names(&letter.bytes, user) {
                    found.push(format!("{tenant}/{user}: dead letter {}", letter.id));
                }
            }
        }
    }
}

/// Whether JSON, broken or not, names a user as its own.
fn names(bytes: &[u8], user: &UserId) -> bool {
    let quoted = serde_json::to_vec(user).unwrap_or_default();
    !quoted.is_empty() && bytes.windows(quoted.len()).any(|w| w == quoted)
}

/// Answers what was searched.
async fn search_log(place: &Place<'_>, users: &[(Tenant, UserId)], found: &mut Vec<String>) -> anyhow::Result<&'static str> {
    let Some(mut log) = place.app.stores.log.replay("0")? else {
        return Ok("not the log (Kafka removes records by age: its retention bounds them)");
    };
    while let Some(batch) = log.next(PAGE, 8 << 20).await? {
        for record in &batch.records {
            for (tenant, user) in users.iter().filter(|(_, u)| names(&record.bytes, u)) {
                found.push(format!("{tenant}/{user}: {}", record.origin));
            }
        }
    }
    Ok("the log")
}

/// Every file of the data directory, byte by byte. The ledger's own is left out: its record of the erasure names the user, so that they
/// stay erased; and ids too short to tell from chance are not looked for.
fn search_files(place: &Place<'_>, users: &[(Tenant, UserId)], found: &mut Vec<String>) -> anyhow::Result<usize> {
    if place.app.dir.is_none() {
        return Ok(0);
    }
    let telling: Vec<&(Tenant, UserId)> = users.iter().filter(|(_, u)| u.as_str().len() >= TELLING).collect();
    let mut files: Vec<PathBuf> = Vec::new();
    walk(&place.app.config.data_dir, &mut files)?;
    files.retain(|f| {
        let name = f.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        // A job's own request names whom it is about.
        !name.starts_with("ledger.db") && !f.components().any(|c| c.as_os_str() == "jobs")
    });
    for file in &files {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        for (tenant, user) in &telling {
            let id = user.as_str().as_bytes();
            if bytes.windows(id.len()).any(|w| w == id) {
                found.push(format!("{tenant}/{user}: {}", file.display()));
            }
        }
    }
    Ok(files.len())
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
