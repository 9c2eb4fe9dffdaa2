//! The last rungs: more of what rises, then what is new, then the catalogue page by page. Asked only while an answer is
//! not full.
//!
//! Each rung is told apart by its source; a rung that cannot be read gives what this process remembers of it, and is named.

use std::collections::HashSet;

use nearcast_domain::{ItemId, StoreError, candidate::Source, ports::ItemState};
use tokio::time::Instant;

use super::Ask;
use crate::recommend::{budget::by, shelf::NEWEST_DEPTH};

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
    pub items: Vec<ItemId>,
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
pub async fn fill(ask: &Ask<'_>, from: FillFrom, seen: &HashSet<ItemId>, ok: Answering, deadline: Instant) -> Filling {
    let Ask { on, tenant, category, .. } = ask;
    let filling = |items, source, next, error| Filling { items, source, next, error };
    let unseen = |items: &mut Vec<ItemId>| items.retain(|i| !seen.contains(i));
    match from {
        FillFrom::Trending => {
            let read = async {
                match ok.trending {
                    true => by(deadline, "engagement", on.shelf.rising(tenant, *category)).await.map(Some),
                    false => Ok(None),
                }
            };
            let (list, error) = match read.await {
                Ok(Some(list)) => (list, None),
                Ok(None) => (on.shelf.last_rising(tenant, *category).await, None),
                Err(e) => (on.shelf.last_rising(tenant, *category).await, Some(e)),
            };
            let mut items: Vec<ItemId> = list.items.iter().map(|(i, _)| i.clone()).collect();
            unseen(&mut items);
            filling(items, Source::Trending, FillFrom::Newest, error)
        }
        FillFrom::Newest => {
            let mut error = None;
            if ok.ledger {
                match by(deadline, "ledger", on.shelf.newest(&*on.stores.ledger, tenant, *category)).await {
                    Ok(states) => {
                        let next = if states.len() < NEWEST_DEPTH { FillFrom::End } else { FillFrom::Catalogue(None) };
                        let mut items: Vec<ItemId> = states.iter().map(|s| s.item.item_id.clone()).collect();
                        on.items.remember_all(tenant, &states);
                        unseen(&mut items);
                        return filling(items, Source::Newest, next, None);
                    }
                    Err(e) => error = Some(e),
                }
            }
            let mut items: Vec<ItemId> = on.shelf.last_newest(tenant, *category).await.to_vec();
            unseen(&mut items);
            filling(items, Source::Newest, FillFrom::End, error)
        }
        FillFrom::Catalogue(after) if ok.ledger => {
            match by(deadline, "ledger", on.stores.ledger.catalogue(tenant, after.as_ref(), PAGE, None)).await {
                Ok(states) => {
                    let next = match states.last() {
                        Some(last) if states.len() == PAGE => FillFrom::Catalogue(Some(last.item.item_id.clone())),
                        _ => FillFrom::End,
                    };
                    on.items.remember_all(tenant, &states);
                    let wanted = |s: &&ItemState| !s.item.hidden && category.is_none_or(|c| s.item.categories.contains(c));
                    let mut items: Vec<ItemId> = states.iter().filter(wanted).map(|s| s.item.item_id.clone()).collect();
                    unseen(&mut items);
                    filling(items, Source::Newest, next, None)
                }
                Err(e) => filling(Vec::new(), Source::Newest, FillFrom::End, Some(e)),
            }
        }
        FillFrom::Catalogue(_) | FillFrom::End => filling(Vec::new(), Source::Newest, FillFrom::End, None),
    }
}
