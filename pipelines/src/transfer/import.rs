//! An export as records of the worker: erasures first, then items, then what users did and wrote.
//!
//! An erasure takes what stands before it, so it comes before what its user did since. Vectors that stand beside their texts are handed
//! over with them, where they are of the revision that is asked for.

use std::{iter::Peekable, path::Path};

use nearcast_domain::{Event, Vector};

use super::{
    TransferError,
    codec::{self, Rows},
    json::to_json,
    manifest::{FileEntry, Manifest},
    rows::{Dataset, Embedded, Row},
};
use crate::import::{Fed, ReadError, Sink};

/// Reads every event of an export whose checksums were compared before.
///
/// # Errors
/// Where a file holds something else than the manifest says.
pub fn feed(dir: &Path, sink: &mut Sink) -> Result<(), ReadError> {
    let manifest = Manifest::read(dir)?;
    let vectors = manifest.model.revision == sink.revision();
    let groups = [
        (Dataset::Events, "erasures", None),
        (Dataset::Items, "part", Some(Dataset::ItemEmbeddings)),
        (Dataset::Events, "part", Some(Dataset::MessageEmbeddings)),
    ];
    for (dataset, stem, beside) in groups {
        for file in manifest.files_of(dataset, stem) {
            let beside = beside.filter(|_| vectors).and_then(|b| twin(&manifest, file, b));
            one(dir, &manifest, file, beside, sink)?;
            sink.advance(file.bytes + beside.map_or(0, |b| b.bytes));
        }
    }
    Ok(())
}

/// The file with the vectors of another's rows: the same name below the other data set.
fn twin<'a>(manifest: &'a Manifest, file: &FileEntry, dataset: Dataset) -> Option<&'a FileEntry> {
    let below = file.path.strip_prefix(file.dataset.name())?;
    let path = format!("{}{below}", dataset.name());
    manifest.files.iter().find(|f| f.path == path)
}

fn one(
    dir: &Path,
    manifest: &Manifest,
    file: &FileEntry,
    beside: Option<&FileEntry>,
    sink: &mut Sink,
) -> Result<(), ReadError> {
    let path = dir.join(&file.path);
    let open = |f: &FileEntry| codec::read(&dir.join(&f.path), manifest.encoding, f.dataset);
    let mut vectors = beside.map(open).transpose()?.map(Iterator::peekable);
    let mut rows = 0;
    for row in open(file)? {
        rows += 1;
        let Row::Event(event) = row? else {
            return Err(TransferError::format(&path, "holds something else than events").into());
        };
        let vector = match &mut vectors {
            Some(vectors) => beside_of(vectors, &event)?,
            None => None,
        };
        let text = match &event {
            Event::Message(m) => Some(m.text.clone()),
            Event::Item(i) => i.embedding_text(),
            _ => None,
        };
        let bytes = to_json(&event).map_err(|e| TransferError::format(&path, e))?;
        sink.put(Fed { bytes, origin: format!("{}:{rows}", path.display()), rejected: None, vector: text.zip(vector) })?;
    }
    if rows != file.rows {
        let message = format!("has {rows} rows where the manifest says {}", file.rows);
        return Err(TransferError::format(&path, message).into());
    }
    Ok(())
}

/// The next vector, where it belongs to this event: both files are in one order.
fn beside_of(vectors: &mut Peekable<Rows>, event: &Event) -> Result<Option<Vector>, TransferError> {
    let belongs = |row: &Row| {
        let Row::Embedded(Embedded { tenant, user_id, message_id, item_id, .. }) = row else { return false };
        match event {
            Event::Message(m) => {
                *tenant == m.tenant
                    && user_id.as_ref() == Some(&m.user_id)
                    && message_id.as_deref() == Some(m.message_id.as_str())
            }
            Event::Item(i) => *tenant == i.tenant && item_id.as_ref() == Some(&i.item_id),
            _ => false,
        }
    };
    match vectors.next_if(|row| row.as_ref().map_or(true, belongs)) {
        Some(Ok(Row::Embedded(e))) => Ok(Some(e.vector)),
        Some(Err(e)) => Err(e),
        _ => Ok(None),
    }
}
