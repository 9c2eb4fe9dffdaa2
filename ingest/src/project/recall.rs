//! Beginning to remember the users of a batch, before the ledger takes it in: their histories are shorter before than behind it, and of
//! newcomers there is none.
//!
//! Who is new the ledger says of all of them at once, where it would otherwise be asked for each. Never lets a batch wait long: what is not
//! read within a moment is read beside the worker.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use futures_util::future::OptionFuture;
use nearcast_domain::{
    Event, StoreResult, UserId,
    ports::{Append, History},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Projector,
    remembered::{Key, Reading, told},
};

/// Of so many of a tenant's users it is looked whether the ledger has anything; where it has nothing, all of them may be new.
const FEW: usize = 4;
/// For so long a batch of more users waits for that look: what it saves is a look at each of the others, behind their events.
const LOOK: Duration = Duration::from_millis(250);
/// Users whose histories are read at once while a batch waits for them,
const PORTION: usize = 16;
/// and beside it: a ledger that takes so long over histories takes in the next batches meanwhile.
const GENTLE: usize = 2;
/// For so long a batch waits for the histories of its users.
const PATIENCE: Duration = Duration::from_millis(100);

/// Histories that are being read beside the worker; ends when it is dropped.
pub type Recalling = AbortOnDropHandle<StoreResult<()>>;

/// What a look at a few of each tenant's users told.
#[derive(Default)]
struct Looked {
    /// Whose histories were read.
    read: HashSet<Key>,
    /// The places of those of whose tenants nobody is known.
    strangers: Vec<Range<usize>>,
}

/// Who did or wrote something in a batch.
fn users(appends: &[Append]) -> BTreeSet<Key> {
    let speaks = |e: &Event| matches!(e, Event::Message(_) | Event::Engagement(_));
    let events = appends.iter().map(|a| &a.event).filter(|e| speaks(e));
    events.filter_map(|e| Some((e.tenant().clone(), e.user()?.clone()))).collect()
}

fn names(keys: &[Key]) -> Vec<UserId> {
    keys.iter().map(|(_, user)| user.clone()).collect()
}

impl Projector {
    /// Begins to remember the users of a batch that the ledger is to take in next. What is not read within a moment is being read beside
    /// the worker from then on. `introduces`: nobody is being erased, by this batch or by one on its way before it.
    pub async fn recall(
        self: &Arc<Self>,
        appends: &[Append],
        turn: Option<u64>,
        introduces: bool,
    ) -> StoreResult<Option<Recalling>> {
        let Some(turn) = turn.filter(|_| self.remembers()) else { return Ok(None) };
        let all = {
            let Some(mut memory) = self.remembered.at(turn) else { return Ok(None) };
            let of: Vec<Key> = users(appends).into_iter().filter(|key| memory.lacks(key)).collect();
            // All at once, so that no later batch begins to read them, too.
            let number = memory.begin(&of);
            Reading { remembered: self.remembered.clone(), of, number }
        };
        let (mut unread, mut looking) = (all.of.clone(), None);
        if introduces && unread.len() > FEW {
            let until = Instant::now() + LOOK;
            let (me, of) = (self.clone(), all.of.clone());
            let mut look = AbortOnDropHandle::new(tokio::spawn(async move { me.look_at_few(&of, turn).await }));
            match timeout_at(until, &mut look).await {
                Ok(Ok(looked)) => {
                    let looked = looked?;
                    unread.retain(|key| !looked.read.contains(key));
                    // While the batch waits: nobody's erasure passes it.
                    for places in looked.strangers {
                        let new = self.introduce(&all, &all.of[places], turn).await?;
                        unread.retain(|key| !new.contains(key));
                    }
                }
                // It died: who needs the histories reads them.
                Ok(Err(_)) => return Ok(None),
                Err(_) => looking = Some(look),
            }
        }
        if unread.is_empty() {
            return Ok(None);
        }
        let until = Instant::now() + PATIENCE;
        let me = self.clone();
        let mut reading = AbortOnDropHandle::new(tokio::spawn(async move {
            let _all = all;
            if let Some(Ok(looked)) = OptionFuture::from(looking).await {
                let looked = looked?;
                unread.retain(|key| !looked.read.contains(key));
            }
            me.read(&unread, turn, until).await
        }));
        match timeout_at(until, &mut reading).await {
            Ok(Ok(read)) => read.map(|()| None),
            Ok(Err(_)) => Ok(None),
            Err(_) => Ok(Some(reading)),
        }
    }

    /// Reads the histories of a few of each tenant's users.
    async fn look_at_few(&self, of: &[Key], turn: u64) -> StoreResult<Looked> {
        let mut looked = Looked::default();
        let mut from = 0;
        for of_tenant in of.chunk_by(|a, b| a.0 == b.0) {
            let few = &of_tenant[..of_tenant.len().min(FEW)];
            let (histories, _) = self.known_or_read(&few[0].0, &names(few), Some(turn)).await?;
            if histories.iter().all(|h| *h == History::default()) {
                looked.strangers.push(from..from + of_tenant.len());
            }
            looked.read.extend(few.iter().cloned());
            from += of_tenant.len();
        }
        Ok(looked)
    }

    /// Remembers those of a tenant's users of whom the ledger holds nothing, and answers who they are.
    async fn introduce(&self, all: &Reading, of_tenant: &[Key], turn: u64) -> StoreResult<HashSet<Key>> {
        let mut remembered = HashSet::new();
        let beside = Some(self.stores.ledger.written_beside().await?);
        let new = self.stores.ledger.introduce(&of_tenant[0].0, &names(of_tenant)).await?;
        let Some(mut memory) = self.remembered.at(turn).filter(|memory| memory.beside == beside) else { return Ok(remembered) };
        for (key, _) in of_tenant.iter().zip(new).filter(|(_, new)| *new) {
            // What the ledger took in since this one began is all that there can be.
            let Some(meanwhile) = all.meanwhile(&mut memory, key) else { continue };
            let mut history = History::default();
            if meanwhile.iter().all(|(append, new)| told(&mut history, append, *new)) {
                self.remember(&mut memory, key.clone(), history);
                remembered.insert(key.clone());
            }
        }
        Ok(remembered)
    }

    /// Reads the histories of these, in portions.
    async fn read(&self, unread: &[Key], turn: u64, until: Instant) -> StoreResult<()> {
        for mut of_tenant in unread.chunk_by(|a, b| a.0 == b.0) {
            while !of_tenant.is_empty() {
                let at_once = if Instant::now() < until { PORTION } else { GENTLE };
                let (part, rest) = of_tenant.split_at(at_once.min(of_tenant.len()));
                of_tenant = rest;
                self.known_or_read(&part[0].0, &names(part), Some(turn)).await?;
            }
        }
        Ok(())
    }
}
