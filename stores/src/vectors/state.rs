//! Which rows are held: every shard by its key, and the revision that is current. Changes are applied here and nowhere else,
//! whether they come from a caller or from the journal, so that a restart ends where the process ended.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use nearcast_domain::{
    ErrorKind, StoreError, StoreResult,
    ports::{Collection, VectorRow},
};

use super::{
    record::{Record, Writer},
    shard::Shard,
};

/// How long a record of the journal gets before another is begun, in bytes.
const RECORD: usize = 1 << 20;

/// How many rows are written before searches get their turn.
const AT_ONCE: usize = 128;

/// Whose rows they are: revision, collection, tenant.
pub(super) type Key = (String, Collection, String);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The revision that is read.
    pub(super) current: Option<String>,
    /// Everything that is held.
    pub(super) shards: BTreeMap<Key, Arc<RwLock<Shard>>>,
}

/// Locks for reading. A panic elsewhere leaves nothing half done that matters: changes are applied row by row.
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing; see [`read`].
pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The shard of a key, made where it is not there. The first revision is current.
    fn shard(&mut self, key: Key, dimension: usize) -> Arc<RwLock<Shard>> {
        if self.current.is_none() {
            self.current = Some(key.0.clone());
        }
        self.shards.entry(key).or_insert_with(|| Arc::new(RwLock::new(Shard::new(dimension)))).clone()
    }

    /// Refuses rows that cannot be compared: not of unit length, or not of the dimension of their revision.
    pub(super) fn check(&self, revision: &str, rows: &[VectorRow]) -> StoreResult<()> {
        let first = (revision.to_owned(), Collection::Users, String::new());
        let known = self.shards.range(first..).next().filter(|((r, _, _), _)| r == revision).map(|(_, s)| read(s).dimension);
        let dimension = known.or(rows.first().map(|r| r.vector.len())).unwrap_or_default();
        for row in rows {
            if row.vector.len() != dimension {
                let message = format!(
                    "`{}` has {} components, but revision {revision} has {dimension}; write it under a revision of its own",
                    row.id,
                    row.vector.len()
                );
                return Err(StoreError::new(ErrorKind::Invalid, "vectors", message));
            }
            check_unit(&row.vector).map_err(|e| StoreError { message: format!("`{}`: {}", row.id, e.message), ..e })?;
        }
        Ok(())
    }

    /// The rows that are not held already just so, each id once. What is told again costs nothing.
    pub(super) fn changed(&self, key: &Key, mut rows: Vec<VectorRow>) -> Vec<VectorRow> {
        let mut seen = HashSet::new();
        // From the end: the last of equal ids stands.
        let mut last: Vec<bool> = rows.iter().rev().map(|r| seen.insert(r.id.as_str())).collect();
        last.reverse();
        let shard = self.shards.get(key).map(|s| read(s));
        let mut last = last.into_iter();
        rows.retain(|r| last.next() == Some(true) && !shard.as_ref().is_some_and(|s| s.holds(r)));
        rows
    }

    /// About how many bytes the rows take in the journal.
    pub(super) fn bytes(&self) -> u64 {
        self.shards.values().map(|s| read(s).bytes).sum()
    }

    /// Records that give this state.
    pub(super) fn records(&self) -> impl Iterator<Item = Vec<u8>> {
        let current = self.current.iter().map(|revision| {
            let mut w = Writer::default();
            w.switch(revision);
            w.0
        });
        current.chain(self.shards.iter().flat_map(|((revision, collection, tenant), shard)| {
            let shard = read(shard);
            let per = (RECORD / (4 * shard.dimension + 64)).max(1);
            let places = shard.places();
            (0..places).step_by(per).filter_map(move |from| {
                let rows: Vec<_> = (from..(from + per).min(places)).filter_map(|r| shard.row(r as u32)).collect();
                let mut w = Writer::default();
                w.upsert(tenant, *collection, revision, rows.len());
                for r in &rows {
                    w.row(&r.id, &r.vector, r.labels.iter().map(AsRef::as_ref));
                }
                (!rows.is_empty()).then_some(w.0)
            })
        }))
    }
}

/// Applies a change. Searches go on meanwhile: each sees a row before or after, never half of it.
pub(super) fn apply(state: &RwLock<State>, record: Record) {
    match record {
        Record::Upsert { tenant, collection, revision, rows } => {
            let Some(first) = rows.first() else { return };
            let dimension = first.vector.len();
            let shard = write(state).shard((revision, collection, tenant), dimension);
            let mut shared = HashMap::new();
            let mut rows = rows.into_iter().filter(|r| r.vector.len() == dimension).peekable();
            while rows.peek().is_some() {
                let mut shard = write(&shard);
                for row in rows.by_ref().take(AT_ONCE) {
                    shard.upsert(row, &mut shared);
                }
            }
        }
        Record::Delete { tenant, collection, ids } => {
            let all = read(state);
            for (_, shard) in all.shards.iter().filter(|((_, c, t), _)| *c == collection && *t == tenant) {
                let mut shard = write(shard);
                for id in &ids {
                    shard.delete(id);
                }
            }
        }
        Record::Switch { revision } => write(state).current = Some(revision),
        Record::Drop { revision } => write(state).shards.retain(|(r, _, _), _| *r != revision),
    }
}

/// The records of an upsert.
pub(super) fn upserts(key: &Key, rows: &[VectorRow]) -> Vec<Vec<u8>> {
    let (revision, collection, tenant) = key;
    let per = (RECORD / (4 * rows.first().map_or(0, |r| r.vector.len()) + 64)).max(1);
    rows.chunks(per)
        .map(|rows| {
            let mut w = Writer::default();
            w.upsert(tenant, *collection, revision, rows.len());
            for r in rows {
                w.row(&r.id, &r.vector, r.labels.iter().map(String::as_str));
            }
            w.0
        })
        .collect()
}

/// Refuses a vector whose length is not 1, or that holds what is not a number.
pub(super) fn check_unit(vector: &[f32]) -> StoreResult<()> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    // Written so that NaN fails too.
    if (square - 1.0).abs() <= 0.002 {
        return Ok(());
    }
    Err(StoreError::new(ErrorKind::Invalid, "vectors", format!("a vector is not of unit length: its square is {square}")))
}
