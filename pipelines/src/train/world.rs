//! A tenant's history as training reads it: people, items and texts by number, in the order of their ids.
//!
//! Nothing here reads a clock; the same facts give the same numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nearcast_domain::{
    EventId, ItemId, StoreResult, Tenant, Timestamp, UserId, Vector,
    ports::{Edge, GraphRead, HistoryLimit, LedgerRead},
    profile::{ProfileRule, Trace},
};

/// How many rows are read at once.
const PAGE: usize = 1_000;
/// Messages of a person that are read.
const WORDS: usize = 50;

/// One person's first choice of one item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Its number.
    pub item: u32,
    /// How strongly.
    pub weight: f32,
    /// Whether it was a liking.
    pub positive: bool,
    /// When it was first chosen, in milliseconds.
    pub first: i64,
    /// When it last was.
    pub last: i64,
}

/// The history of a tenant.
#[derive(Debug, Default)]
pub struct World {
    /// Items by number.
    pub items: Vec<ItemId>,
    /// People by number.
    pub users: Vec<UserId>,
    /// By person, oldest first (ties by item).
    pub choices: Vec<Vec<Choice>>,
    /// The text of each item, where it has one.
    pub texts: Vec<Option<Vector>>,
    /// The categories of each item, by number.
    pub categories: Vec<Vec<u32>>,
    /// What each person wrote, with its time.
    pub words: Vec<Vec<(i64, EventId, Vector)>>,
}

/// How much of each person's choices is known: the oldest so many.
pub type Known = Vec<usize>;

impl World {
    /// Reads everything. Vectors are those of `revision`.
    pub async fn read(graph: &dyn GraphRead, ledger: &dyn LedgerRead, tenant: &Tenant, revision: &str) -> StoreResult<Self> {
        let edges = graph.scan(tenant).await?;
        let (mut states, mut named) = (Vec::new(), Vec::new());
        let mut after: Option<ItemId> = None;
        loop {
            let page = ledger.catalogue(tenant, after.as_ref(), PAGE, Some(revision)).await?;
            let whole = page.len() == PAGE;
            after = page.last().map(|s| s.item.item_id.clone());
            named.extend(page.iter().map(|s| (s.item.item_id.clone(), s.item.categories.clone())));
            states.extend(page.into_iter().map(|s| (s.item.item_id, s.vector)));
            if !whole {
                break;
            }
        }
        let mut world = Self::new(&edges, states);
        world.categorise(&named);
        for from in (0..world.users.len()).step_by(PAGE) {
            let some = &world.users[from..world.users.len().min(from + PAGE)];
            let limit = HistoryLimit { engagements: 0, messages: WORDS };
            for (n, h) in ledger.histories(tenant, some, limit, Some(revision)).await?.into_iter().enumerate() {
                let words = h.messages.into_iter().filter_map(|m| Some((m.timestamp.millis(), m.id, m.vector?)));
                world.words[from + n] = words.collect();
            }
        }
        Ok(world)
    }

    /// Of these edges and items; items that only edges name are known too.
    pub fn new(edges: &[Edge], states: Vec<(ItemId, Option<Vector>)>) -> Self {
        let edges: Vec<&Edge> = edges.iter().filter(|e| e.weight > 0.0).collect();
        let mut items: BTreeMap<ItemId, Option<Vector>> = edges.iter().map(|e| (e.item.clone(), None)).collect();
        items.extend(states);
        let mut users: Vec<UserId> = edges.iter().map(|e| e.user.clone()).collect();
        users.sort();
        users.dedup();
        let ids: Vec<ItemId> = items.keys().cloned().collect();
        let mut choices = vec![Vec::new(); users.len()];
        for e in &edges {
            let (Ok(user), Ok(item)) = (users.binary_search(&e.user), ids.binary_search(&e.item)) else { continue };
            let (first, last) = (e.first.millis(), e.last.millis());
            choices[user].push(Choice { item: item as u32, weight: e.weight, positive: e.positive, first, last });
        }
        choices.iter_mut().for_each(|c| c.sort_unstable_by_key(|c| (c.first, c.item)));
        let dimension = items.values().flatten().next().map_or(0, |v| v.len());
        let texts = items.into_values().map(|v| v.filter(|v| v.len() == dimension)).collect();
        let categories = vec![Vec::new(); ids.len()];
        Self { items: ids, words: vec![Vec::new(); users.len()], users, choices, texts, categories }
    }

    /// Takes down the categories of items.
    pub fn categorise(&mut self, named: &[(ItemId, Vec<Arc<str>>)]) {
        let names: BTreeSet<&Arc<str>> = named.iter().flat_map(|(_, c)| c).collect();
        let numbers: BTreeMap<&Arc<str>, u32> = names.into_iter().zip(0..).collect();
        for (item, categories) in named {
            if let Ok(item) = self.items.binary_search(item) {
                self.categories[item] = categories.iter().map(|c| numbers[c]).collect();
            }
        }
    }

    /// From the first choice to the last, in hours.
    pub fn span_hours(&self) -> f64 {
        let first = self.choices.iter().flatten().map(|c| c.first).min().unwrap_or(0);
        let last = self.choices.iter().flatten().map(|c| c.first).max().unwrap_or(0);
        (last - first) as f64 / 3_600_000.0
    }

    /// How many choices there are.
    pub fn count(&self) -> usize {
        self.choices.iter().map(Vec::len).sum()
    }

    /// The time of the newest.
    pub fn until(&self) -> i64 {
        self.choices.iter().flatten().map(|c| c.last).max().unwrap_or(0)
    }

    /// Everything is known.
    pub fn all(&self) -> Known {
        self.choices.iter().map(Vec::len).collect()
    }

    /// The known choices of a person, newest first (ties by item), as requests see them: what was chosen again later than what is
    /// known of them counts from its first time.
    pub fn newest(&self, user: usize, known: usize) -> Vec<Choice> {
        let horizon = self.choices[user].get(known).map_or(i64::MAX, |c| c.first);
        let mut own: Vec<Choice> = self.choices[user][..known].to_vec();
        for c in &mut own {
            if c.last >= horizon {
                c.last = c.first;
            }
        }
        own.sort_unstable_by(|a, b| b.last.cmp(&a.last).then(a.item.cmp(&b.item)));
        own
    }

    /// What is known, as edges.
    pub fn edges(&self, known: &Known) -> Vec<Edge> {
        let edge = |user: usize, c: Choice| Edge {
            user: self.users[user].clone(),
            item: self.items[c.item as usize].clone(),
            weight: c.weight,
            positive: c.positive,
            first: Timestamp::from_millis(c.first),
            last: Timestamp::from_millis(c.last),
        };
        (0..self.users.len()).flat_map(|u| self.newest(u, known[u]).into_iter().map(move |c| edge(u, c))).collect()
    }

    /// A person's profile out of what is known.
    pub fn profile(&self, user: usize, known: usize, rule: &ProfileRule) -> Option<Vector> {
        let horizon = self.choices[user].get(known).map_or(i64::MAX, |c| c.first);
        let own = self.newest(user, known).into_iter().take(rule.events).filter(|c| c.positive);
        let mut traces: Vec<Trace> = own
            .filter_map(|c| {
                let vector = self.texts[c.item as usize].clone()?;
                let id = EventId::trusted(self.items[c.item as usize].as_str());
                Some(Trace { timestamp: Timestamp::from_millis(c.last), id, strength: c.weight, vector })
            })
            .collect();
        let words = self.words[user].iter().filter(|(at, ..)| *at < horizon);
        traces.extend(words.map(|(at, id, vector)| Trace {
            timestamp: Timestamp::from_millis(*at),
            id: id.clone(),
            strength: 1.0,
            vector: vector.clone(),
        }));
        rule.profile(traces)
    }
}
