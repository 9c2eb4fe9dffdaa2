//! Sample data to look at: a seeded town of people with tastes, as events in the format that every producer uses.
//!
//! The same seed gives the same bytes, on every machine and on every day. It reads no clock, no file and no network, and it
//! knows nothing of what will be recommended: it only writes facts.

mod catalogue;
mod history;
mod people;
mod words;

use fastrand::Rng;

/// How many people live in the sample.
const PEOPLE: usize = 1100;

/// How much there is of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Items.
    pub items: usize,
    /// People.
    pub users: usize,
    /// Messages.
    pub messages: usize,
    /// Engagements.
    pub engagements: usize,
}

/// The lines of a sample: one JSON object each, items first, then messages and engagements in the order of time.
pub struct Events {
    counts: Counts,
    lines: std::vec::IntoIter<String>,
}

impl Events {
    /// How much the whole sample holds, whatever was taken of it already.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Iterator for Events {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.lines.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lines.size_hint()
    }
}

impl ExactSizeIterator for Events {}

/// The sample of a seed.
pub fn events(seed: u64) -> Events {
    let mut rng = Rng::with_seed(seed);
    let veins = catalogue::veins();
    let demand = history::Demand::draw(&mut rng, &veins);
    let people = people::people(&mut rng, &veins, PEOPLE);

    let mut happened = Vec::new();
    for person in &people {
        history::of_person(&mut rng, &veins, &demand, person, &mut happened);
    }
    // Stable: what happened at once stays in the order in which it was told.
    happened.sort_by_key(|(at, _)| *at);

    let mut counts = Counts { users: people.len(), ..Counts::default() };
    let mut lines: Vec<String> = veins.iter().flat_map(|v| v.items.iter().map(|i| i.event(v).to_string())).collect();
    counts.items = lines.len();
    for (_, mut event) in happened {
        let (field, id) = if event.get("type").is_some_and(|t| t == "message") {
            counts.messages += 1;
            ("message_id", format!("m{:05}", counts.messages))
        } else {
            counts.engagements += 1;
            ("event_id", format!("e{:05}", counts.engagements))
        };
        event[field] = id.into();
        lines.push(event.to_string());
    }
    Events { counts, lines: lines.into_iter() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use nearcast_domain::{Event, Timestamp, decode, time::DAY_MS};

    use super::*;

    const SEED: u64 = 1;

    fn decoded() -> Vec<Event> {
        // The day after the end: nothing may lie in its future.
        let cx = decode::Context { max_ahead_ms: 0, ..decode::Context::stored(history::END) };
        events(SEED).map(|l| decode::decode(l.as_bytes(), &cx).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    #[test]
    fn counts_are_as_told_and_large_enough() {
        let told = events(SEED).counts();
        let mut seen = Counts::default();
        let mut users = BTreeSet::new();
        for e in decoded() {
            match &e {
                Event::Item(_) => seen.items += 1,
                Event::Message(_) => seen.messages += 1,
                Event::Engagement(_) => seen.engagements += 1,
                Event::Erasure(_) => panic!("nobody is erased"),
            }
            users.extend(e.user().cloned());
        }
        seen.users = users.len();
        assert_eq!(seen, told);
        assert!(told.items >= 500 && told.users >= 1000, "{told:?}");
        assert!((3000..6000).contains(&told.messages) && (12_000..20_000).contains(&told.engagements), "{told:?}");
    }

    #[test]
    fn a_seed_decides_everything() {
        let text = |seed| events(seed).collect::<Vec<_>>().join("\n");
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn ids_are_unique_and_engagements_are_with_known_items_in_the_ninety_days() {
        let (mut ids, mut items) = (BTreeSet::new(), BTreeSet::new());
        let from = history::END.plus_millis(-history::DAYS * DAY_MS);
        let within = |t: Timestamp| assert!(t >= from && t < history::END, "{t}");
        let mut last = Timestamp::ZERO;
        for e in decoded() {
            match e {
                Event::Item(i) => assert!(items.insert(i.item_id)),
                Event::Message(m) => {
                    within(m.timestamp);
                    assert!(m.timestamp >= last && ids.insert(m.message_id));
                    assert!(m.item_id.is_none_or(|i| items.contains(&i)));
                    assert!(!m.text.contains("{}"), "{}", m.text);
                    last = m.timestamp;
                }
                Event::Engagement(e) => {
                    within(e.timestamp);
                    assert!(e.timestamp >= last && ids.insert(e.event_id) && items.contains(&e.item_id));
                    last = e.timestamp;
                }
                Event::Erasure(_) => {}
            }
        }
    }

    #[test]
    fn there_is_taste_in_it_and_popularity_is_skewed() {
        let (mut labels_of, mut by_user, mut by_item) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for e in decoded() {
            match e {
                Event::Item(i) => drop(labels_of.insert(i.item_id, i.categories)),
                Event::Engagement(e) if &*e.kind == "view" => {
                    let of_user: &mut BTreeMap<_, usize> = by_user.entry(e.user_id).or_default();
                    for c in &labels_of[&e.item_id] {
                        *of_user.entry(c.clone()).or_default() += 1;
                    }
                    *by_item.entry(e.item_id).or_insert(0_usize) += 1;
                }
                _ => {}
            }
        }
        // On average, more than half of what someone looks at lies in one subject out of twelve. (Each item has two labels.)
        let shares = by_user.values().map(|c| {
            let all: usize = c.values().sum::<usize>() / 2;
            c.values().max().copied().unwrap_or(0) as f64 / all as f64
        });
        let mean = shares.sum::<f64>() / by_user.len() as f64;
        assert!(mean > 0.5, "{mean}");
        let mut views: Vec<usize> = by_item.values().copied().collect();
        views.sort_unstable_by(|a, b| b.cmp(a));
        let top: usize = views.iter().take(views.len() / 10).sum();
        let all: usize = views.iter().sum();
        assert!(top * 100 > all * 22, "the upper tenth of the items has {top} of {all} views");
    }
}
