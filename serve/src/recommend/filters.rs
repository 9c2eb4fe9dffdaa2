//! Who must not be recommended, and why: every candidate leaves with a verdict.
//!
//! In two passes: all candidates by what this process remembers of them, then the few that would be recommended by what the
//! ledger says now. Protective: what cannot be checked because the ledger is away is held back as `Unverified`, and shown only where
//! nothing else is left.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join;
use nearcast_domain::{ItemId, StoreError, StoreResult, Timestamp, candidate::Removal};
use tokio::time::Instant;

use super::{budget::by, items::Card, sources::Ask};

/// What becomes of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It may be recommended.
    Keep(Arc<Card>),
    /// It may not.
    Remove(Removal),
    /// Nobody knows.
    Unverified,
}

/// What the caller and the request decide about candidates.
pub struct Rules<'a> {
    /// None of these.
    pub exclude: &'a HashSet<ItemId>,
    /// Only of this category.
    pub category: Option<&'a Arc<str>>,
    /// The time of the request: bounds expiry.
    pub now: Timestamp,
    /// Whether the ledger is to be asked at all: not after it failed in this request.
    pub ledger_ok: bool,
}

/// How closely a pass looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// A card that allows an item may be of any age; one that forbids it is read again. Engagements are not looked up.
    Sift,
    /// Cards are fresh, and the ledger says what the asker engaged with.
    Verify,
}

/// Judges items, in the order given. The error says that the ledger did not answer, and only what is remembered protects.
pub async fn judge(
    ask: &Ask<'_>,
    rules: &Rules<'_>,
    pass: Pass,
    items: &[ItemId],
    deadline: Instant,
) -> (Vec<Verdict>, Option<StoreError>) {
    if items.is_empty() {
        return (Vec::new(), None);
    }
    // A moment that has passed: the ledger is not asked, memory answers at once.
    let until = if rules.ledger_ok { deadline } else { Instant::now() };
    let good_enough = |card: &Card| pass == Pass::Sift && allowed(card, rules.category, rules.now).is_ok();
    let cards = ask.on.items.cards(&*ask.on.stores.ledger, ask.tenant, items, good_enough, until);
    let engaged = async {
        match pass {
            Pass::Sift => Ok(engaged_as_known(ask, items)),
            Pass::Verify => engaged(ask, rules, items, deadline).await,
        }
    };
    let ((cards, cards_failed), engaged) = join(cards, engaged).await;
    let (engaged, engaged_failed) = match engaged {
        Ok(engaged) => (engaged, None),
        Err(e) => (engaged_as_known(ask, items), Some(e)),
    };
    let verdicts =
        items.iter().zip(cards).zip(engaged).map(|((item, card), engaged)| verdict(rules, item, card, engaged)).collect();
    (verdicts, cards_failed.or(engaged_failed))
}

fn verdict(rules: &Rules<'_>, item: &ItemId, card: Option<Arc<Card>>, engaged: bool) -> Verdict {
    if rules.exclude.contains(item) {
        return Verdict::Remove(Removal::Excluded);
    }
    if engaged {
        return Verdict::Remove(Removal::Engaged);
    }
    let Some(card) = card else { return Verdict::Unverified };
    match allowed(&card, rules.category, rules.now) {
        Ok(()) => Verdict::Keep(card),
        Err(why) => Verdict::Remove(why),
    }
}

/// Whether a card allows an item to be shown.
pub fn allowed(card: &Card, category: Option<&Arc<str>>, now: Timestamp) -> Result<(), Removal> {
    if card.hidden {
        Err(Removal::Hidden)
    } else if card.expires_at.is_some_and(|t| t <= now) {
        Err(Removal::Expired)
    } else if category.is_some_and(|c| !card.categories.contains(c)) {
        Err(Removal::Category)
    } else {
        Ok(())
    }
}

/// For each item, whether the asker engaged with it: the ledger's word.
async fn engaged(ask: &Ask<'_>, rules: &Rules<'_>, items: &[ItemId], deadline: Instant) -> StoreResult<Vec<bool>> {
    match ask.user {
        Some(user) if !ask.on.config.recommend_engaged => {
            if !rules.ledger_ok {
                return Ok(engaged_as_known(ask, items));
            }
            by(deadline, "ledger", ask.on.stores.ledger.engaged(ask.tenant, user, items)).await
        }
        _ => Ok(vec![false; items.len()]),
    }
}

/// The same from the edges that the graph gave in this request, if it did.
fn engaged_as_known(ask: &Ask<'_>, items: &[ItemId]) -> Vec<bool> {
    match ask.own_if_known().filter(|_| ask.user.is_some() && !ask.on.config.recommend_engaged) {
        Some(own) => {
            let own: HashSet<&ItemId> = own.iter().map(|o| &o.item).collect();
            items.iter().map(|i| own.contains(i)).collect()
        }
        None => vec![false; items.len()],
    }
}
