//! A tenant's items by number: ids, cards and neighbour lists in tables of their own.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use nearcast_domain::{ItemId, Timestamp, ports::ItemState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::recommend::words;

/// The longest text that answers carry, in characters.
const SHORT_TEXT: usize = 160;
/// Entries of all neighbour lists together; beyond these, all are read again.
const MOST_NEIGHBOURS: usize = 16 << 20;

/// What filters and answers need of an item.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Card {
    /// Whether the ledger has a state of it; items that were only ever engaged with have none.
    pub listed: bool,
    /// Whether its producer keeps it from everyone.
    pub hidden: bool,
    /// From when on it is no longer recommended.
    pub expires_at: Option<Timestamp>,
    /// Sorted.
    pub categories: Vec<Arc<str>>,
    /// The beginning of its text.
    pub text: Option<Arc<str>>,
    /// Its words ([`crate::recommend::words`]); none where it is known from an earlier life of the process alone.
    #[serde(skip)]
    pub words: Box<[u32]>,
}

impl Card {
    /// What is to be remembered of a state.
    pub fn of(state: &ItemState) -> Self {
        let i = &state.item;
        Self {
            listed: true,
            hidden: i.hidden,
            expires_at: i.expires_at,
            categories: i.categories.clone(),
            text: i.text.as_ref().map(shortened),
            words: i.text.as_ref().map(|t| words(t)).unwrap_or_default(),
        }
    }
}

/// The beginning of a text, as answers show it.
pub fn shortened(text: &Arc<str>) -> Arc<str> {
    match text.char_indices().nth(SHORT_TEXT) {
        None => text.clone(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()).into(),
    }
}

/// An item next to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Next {
    /// Its number.
    pub item: u32,
    /// How near: above 0 and finite, which is seen to where lists are made.
    pub weight: f32,
}

/// A card and when it was read; `None`: it only protects.
#[derive(Debug, Clone)]
pub(super) struct KnownCard {
    pub card: Arc<Card>,
    pub at: Option<Instant>,
    /// When it was last asked for anew, while it was still given.
    pub asked: Option<Instant>,
    /// When it was read, and in which epoch of its item, where that is known.
    pub read: Option<(Instant, u64)>,
    /// It is neither hidden nor does it ever expire: told without looking at the card.
    pub plain: bool,
}

impl KnownCard {
    pub fn new(card: Arc<Card>, at: Option<Instant>) -> Self {
        Self { plain: !card.hidden && card.expires_at.is_none(), card, at, asked: None, read: None }
    }

    /// The same, read in this epoch of its item.
    pub fn in_epoch(self, epoch: Option<u64>) -> Self {
        Self { read: self.at.zip(epoch), ..self }
    }
}

#[derive(Debug, Clone)]
pub(super) struct KnownList {
    pub list: Arc<[Next]>,
    /// How many were asked for: a shorter list is whole.
    pub limit: usize,
    pub at: Instant,
}

/// See the module.
#[derive(Default)]
pub struct Catalogue {
    numbers: HashMap<ItemId, u32, RandomState>,
    ids: Vec<ItemId>,
    cards: Vec<Option<KnownCard>>,
    lists: Vec<Option<KnownList>>,
    neighbours: usize,
}

impl Catalogue {
    /// How many items have a number.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The number of an item, if it has one.
    pub fn find(&self, item: &ItemId) -> Option<u32> {
        self.numbers.get(item).copied()
    }

    /// The number of an item.
    pub(super) fn number(&mut self, item: &ItemId) -> u32 {
        if let Some(n) = self.numbers.get(item) {
            return *n;
        }
        let n = self.ids.len() as u32;
        self.numbers.insert(item.clone(), n);
        self.ids.push(item.clone());
        self.cards.push(None);
        self.lists.push(None);
        n
    }

    /// The item of a number that this catalogue gave.
    pub fn id(&self, number: u32) -> &ItemId {
        &self.ids[number as usize]
    }

    pub(super) fn card(&self, number: u32) -> Option<&KnownCard> {
        self.cards[number as usize].as_ref()
    }

    pub(super) fn set_card(&mut self, number: u32, known: KnownCard) {
        self.cards[number as usize] = Some(known);
    }

    /// A card is being read anew.
    pub(super) fn ask_card(&mut self, number: u32, now: Instant) {
        if let Some(known) = &mut self.cards[number as usize] {
            known.asked = Some(now);
        }
    }

    /// A card that was read then is still what the ledger has at `at`; `None`: perhaps not.
    pub(super) fn judge_card(&mut self, number: u32, read: (Instant, u64), at: Option<Instant>) {
        if let Some(known) = self.cards[number as usize].as_mut().filter(|known| known.read == Some(read)) {
            known.at = at;
            known.read = known.read.filter(|_| at.is_some());
        }
    }

    /// What was known only protects from now on.
    pub(super) fn age_card(&mut self, item: &ItemId) {
        if let Some(n) = self.find(item)
            && let Some(known) = &mut self.cards[n as usize]
        {
            known.at = None;
            known.read = None;
        }
    }

    pub(super) fn list(&self, number: u32) -> Option<&KnownList> {
        self.lists[number as usize].as_ref()
    }

    pub(super) fn set_list(&mut self, number: u32, known: KnownList) {
        if self.neighbours + known.list.len() > MOST_NEIGHBOURS {
            self.forget_lists();
        }
        self.neighbours += known.list.len();
        if let Some(before) = self.lists[number as usize].replace(known) {
            self.neighbours -= before.list.len();
        }
    }

    pub(super) fn forget_list(&mut self, item: &ItemId) {
        if let Some(n) = self.find(item)
            && let Some(before) = self.lists[n as usize].take()
        {
            self.neighbours -= before.list.len();
        }
    }

    pub(super) fn forget_lists(&mut self) {
        self.lists.iter_mut().for_each(|l| *l = None);
        self.neighbours = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let long: Arc<str> = "жук ".repeat(100).into();
        assert!(shortened(&long).chars().count() <= SHORT_TEXT + 1);
        let short: Arc<str> = "short".into();
        assert_eq!(shortened(&short), short);
    }

    #[test]
    fn numbers_stay_and_an_old_card_only_protects() {
        let mut c = Catalogue::default();
        let (a, b) = (ItemId::trusted("a"), ItemId::trusted("b"));
        assert_eq!((c.number(&a), c.number(&b), c.number(&a), c.len()), (0, 1, 0, 2));
        c.set_card(0, KnownCard::new(Arc::default(), Some(Instant::now())));
        c.age_card(&a);
        assert!(c.card(0).unwrap().at.is_none() && c.card(1).is_none());
        c.set_list(1, KnownList { list: [Next { item: 0, weight: 1.0 }].into(), limit: 9, at: Instant::now() });
        c.forget_list(&b);
        assert!(c.list(1).is_none() && c.neighbours == 0);
    }
}
