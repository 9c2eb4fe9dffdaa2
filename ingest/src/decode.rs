//! The first stage: records to events, or to dead letters.
//!
//! Pure: it may run on any thread, and the same records give the same result.

use nearcast_domain::{
    Event, Timestamp,
    decode::{Context, MAX_RECORD_BYTES, decode},
    ids::MAX_ID_BYTES,
    ports::{Append, Appended, Claim, DeadLetter, Record, SourceBatch},
};

use crate::{letters::letter, project::Recalling};

/// A batch after decoding.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Valid events, in the order of the source, without vectors.
    pub appends: Vec<Append>,
    /// The record behind each of them.
    pub records: Vec<Record>,
    /// The rest.
    pub letters: Vec<DeadLetter>,
    /// Bytes of all records.
    pub bytes: u64,
    /// What to commit when all effects are durable.
    pub position: String,
    /// Whether it may still be applied.
    pub claim: Claim,
    /// What the ledger said, once it has taken the batch in.
    pub outcomes: Option<Vec<Appended>>,
    /// How many of the texts were embedded.
    pub embedded: u64,
    /// Histories of its users that are being read meanwhile.
    pub recalling: Vec<Recalling>,
}

impl Decoded {
    /// How many records it is made of.
    pub fn records(&self) -> usize {
        self.appends.len() + self.letters.len()
    }

    /// Takes in the batch behind this one, as far on its way as this one is. Positions are of everything before them: the later one stands for both.
    pub fn join(&mut self, next: Self) {
        self.appends.extend(next.appends);
        self.records.extend(next.records);
        self.letters.extend(next.letters);
        self.bytes += next.bytes;
        self.position = next.position;
        self.embedded += next.embedded;
        self.recalling.extend(next.recalling);
        self.outcomes = match (self.outcomes.take(), next.outcomes) {
            (Some(mut outcomes), Some(next)) => {
                outcomes.extend(next);
                Some(outcomes)
            }
            _ => None,
        };
    }

    /// The same batch in parts of at most so many texts each, in order; all with its position, which only the last earns.
    pub fn split(self, texts: usize) -> Vec<Self> {
        let has_text = |a: &Append| matches!(&a.event, Event::Message(_) | Event::Item(_));
        if self.appends.iter().filter(|a| has_text(a)).count() <= texts {
            return vec![self];
        }
        let position = self.position.clone();
        let claim = self.claim;
        let mut parts =
            vec![Self { letters: self.letters, bytes: self.bytes, position, claim: claim.clone(), ..Self::default() }];
        let mut count = 0;
        for (append, record) in self.appends.into_iter().zip(self.records) {
            count += usize::from(has_text(&append));
            if count > texts {
                count = 1;
                parts.push(Self { position: self.position.clone(), claim: claim.clone(), ..Self::default() });
            }
            if let Some(last) = parts.last_mut() {
                last.appends.push(append);
                last.records.push(record);
            }
        }
        parts
    }
}

/// Why a record stands in the wrong place of its log. One worker has all of a user because all of a user is under one key; what
/// stands elsewhere could be applied out of order, beside another worker.
fn foreign_key(record: &Record, event: &Event) -> Option<String> {
    let key = record.key.as_deref().filter(|k| *k != event.key().as_bytes())?;
    let own = if event.user().is_some() { "user_id" } else { "item_id" };
    let given = match key {
        [] => "record has no key".to_owned(),
        _ => format!("record has the key {:?}", String::from_utf8_lossy(&key[..key.len().min(MAX_ID_BYTES)])),
    };
    Some(format!("{given}; its key must be its {own}, {:?}", event.key()))
}

/// Decodes a batch as of `now`.
pub fn decode_batch(batch: SourceBatch, now: Timestamp) -> Decoded {
    let mut out = Decoded { position: batch.position, claim: batch.claim, ..Decoded::default() };
    let mut cx = Context::stored(now);
    for record in batch.records {
        out.bytes += record.bytes.len() as u64;
        if record.oversized {
            let reason = format!("record is longer than {MAX_RECORD_BYTES} bytes; its beginning is kept");
            out.letters.push(letter(&record, &record.tenant, None, reason, now));
            continue;
        }
        if let Some(reason) = record.rejected.clone() {
            out.letters.push(letter(&record, &record.tenant, None, reason, now));
            continue;
        }
        if cx.tenant != record.tenant {
            cx.tenant = record.tenant.clone();
        }
        match decode(&record.bytes, &cx) {
            Ok(event) => {
                if let Some(reason) = foreign_key(&record, &event) {
                    let (tenant, user) = (event.tenant().clone(), event.user().cloned());
                    out.letters.push(letter(&record, &tenant, user, reason, now));
                    continue;
                }
                let hash = event.content_hash();
                out.appends.push(Append { event, hash, vector: None });
                out.records.push(record);
            }
            Err(reject) => out.letters.push(letter(&record, &record.tenant, None, reject.0, now)),
        }
    }
    out
}
