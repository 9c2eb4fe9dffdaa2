//! The facts of the small world, and what is derived from them at once.

use std::collections::{BTreeMap, HashMap};

use nearcast_domain::{
    EventId, ItemId, Tenant, Timestamp, UserId, Vector,
    event::{Event, Item},
    ports::{CachedAnswer, DeadLetter, Edge, EngagedEvent, History, ItemState, MessageEvent, Neighbour, erasures, item_epoch},
    profile::{ProfileRule, Trace},
    taste::{MESSAGE_KIND, Taste},
    testing::embedder::WordEmbedder,
};

pub const DIMENSION: usize = 32;

/// Everything there is.
#[derive(Default)]
pub struct World {
    pub items: BTreeMap<(Tenant, ItemId), (u64, Item)>,
    pub histories: BTreeMap<(Tenant, UserId), History>,
    pub cache: HashMap<String, CachedAnswer>,
    pub epochs: HashMap<(Tenant, UserId), u64>,
    pub letters: Vec<DeadLetter>,
    pub log: Vec<(Tenant, String, Vec<u8>)>,
    /// How many calls each port had.
    pub calls: HashMap<&'static str, u64>,
    arrived: u64,
}

impl World {
    /// Three subjects with twenty items each; twenty people in each who like a few of them and wrote about it.
    pub fn sample() -> Self {
        let mut world = Self::default();
        let tenant = Tenant::default();
        let start = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        for subject in ["running", "baking", "chess"] {
            for n in 0..20 {
                world.apply(Event::Item(item(&tenant, &format!("{subject}-{n:02}"), subject)));
            }
            for u in 0..20_i64 {
                let user = UserId::trusted(format!("{subject}-fan-{u:02}"));
                let at = start.plus_millis(u * 3_600_000);
                world.write(&tenant, &user, &format!("I love {subject} and more {subject}"), at);
                for n in 0..5 {
                    let liked = ItemId::trusted(format!("{subject}-{:02}", (u + n * 3) % 20));
                    world.engage(&tenant, &user, &liked, "like", 1.0, at.plus_millis(n * 1_000));
                }
            }
        }
        world
    }

    pub fn write(&mut self, tenant: &Tenant, user: &UserId, text: &str, at: Timestamp) {
        let h = self.histories.entry((tenant.clone(), user.clone())).or_default();
        let id = EventId::trusted(format!("m{}", at.millis()));
        h.messages.insert(0, MessageEvent { id, text: text.into(), item: None, timestamp: at, vector: None });
    }

    pub fn engage(&mut self, tenant: &Tenant, user: &UserId, item: &ItemId, kind: &str, value: f64, at: Timestamp) {
        let h = self.histories.entry((tenant.clone(), user.clone())).or_default();
        let id = EventId::trusted(format!("{}-{}-{kind}", item.as_str(), at.millis()));
        let is_message = kind == MESSAGE_KIND;
        h.engagements.insert(0, EngagedEvent { id, is_message, item: item.clone(), kind: kind.into(), value, timestamp: at });
    }

    /// Takes in an event with all its effects.
    pub fn apply(&mut self, event: Event) {
        let tenant = event.tenant().clone();
        if let Some(user) = event.user() {
            *self.epochs.entry((tenant.clone(), user.clone())).or_default() += 1;
        }
        match event {
            Event::Item(i) => {
                self.end_epoch(&tenant, &i.item_id);
                self.arrived += 1;
                self.items.insert((tenant, i.item_id.clone()), (self.arrived, i));
            }
            Event::Message(m) => {
                self.write(&tenant, &m.user_id, &m.text, m.timestamp);
                if let Some(item) = &m.item_id {
                    self.engage(&tenant, &m.user_id, item, MESSAGE_KIND, 1.0, m.timestamp);
                }
            }
            Event::Engagement(e) => self.engage(&tenant, &e.user_id, &e.item_id, &e.kind, e.value, e.timestamp),
            Event::Erasure(e) => {
                *self.epochs.entry((tenant.clone(), erasures())).or_default() += 1;
                self.histories.remove(&(tenant, e.user_id));
            }
        }
    }

    /// Changes an item, as another process does.
    pub fn change(&mut self, key: &(Tenant, ItemId), change: impl FnOnce(&mut Item)) {
        change(&mut self.items.get_mut(key).unwrap().1);
        self.end_epoch(&key.0, &key.1);
    }

    fn end_epoch(&mut self, tenant: &Tenant, item: &ItemId) {
        *self.epochs.entry((tenant.clone(), item_epoch(item))).or_default() += 1;
    }

    pub fn state(&self, tenant: &Tenant, item: &ItemId) -> Option<ItemState> {
        let (_, item) = self.items.get(&(tenant.clone(), item.clone()))?;
        Some(ItemState { item: item.clone(), vector: None })
    }

    pub fn edges(&self, tenant: &Tenant, user: &UserId) -> Vec<Edge> {
        let Some(h) = self.histories.get(&(tenant.clone(), user.clone())) else { return Vec::new() };
        let mut by_item: BTreeMap<&ItemId, Vec<&EngagedEvent>> = BTreeMap::new();
        for e in &h.engagements {
            by_item.entry(&e.item).or_default().push(e);
        }
        let mut edges: Vec<Edge> = by_item
            .into_iter()
            .map(|(item, events)| {
                let s = Taste::default().combined(events.iter().map(|e| (&e.kind, e.value)));
                let times = || events.iter().map(|e| e.timestamp);
                Edge {
                    user: user.clone(),
                    item: item.clone(),
                    weight: s.weight,
                    positive: s.positive,
                    first: times().min().unwrap(),
                    last: times().max().unwrap(),
                }
            })
            .collect();
        edges.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.item.cmp(&b.item)));
        edges
    }

    pub fn users(&self, tenant: &Tenant) -> Vec<UserId> {
        self.histories.keys().filter(|(t, _)| t == tenant).map(|(_, u)| u.clone()).collect()
    }

    /// How many people like both, by item.
    pub fn neighbours(&self, tenant: &Tenant, item: &ItemId) -> Vec<Neighbour> {
        let mut counts: BTreeMap<ItemId, f32> = BTreeMap::new();
        for user in self.users(tenant) {
            let liked: Vec<ItemId> = self.edges(tenant, &user).into_iter().filter(|e| e.positive).map(|e| e.item).collect();
            if liked.contains(item) {
                for other in liked.into_iter().filter(|i| i != item) {
                    *counts.entry(other).or_default() += 1.0;
                }
            }
        }
        let mut list: Vec<Neighbour> = counts.into_iter().map(|(item, weight)| Neighbour { item, weight }).collect();
        list.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.item.cmp(&b.item)));
        list
    }

    pub fn profile(&self, tenant: &Tenant, user: &UserId) -> Option<Vector> {
        let words = WordEmbedder::new(DIMENSION);
        let h = self.histories.get(&(tenant.clone(), user.clone()))?;
        let traces = h.messages.iter().map(|m| Trace {
            timestamp: m.timestamp,
            id: m.id.clone(),
            strength: 1.0,
            vector: words.vector(&m.text),
        });
        ProfileRule::default().profile(traces.collect())
    }
}

pub fn item(tenant: &Tenant, id: &str, subject: &str) -> Item {
    Item {
        tenant: tenant.clone(),
        item_id: ItemId::trusted(id),
        text: Some(format!("{subject} thing {id}").into()),
        categories: vec![subject.into()],
        expires_at: None,
        hidden: false,
        attributes: serde_json::Map::default(),
        timestamp: None,
    }
}
