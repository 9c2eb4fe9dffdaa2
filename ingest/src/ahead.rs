//! What may be made ready while the part before it is still on its way into the ledger.
//!
//! Whether a text is to be embedded is the ledger's to say, and the part before may change what it says: of the same item, of the same
//! message, of everybody where somebody is erased. Such texts are asked about behind that part, all others beside it. So what is embedded
//! is the same, however parts follow each other.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nearcast_domain::{Event, ports::Append};

use crate::decode::Decoded;

/// What of a part bears on others.
struct OnItsWay {
    erases: bool,
    /// Hashes of what can have a text, a version without one too, as it takes a text away; one that two share only makes somebody wait.
    texts: HashSet<u64>,
}

/// The parts between being made ready and having been taken in, in order.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<VecDeque<OnItsWay>>);

/// Whom or what a text of theirs would be about; `None` where there can be none.
fn key(append: &Append) -> Option<u64> {
    let mut hash = DefaultHasher::new();
    match &append.event {
        Event::Message(m) => (0, &m.tenant, &m.user_id, &m.message_id).hash(&mut hash),
        Event::Item(i) => (1, &i.tenant, &i.item_id).hash(&mut hash),
        Event::Engagement(_) | Event::Erasure(_) => return None,
    }
    Some(hash.finish())
}

/// Whether somebody is erased among these.
pub(crate) fn erases(appends: &[Append]) -> bool {
    appends.iter().any(|a| matches!(a.event, Event::Erasure(_)))
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, VecDeque<OnItsWay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part is ready and on its way.
    pub fn begin(&self, batch: &Decoded) {
        let erases = erases(&batch.appends);
        let texts = batch.appends.iter().filter_map(key).collect();
        self.lock().push_back(OnItsWay { erases, texts });
    }

    /// The first of them has been taken in, or never will be.
    pub fn end(&self) {
        self.lock().pop_front();
    }

    /// Whether one of them erases somebody.
    pub fn erases(&self) -> bool {
        self.lock().iter().any(|part| part.erases)
    }

    /// The places of a batch's texts: those that may be asked about now, and those that must wait.
    pub fn texts(&self, batch: &Decoded) -> (Vec<usize>, Vec<usize>) {
        let before = self.lock();
        let waits = |key: &u64| before.iter().any(|b| b.erases || b.texts.contains(key));
        let has_text = |a: &Append| !matches!(&a.event, Event::Item(i) if i.text.is_none());
        let texts = batch.appends.iter().enumerate().filter(|(_, a)| has_text(a)).filter_map(|(at, a)| Some((at, key(a)?)));
        let (later, now): (Vec<_>, Vec<_>) = texts.partition(|(_, key)| waits(key));
        let places = |some: Vec<(usize, u64)>| some.into_iter().map(|(at, _)| at).collect();
        (places(now), places(later))
    }
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{
        Timestamp,
        ports::{Record, SourceBatch},
    };

    use super::*;
    use crate::decode::decode_batch;

    fn batch(lines: &[&str]) -> Decoded {
        let timed = |l: &&str| l.replace('}', r#","timestamp":"2026-01-02T00:00:00Z"}"#);
        let records = lines.iter().map(|l| Record { bytes: timed(l).as_bytes().into(), ..Record::default() }).collect();
        decode_batch(SourceBatch { records, ..SourceBatch::default() }, Timestamp::now())
    }

    #[test]
    fn what_the_part_before_may_change_waits_for_it() {
        let ahead = Ahead::default();
        let next = batch(&[
            r#"{"type":"item","item_id":"i1","text":"a"}"#,
            r#"{"user_id":"u","item_id":"i1","kind":"view"}"#,
            r#"{"user_id":"u","text":"b","message_id":"m1"}"#,
            r#"{"user_id":"v","text":"b","message_id":"m1"}"#,
        ]);
        assert_eq!(ahead.texts(&next), (vec![0, 2, 3], vec![]));
        ahead.begin(&batch(&[r#"{"user_id":"u","text":"c","message_id":"m1"}"#]));
        ahead.begin(&batch(&[r#"{"type":"item","item_id":"i1","text":"d"}"#]));
        assert_eq!(ahead.texts(&next), (vec![3], vec![0, 2]));
        ahead.end();
        assert_eq!(ahead.texts(&next), (vec![2, 3], vec![0]));
        ahead.begin(&batch(&[r#"{"type":"erasure","user_id":"w"}"#]));
        assert_eq!(ahead.texts(&next), (vec![], vec![0, 2, 3]));
        ahead.end();
        ahead.end();
        assert_eq!(ahead.texts(&next), (vec![0, 2, 3], vec![]));
        // A version without a text takes one away, and has none to be asked about.
        let without = batch(&[r#"{"type":"item","item_id":"i1","hidden":true}"#]);
        assert_eq!(ahead.texts(&without), (vec![], vec![]));
        ahead.begin(&without);
        assert_eq!(ahead.texts(&next), (vec![2, 3], vec![0]));
    }
}
