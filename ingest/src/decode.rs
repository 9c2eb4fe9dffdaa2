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

    /// Takes in the batch behind this one, as far on its way as this one is. Positions are of everything before them: the later one
    /// stands for both.
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

    /// Keeps the beginning, of at most so many texts, and gives back the rest, if there is any. Both have the batch's position, which
    /// only the end of it earns.
    pub fn split_off(&mut self, texts: usize) -> Option<Self> {
        let has_text = |a: &Append| matches!(&a.event, Event::Message(_) | Event::Item(_));
        let mut places = self.appends.iter().enumerate().filter(|(_, a)| has_text(a)).map(|(at, _)| at);
        let at = places.nth(texts.max(1))?;
        Some(Self {
            appends: self.appends.split_off(at),
            records: self.records.split_off(at),
            position: self.position.clone(),
            claim: self.claim.clone(),
            ..Self::default()
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_behind_its_texts_and_nothing_is_lost() {
        let record = |n: usize| {
            let event = match n % 3 {
                0 => format!(
                    r#"{{"user_id":"u","item_id":"i","kind":"view","event_id":"e{n}","timestamp":"2026-01-02T00:00:00Z"}}"#
                ),
                1 => format!(r#"{{"user_id":"u","text":"words {n}","message_id":"m{n}","timestamp":"2026-01-02T00:00:00Z"}}"#),
                _ => "no event".to_owned(),
            };
            Record { bytes: event.as_bytes().into(), origin: n.to_string(), ..Record::default() }
        };
        let batch = SourceBatch { records: (0..30).map(record).collect(), position: "end".into(), ..SourceBatch::default() };
        let whole = decode_batch(batch, Timestamp::now());
        assert_eq!((whole.appends.len(), whole.letters.len()), (20, 10));
        for (texts, parts) in [(0, 10), (1, 10), (4, 3), (10, 1), (usize::MAX, 1)] {
            let mut rest = Some(Decoded { letters: whole.letters.clone(), bytes: whole.bytes, ..Decoded::default() });
            if let Some(all) = &mut rest {
                (all.appends, all.records, all.position) =
                    (whole.appends.clone(), whole.records.clone(), whole.position.clone());
            }
            let mut cut = Vec::new();
            while let Some(mut part) = rest.take() {
                rest = part.split_off(texts);
                let messages = part.appends.iter().filter(|a| matches!(a.event, Event::Message(_))).count();
                assert!(messages <= texts.max(1) && part.position == "end" && part.appends.len() == part.records.len());
                cut.push(part);
            }
            assert_eq!(cut.len(), parts, "{texts} texts at once");
            let mut joined = cut.remove(0);
            cut.into_iter().for_each(|part| joined.join(part));
            let hashes = |d: &Decoded| d.appends.iter().map(|a| a.hash).collect::<Vec<_>>();
            assert_eq!((hashes(&joined), &joined.records), (hashes(&whole), &whole.records));
            assert_eq!((joined.letters, joined.bytes), (whole.letters.clone(), whole.bytes));
        }
    }
}
