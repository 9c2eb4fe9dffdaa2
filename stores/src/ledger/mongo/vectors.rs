//! Item vectors that this process remembers, so that a profile need not look up every item that somebody liked.
//!
//! Only what is there is remembered, and only until a change: whoever replaces an item's vector marks that behind the write, before
//! asking who engaged with the item ([`super::stale`]). Who asks for vectors has the engagement in the ledger already, and reads the mark
//! first. So either that one sees the change and forgets what was remembered, or its engagement was there when the other asked, and the
//! profile is made again. An item's first vector changes nothing that could be remembered, and leaves no mark.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nearcast_domain::{ItemId, StoreResult, Tenant, Vector};

use super::{
    COLLECTIONS, MongoLedger,
    documents::{ItemDoc, revision_field, vector},
    keys,
    load::{self, by_id},
    marks,
};
use crate::mongo::Mongo;

/// So many vectors are remembered; then memory begins anew.
const VECTORS: usize = 16_384;

#[derive(Default)]
struct Memory {
    /// The change that this is as of.
    as_of: Option<i64>,
    /// Whether there ever was anything in it, or anybody asked.
    begun: bool,
    /// By key and revision's field.
    vectors: HashMap<(String, String), Vector>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Known(Mutex<Memory>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn as_of(&self) -> Option<i64> {
        self.lock().as_of
    }

    /// This was the newest change when somebody asked just now. Answers whether memory is yet to begin.
    fn asked(&self, newest: i64) -> bool {
        self.set_as_of(newest);
        !std::mem::replace(&mut self.lock().begun, true)
    }

    fn set_as_of(&self, newest: i64) {
        let mut memory = self.lock();
        if memory.as_of != Some(newest) {
            memory.vectors.clear();
            memory.as_of = Some(newest);
        }
    }

    fn get(&self, ti: &str, field: &str) -> Option<Vector> {
        self.lock().vectors.get(&(ti.to_owned(), field.to_owned())).cloned()
    }

    /// Remembers what was read or written by somebody who began as of this, unless there was a change since.
    fn put(&self, as_of: Option<i64>, found: impl Iterator<Item = (String, String, Vector)>) {
        let mut memory = self.lock();
        if as_of.is_none() || memory.as_of != as_of {
            return;
        }
        for (ti, field, vector) in found {
            memory.begun = true;
            if memory.vectors.len() >= VECTORS {
                memory.vectors.clear();
            }
            memory.vectors.insert((ti, field), vector);
        }
    }

    /// Remembers the vectors of items that were not there before.
    pub fn made(&self, as_of: Option<i64>, items: &[ItemDoc], mongo: &Mongo) -> StoreResult<()> {
        let mut all = Vec::new();
        for item in items {
            for (field, stored) in &item.v {
                if let Some(vector) = vector(mongo, &item.v, Some(&stored.r))? {
                    all.push((item.ti.clone(), field.clone(), vector));
                }
            }
        }
        self.put(as_of, all.into_iter());
        Ok(())
    }
}

/// Marks a change: behind the write, and before it is asked who engaged with what was changed.
pub(super) async fn changed(mongo: &Mongo) -> StoreResult<()> {
    marks::set(mongo, marks::VECTORS).await
}

/// The mark of the newest change.
async fn newest(mongo: &Mongo) -> StoreResult<i64> {
    marks::get(mongo, marks::VECTORS).await
}

/// As of when whoever is about to write items may have them remembered.
pub(super) async fn as_of(ledger: &MongoLedger) -> StoreResult<Option<i64>> {
    if ledger.vectors.as_of().is_none() {
        ledger.vectors.set_as_of(newest(&ledger.mongo).await?);
    }
    Ok(ledger.vectors.as_of())
}

/// The vectors of these items, remembered or read.
pub(super) async fn of_items(
    ledger: &MongoLedger,
    tenant: &Tenant,
    items: &[ItemId],
    revision: &str,
) -> StoreResult<Vec<Option<Vector>>> {
    let (mongo, known, field) = (&ledger.mongo, &ledger.vectors, revision_field(revision));
    let as_of = newest(mongo).await?;
    if known.asked(as_of) && mongo.whole_costs_less(COLLECTIONS.items, VECTORS, 1).await? {
        // Nothing is known, and there are so few items, each of them a call of its own, that all vectors are read at once.
        let mut all = Vec::new();
        load::every(mongo, COLLECTIONS.items, None, |item: ItemDoc| all.push(item)).await?;
        known.made(Some(as_of), &all, mongo)?;
    }
    let tis: Vec<String> = items.iter().map(|i| keys::owned(tenant, i.as_str())).collect();
    let mut vectors: Vec<Option<Vector>> = tis.iter().map(|ti| known.get(ti, &field)).collect();
    let wanted: Vec<String> = tis.iter().zip(&vectors).filter(|(_, v)| v.is_none()).map(|(ti, _)| ti.clone()).collect();
    let read = by_id::<ItemDoc>(mongo, COLLECTIONS.items, &wanted, None, |d| &d.ti).await?;
    let mut found = Vec::new();
    for (ti, slot) in tis.iter().zip(&mut vectors).filter(|(_, v)| v.is_none()) {
        let Some(item) = read.get(ti) else { continue };
        *slot = vector(mongo, &item.v, Some(revision))?;
        found.extend(slot.clone().map(|v| (ti.clone(), field.clone(), v)));
    }
    known.put(Some(as_of), found.into_iter());
    Ok(vectors)
}
