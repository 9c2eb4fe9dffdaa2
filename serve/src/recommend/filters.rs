//! Who must not be recommended, and why: what a card and the caller say about an item.
//!
//! Candidates are judged twice: all by what this process remembers of them, then the few that would be recommended by what is
//! fresh. Protective: what cannot be checked because the ledger is away is held back as `Unverified`, and shown only where
//! nothing else is left.

use std::sync::Arc;

use nearcast_domain::{Timestamp, candidate::Removal};

use super::bits::Bits;
use crate::memory::Card;

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be recommended.
    Keep,
    /// It may not.
    Remove(Removal),
    /// Nobody knows.
    Unverified,
}

/// What the caller and the request decide about candidates.
pub struct Rules<'a> {
    /// None of these.
    pub exclude: &'a Bits,
    /// What the asker engaged with, as far as it is known.
    pub engaged: &'a Bits,
    /// Only of this category.
    pub category: Option<&'a Arc<str>>,
    /// The time of the request: bounds expiry.
    pub now: Timestamp,
}

impl Rules<'_> {
    /// What becomes of an item with this card.
    pub fn judge(&self, item: u32, card: Option<&Card>) -> Verdict {
        if self.exclude.contains(item) {
            return Verdict::Remove(Removal::Excluded);
        }
        if self.engaged.contains(item) {
            return Verdict::Remove(Removal::Engaged);
        }
        let Some(card) = card else { return Verdict::Unverified };
        match self.allows(card) {
            Ok(()) => Verdict::Keep,
            Err(why) => Verdict::Remove(why),
        }
    }

    /// What becomes of an item whose card allows everything.
    pub fn judge_plain(&self, item: u32) -> Verdict {
        if self.exclude.contains(item) {
            Verdict::Remove(Removal::Excluded)
        } else if self.engaged.contains(item) {
            Verdict::Remove(Removal::Engaged)
        } else {
            Verdict::Keep
        }
    }

    /// Whether a card allows an item to be shown.
    pub fn allows(&self, card: &Card) -> Result<(), Removal> {
        allowed(card, self.category, self.now)
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
