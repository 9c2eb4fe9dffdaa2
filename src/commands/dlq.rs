//! `nearcast dlq list|show|redrive`.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex},
};

use anyhow::{Context, bail};
use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Tenant, Timestamp, UserId,
    decode::MAX_RECORD_BYTES,
    ports::{DeadLetter, DeadLetterFilter, DeadLetters, EventSource, Record, SourceBatch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::DlqAction,
    config::{Config, LogBackend},
    data_dir::DataDir,
    wiring,
};

/// How many letters are taken at a time.
const PAGE: usize = 1000;
/// How much of a letter's bytes a listing shows.
const SHOWN: usize = 80;

/// Listing and showing need no model and change nothing.
pub async fn run(action: DlqAction, config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    match action {
        DlqAction::List { reason, since, limit, json } => {
            let (_dir, letters) = open(&config).await?;
            list(&*letters, filter(reason, since.as_deref())?, limit, json).await
        }
        DlqAction::Show { id, raw } => {
            let (_dir, letters) = open(&config).await?;
            let letter =
                letters.get(&id).await?.with_context(|| format!("there is no dead letter {id}; see nearcast dlq list"))?;
            show(&letter, raw)
        }
        DlqAction::Redrive { ids, reason, since, until, all, json } => {
            if ids.is_empty() && reason.is_none() && since.is_none() && until.is_none() && !all {
                bail!("which letters? name their ids, or give --reason, --since, --until or --all");
            }
            let until = until.as_deref().map(Timestamp::parse).transpose().map_err(|e| anyhow::anyhow!("--until {e}"))?;
            redrive(config, &ids, filter(reason, since.as_deref())?, until, json, &cancel).await
        }
    }
}

/// The letters, and the directory that they lie in, if they do.
async fn open(config: &Config) -> anyhow::Result<(Option<DataDir>, Arc<dyn DeadLetters>)> {
    let dir = (config.stores.log == LogBackend::Embedded).then(|| DataDir::open(&config.data_dir)).transpose()?;
    Ok((dir, wiring::dead_letters(config, &config.data_dir).await?))
}

fn filter(reason: Option<String>, since: Option<&str>) -> anyhow::Result<DeadLetterFilter> {
    let since = since.map(Timestamp::parse).transpose().map_err(|e| anyhow::anyhow!("--since {e}"))?;
    Ok(DeadLetterFilter { reason, since, after: None, limit: PAGE })
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
async fn list(letters: &dyn DeadLetters, mut filter: DeadLetterFilter, limit: usize, json: bool) -> anyhow::Result<()> {
    let mut left = limit;
    while left > 0 {
        filter.limit = left.min(PAGE);
        let page = letters.list(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id.clone());
        left -= page.len();
        for l in &page {
            let bytes = String::from_utf8_lossy(&l.bytes);
            if json {
                println!(
                    "{}",
                    serde_json::json!({"id": l.id, "at": l.at, "tenant": l.tenant, "reason": l.reason, "origin": l.origin, "bytes": bytes})
                );
            } else {
                let start: String = bytes.chars().take(SHOWN).map(|c| if c.is_control() { '·' } else { c }).collect();
                println!("{}  {}  {}  [{}]  {start}", l.id, l.at, l.reason, l.origin);
            }
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
fn show(l: &DeadLetter, raw: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if !raw {
        writeln!(
            out,
            "id      {}\nat      {}\ntenant  {}\nreason  {}\norigin  {}\n",
            l.id, l.at, l.tenant, l.reason, l.origin
        )?;
    }
    out.write_all(&l.bytes)?;
    if !raw {
        writeln!(out)?;
    }
    Ok(())
}

/// Takes letters in again. One that fails in the same way stays as it is; the others go.
#[allow(clippy::print_stdout, reason = "the result of the command")]
async fn redrive(
    config: Config,
    ids: &[String],
    mut filter: DeadLetterFilter,
    until: Option<Timestamp>,
    json: bool,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let kept: Arc<Kept> = Arc::new(Kept::default());
    let app =
        wiring::App::open_with(config, wiring::Purpose::Work, cancel, |real| Arc::new(Recording { real, kept: kept.clone() }))
            .await?;
    let (mut taken, mut gone) = (0, 0);
    loop {
        let mut page = if ids.is_empty() {
            app.stores.dead_letters.list(&filter).await?
        } else {
            let mut some = Vec::new();
            for id in ids {
                let letter = app.stores.dead_letters.get(id).await?;
                some.push(letter.with_context(|| format!("there is no dead letter {id}; see nearcast dlq list"))?);
            }
            some
        };
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id.clone());
        // Letters come by time: behind the first that is too new are none.
        let before = page.len();
        page.retain(|l| until.is_none_or(|t| l.at < t));
        let last_page = page.len() < before;
        // Of a record that was too long only the beginning is kept: it cannot be taken in.
        let whole: Vec<&DeadLetter> = page.iter().filter(|l| l.bytes.len() < MAX_RECORD_BYTES).collect();
        taken += page.len();
        let mut source = Letters(Some(whole.iter().map(|l| record(l)).collect()));
        app.worker.run(&mut source, cancel).await?;
        anyhow::ensure!(!cancel.is_cancelled(), "interrupted; every letter is either taken in or still here");
        let still = kept.take();
        let done: Vec<String> = whole.iter().map(|l| l.id.clone()).filter(|id| !still.contains(id)).collect();
        app.stores.dead_letters.remove(&done).await?;
        gone += done.len();
        if !ids.is_empty() || last_page {
            break;
        }
    }
    app.settle().await?;
    if json {
        println!("{}", serde_json::json!({"letters": taken, "taken_in": gone, "stay": taken - gone}));
        return app.close().await;
    }
    println!("{gone} of {taken} letters taken in; {} cannot be used and stay", taken - gone);
    app.close().await
}

fn record(l: &DeadLetter) -> Record {
    Record { bytes: l.bytes.clone(), tenant: l.tenant.clone(), origin: l.origin.clone(), ..Record::default() }
}

/// Letters as a source: one batch.
struct Letters(Option<Vec<Record>>);

#[async_trait]
impl EventSource for Letters {
    async fn next(&mut self, _: usize, _: usize) -> StoreResult<Option<SourceBatch>> {
        Ok(self.0.take().filter(|r| !r.is_empty()).map(|records| SourceBatch { records, ..SourceBatch::default() }))
    }

    async fn commit(&mut self, _: &str) -> StoreResult<()> {
        Ok(())
    }
}

/// The ids of letters that were put while redriving.
#[derive(Default)]
pub struct Kept(Mutex<BTreeSet<String>>);

impl Kept {
    fn note(&self, letters: &[DeadLetter]) {
        if let Ok(mut ids) = self.0.lock() {
            ids.extend(letters.iter().map(|l| l.id.clone()));
        }
    }

    fn take(&self) -> BTreeSet<String> {
        self.0.lock().map(|mut ids| std::mem::take(&mut *ids)).unwrap_or_default()
    }
}

/// Dead letters that remember what is put.
struct Recording {
    real: Arc<dyn DeadLetters>,
    kept: Arc<Kept>,
}

#[async_trait]
impl DeadLetters for Recording {
    async fn put(&self, letters: &[DeadLetter]) -> StoreResult<()> {
        self.kept.note(letters);
        self.real.put(letters).await
    }

    async fn list(&self, filter: &DeadLetterFilter) -> StoreResult<Vec<DeadLetter>> {
        self.real.list(filter).await
    }

    async fn get(&self, id: &str) -> StoreResult<Option<DeadLetter>> {
        self.real.get(id).await
    }

    async fn remove(&self, ids: &[String]) -> StoreResult<()> {
        self.real.remove(ids).await
    }

    async fn count(&self) -> StoreResult<u64> {
        self.real.count().await
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.real.erase(tenant, user).await
    }
}
