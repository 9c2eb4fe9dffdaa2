//! The last rungs: more of what rises, then what is new, then the catalogue page by page. Asked only while an answer is
//! not full.
//!
//! Each rung is told apart by its source; a rung that cannot be read gives what this process remembers of it, and is named.

use nearcast_domain::{ErrorKind, ItemId, StoreError, candidate::Source, ports::ItemState};
use tokio::time::Instant;

use super::Ask;
use crate::{
    memory::{Epochs, remember_states},
    recommend::{bits::Bits, budget::by, shelf::NEWEST_DEPTH},
};

/// Items read at once from the catalogue.
const PAGE: usize = 500;

/// Where the next candidates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillFrom {
    /// More of what rises.
    Trending,
    /// What is new.
    Newest,
    /// The catalogue, after this item.
    Catalogue(Option<ItemId>),
    /// Nothing is left.
    End,
}

/// The next candidates, the rung after, and what went wrong.
pub struct Filling {
    /// Best first.
    pub items: Vec<u32>,
    /// Who proposes them.
    pub source: Source,
    /// Where to go on.
    pub next: FillFrom,
    /// Why the rung gives only what is remembered.
    pub error: Option<StoreError>,
}

/// What need not be asked again, because it failed in this request already.
#[derive(Debug, Clone, Copy)]
pub struct Answering {
    /// Trending.
    pub trending: bool,
    /// The ledger.
    pub ledger: bool,
}

/// Reads one rung, leaving out what was `seen`.
pub async fn fill(ask: &Ask<'_>, from: FillFrom, seen: &Bits, ok: Answering, deadline: Instant) -> Filling {
    let Ask { on, tenant, category, mem, .. } = ask;
    let filling = |mut items: Vec<u32>, source, next, error| {
        items.retain(|i| !seen.contains(*i));
        Filling { items, source, next, error }
    };
    match from {
        FillFrom::Trending => {
            let read = async {
                match ok.trending {
                    true => by(deadline, "engagement", on.shelf.rising(tenant, *category, None)).await.map(Some),
                    false => Ok(None),
                }
            };
            let (list, error) = match read.await {
                Ok(Some(list)) => (list, None),
                Ok(None) => (on.shelf.last_rising(tenant, *category).await, None),
                Err(e) => (on.shelf.last_rising(tenant, *category).await, Some(e)),
            };
            let items = list.numbered(mem).iter().map(|(i, _)| *i).collect();
            filling(items, Source::Trending, FillFrom::Newest, error)
        }
        FillFrom::Newest => {
            let error = if ok.ledger {
                let mark = mem.cards_mark();
                match on.shelf.newest(&on.late, &on.stores.ledger, tenant, *category, deadline).await {
                    Ok(states) => {
                        let next = if states.len() < NEWEST_DEPTH { FillFrom::End } else { FillFrom::Catalogue(None) };
                        remember_states(mem, &states, mark, &Epochs::new());
                        return filling(mem.numbers(states.iter().map(|s| &s.item.item_id)), Source::Newest, next, None);
                    }
                    Err(e) => e,
                }
            } else {
                // Failed already in this request: not asked again, and missing all the same.
                StoreError::new(ErrorKind::Unavailable, "ledger", "it did not answer a moment ago")
            };
            let last = on.shelf.last_newest(tenant, *category).await;
            filling(mem.numbers(last.iter()), Source::Newest, FillFrom::End, Some(error))
        }
        FillFrom::Catalogue(after) if ok.ledger => {
            let mark = mem.cards_mark();
            match by(deadline, "ledger", on.stores.ledger.catalogue(tenant, after.as_ref(), PAGE, None)).await {
                Ok(states) => {
                    let next = match states.last() {
                        Some(last) if states.len() == PAGE => FillFrom::Catalogue(Some(last.item.item_id.clone())),
                        _ => FillFrom::End,
                    };
                    remember_states(mem, &states, mark, &Epochs::new());
                    let wanted = |s: &&ItemState| !s.item.hidden && category.is_none_or(|c| s.item.categories.contains(c));
                    let items = mem.numbers(states.iter().filter(wanted).map(|s| &s.item.item_id));
                    filling(items, Source::Newest, next, None)
                }
                Err(e) => filling(Vec::new(), Source::Newest, FillFrom::End, Some(e)),
            }
        }
        FillFrom::Catalogue(_) | FillFrom::End => filling(Vec::new(), Source::Newest, FillFrom::End, None),
    }
}
