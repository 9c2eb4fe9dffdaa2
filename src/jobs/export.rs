//! `nearcast export`: everything the ledger holds as files for a warehouse, or for another instance.

use anyhow::{Context as _, ensure};
use nearcast_pipelines::transfer::{Cut, Encoding, Export, Options, What};
use serde_json::json;

use super::{Outcome, Place};
use crate::cli::ExportArgs;

/// Writes the directory.
pub async fn run(args: &ExportArgs, place: &Place<'_>) -> anyhow::Result<Outcome> {
    let app = place.app;
    let out = place.base.join(&args.out);
    let what = match args.what.is_empty() {
        true => What::ALL.to_vec(),
        false => What::ALL.into_iter().filter(|w| args.what.iter().any(|name| What::parse(name) == Some(*w))).collect(),
    };
    ensure!(args.memory_mb > 0, "--memory-mb must be above 0");
    let options = Options {
        what,
        encoding: if args.format == "parquet" { Encoding::Parquet } else { Encoding::Ndjson },
        cut: if args.by == "day" { Cut::Day } else { Cut::Month },
        shards: args.shards.map(usize::from),
        memory: args.memory_mb << 20,
        share: place.share(args.pace.share),
        replace: args.replace,
    };
    // Vectors are those of the revision that is read at the beginning, whatever becomes current meanwhile.
    let named = app.revisions.named();
    let embedder = app.revisions.opened(&named).await?;
    let told = place.out.clone();
    let export = Export {
        ledger: app.stores.ledger.clone(),
        vectors: app.stores.vectors.clone(),
        model: embedder.model().clone(),
        out: out.clone(),
        options,
        progress: Box::new(move |done, of| told.progress("rows", done, of)),
        cancel: place.cancel.clone(),
    };
    let manifest = export.run().await.with_context(|| format!("exporting to {}", out.display()))?;
    let (c, bytes) = (manifest.counts, manifest.files.iter().map(|f| f.bytes).sum::<u64>());
    let rows: u64 = manifest.files.iter().map(|f| f.rows).sum();
    let mut anomalies = Vec::new();
    if rows == 0 {
        anomalies.push("there was nothing to export");
    }
    if c.messages > 0 && manifest.what.contains(&What::Embeddings) && c.message_embeddings == 0 {
        anomalies.push("no message has a vector of the model that is read");
    }
    let text = vec![format!(
        "{}: {} messages, {} engagements, {} erasures, {} items, {} users, {} profiles, {} vectors in {} files, {bytes} bytes",
        out.display(),
        c.messages,
        c.engagements,
        c.erasures,
        c.items,
        c.users,
        c.profiles,
        c.message_embeddings + c.item_embeddings,
        manifest.files.len()
    )];
    let report = json!({
        "out": out, "format": args.format, "model": manifest.model, "counts": c, "files": manifest.files.len(), "bytes": bytes,
        "took_ms": manifest.finished.millis() - manifest.begun.millis(), "anomalies": anomalies,
    });
    Ok(Outcome { report, text, failed: None })
}
