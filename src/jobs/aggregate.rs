//! `nearcast aggregate`: engagement by hour or by day, for whoever reports and charts.

use anyhow::ensure;
use nearcast_domain::{Tenant, Timestamp};
use nearcast_pipelines::aggregate::{Aggregate, Span, Window};
use serde_json::json;

use super::{Outcome, Place};
use crate::cli::AggregateArgs;

/// Brings the aggregates of every tenant up to date.
pub async fn run(args: &AggregateArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let time = |flag: &str, text: &Option<String>| {
        text.as_deref().map(Timestamp::parse).transpose().map_err(|e| anyhow::anyhow!("{flag} {e}"))
    };
    let window = Window { since: time("--since", &args.since)?, until: time("--until", &args.until)? };
    let stores = &place.app.stores;
    let tenants = match &args.tenant {
        Some(name) => vec![Tenant::parse(name).map_err(|e| anyhow::anyhow!("--tenant {e}"))?],
        None => stores.ledger.tenants().await?,
    };
    let span = if args.daily { Span::Day } else { Span::Hour };
    if args.print {
        ensure!(args.keep_hours.is_none(), "--print changes nothing: leave --keep-hours out");
        for tenant in &tenants {
            print(place, tenant, span, &window).await?;
        }
        return Ok(Outcome { report: json!({ "anomalies": [] }), text: Vec::new(), failed: None });
    }
    let told = place.out.clone();
    let job = Aggregate {
        engagement: stores.engagement.clone(),
        positions: stores.positions.clone(),
        span,
        window,
        keep_hours: args.keep_hours,
        share: place.share(args.pace.share),
        progress: Box::new(move |rows| told.progress("rows", rows, 0)),
        cancel: place.cancel.clone(),
    };
    let mut reports = Vec::new();
    for tenant in &tenants {
        reports.push(job.run(tenant).await?);
    }
    let text = reports.iter().map(|r| {
        format!(
            "{:<16} {:>9} rows of {} written, {} removed, {} of hours folded into days: {} events",
            r.tenant.as_str(),
            r.written,
            span.name(),
            r.removed,
            r.folded,
            r.events
        )
    });
    let text = text.collect();
    let anomalies: Vec<&str> =
        if reports.iter().all(|r| r.events == 0) { vec!["there was nothing to count"] } else { Vec::new() };
    Ok(Outcome { report: json!({ "span": span.name(), "tenants": reports, "anomalies": anomalies }), text, failed: None })
}

/// The rows of a window, a line each.
async fn print(place: &Place<'_>, tenant: &Tenant, span: Span, window: &Window) -> anyhow::Result<()> {
    const PAGE: usize = 10_000;
    let (mut after, hours) = (None, window.hours());
    loop {
        let page = place.app.stores.engagement.aggregates(tenant, span, hours.clone(), after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.start, last.item.clone()));
        for row in &page {
            let start = Timestamp::from_millis(row.start * nearcast_domain::time::HOUR_MS);
            place.out.line(
                &json!({ "tenant": tenant, "span": span.name(), "start": start, "item_id": row.item, "events": row.events,
                         "users": row.users, "weight": row.weight })
                .to_string(),
            );
        }
    }
}
