//! `nearcast replay`: the log again from a place on. Every fact is known already, so nothing changes where nothing was lost.

use anyhow::{bail, ensure};
use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Timestamp,
    decode::{Context, decode},
    ports::{EventSource, SourceBatch},
};
use serde_json::json;

use super::{Outcome, Place};
use crate::{cli::ReplayArgs, commands};

/// Tells the log again.
pub async fn run(args: &ReplayArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let (app, from) = (place.app, args.from.as_str());
    if place.live {
        bail!("one worker has all of a user: stop the process that has this data directory first");
    }
    let since = Timestamp::parse(from).ok();
    let position = if from == "earliest" || since.is_some() { "0" } else { from };
    let before = *app.worker.totals().borrow();
    match app.stores.log.replay(position)? {
        Some(log) => {
            let mut source = Since { log, since };
            app.worker.run(&mut source, &place.cancel).await?;
        }
        None => {
            app.stores.log.rewind(from).await?;
            commands::drain(app, &place.cancel).await?;
        }
    }
    ensure!(!place.cancel.is_cancelled(), "interrupted; the same command begins again, which does no harm");
    app.settle().await?;
    let after = *app.worker.totals().borrow();
    let (records, new) = (after.records - before.records, after.new - before.new);
    let report = json!({
        "records": records, "new": new, "duplicates": after.duplicates - before.duplicates,
        "rejected": after.rejected - before.rejected, "erased": after.erased - before.erased,
        "anomalies": if records == 0 { vec!["the log had nothing from there on"] } else { Vec::new() },
    });
    let text = vec![format!("{records} records told again, {new} of them were not known")];
    Ok(Outcome { report, text, failed: None })
}

/// Only events of this time or later, and what is no event.
struct Since {
    log: Box<dyn EventSource>,
    since: Option<Timestamp>,
}

#[async_trait]
impl EventSource for Since {
    async fn next(&mut self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>> {
        let mut batch = self.log.next(max_records, max_bytes).await?;
        if let (Some(since), Some(batch)) = (self.since, &mut batch) {
            let context = Context::stored(Timestamp::now());
            batch.records.retain(|r| {
                let at = decode(&r.bytes, &context).ok().and_then(|e| time_of(&e));
                at.is_none_or(|t| t >= since)
            });
        }
        Ok(batch)
    }

    async fn commit(&mut self, position: &str) -> StoreResult<()> {
        self.log.commit(position).await
    }
}

fn time_of(event: &nearcast_domain::Event) -> Option<Timestamp> {
    use nearcast_domain::Event;
    match event {
        Event::Message(e) => Some(e.timestamp),
        Event::Engagement(e) => Some(e.timestamp),
        Event::Erasure(e) => Some(e.timestamp),
        Event::Item(e) => e.timestamp,
    }
}
