//! Ninety days of the sample's people: what they wrote and what they did, in the order of time.
//!
//! Time is counted back from a fixed date, never from a clock.

use fastrand::Rng;
use nearcast_domain::{
    Timestamp,
    time::{DAY_MS, HOUR_MS},
};
use serde_json::{Value, json};

use super::{
    catalogue::{TIERS, Vein},
    people::Person,
    words,
};

/// The end of the history: 2026-11-01T00:00:00Z.
pub const END: Timestamp = Timestamp::from_millis(1_793_491_200_000);
/// How many days it covers.
pub const DAYS: i64 = 90;
/// In how many of the last days some items rise.
const RISING_DAYS: i64 = 6;
const SECOND_MS: i64 = HOUR_MS / 3600;

/// Which things are in demand: a property of the seed, the same for everyone.
pub struct Demand {
    /// The kinds of things of each vein, the most wanted first.
    order: Vec<Vec<usize>>,
    /// The item of each vein that rises in the last days, where one does.
    rising: Vec<Option<usize>>,
}

impl Demand {
    /// Draws it.
    pub fn draw(rng: &mut Rng, veins: &[Vein]) -> Self {
        let order = veins.iter().map(|v| {
            let mut kinds: Vec<usize> = (0..v.items.len() / TIERS).collect();
            rng.shuffle(&mut kinds);
            kinds
        });
        let order: Vec<_> = order.collect();
        let rising = veins.iter().map(|v| (rng.u32(..3) == 0).then(|| rng.usize(..v.items.len()))).collect();
        Self { order, rising }
    }

    /// An item of a vein: the wanted more often, in the variant a person tends to, and what rises while it rises.
    fn item(&self, rng: &mut Rng, vein: usize, tier: usize, at: Timestamp) -> usize {
        if at.millis() > END.millis() - RISING_DAYS * DAY_MS
            && rng.u32(..100) < 45
            && let Some(rising) = self.rising[vein]
        {
            return rising;
        }
        let kinds = &self.order[vein];
        let weight = |rank: usize| 840 / (rank as u32 + 1);
        let place = weighted(rng, kinds.len(), weight);
        let tier = if rng.u32(..100) < 62 { tier } else { rng.usize(..TIERS) };
        kinds[place] * TIERS + tier
    }
}

/// Everything one person did and wrote, as events without ids.
pub fn of_person(rng: &mut Rng, veins: &[Vein], demand: &Demand, person: &Person, out: &mut Vec<(Timestamp, Value)>) {
    let mut seen: Vec<(usize, usize)> = Vec::new();
    for _ in 0..person.visits {
        let at = moment(rng);
        let (vein, own) = match rng.u32(..100) {
            0..82 => (own_vein(rng, person), true),
            82..90 => (own_vein(rng, person) ^ 1, true),
            _ => (rng.usize(..veins.len()), false),
        };
        let item = demand.item(rng, vein, person.tier, at);
        if !seen.contains(&(vein, item)) {
            seen.push((vein, item));
            visit(rng, veins, person, (vein, item), own, at, out);
        }
    }
    for n in 0..person.messages {
        let text = match person.tastes.as_slice() {
            [(a, _), (b, _), ..] if n == 0 && rng.u32(..100) < 40 => words::of_both(rng, &veins[*a], &veins[*b]),
            _ => {
                let vein = own_vein(rng, person);
                words::message(rng, &veins[vein])
            }
        };
        push(moment(rng), json!({"type": "message", "user_id": person.id, "text": text}), out);
    }
}

/// Someone comes across an item: they look, and perhaps go on.
fn visit(
    rng: &mut Rng,
    veins: &[Vein],
    person: &Person,
    (vein, item): (usize, usize),
    own: bool,
    at: Timestamp,
    out: &mut Vec<(Timestamp, Value)>,
) {
    let chosen = &veins[vein].items[item];
    let mut at = at;
    let mut act = |rng: &mut Rng, kind: &str, value: f64| {
        let event = json!({"type": "engagement", "user_id": person.id, "item_id": chosen.id, "kind": kind, "value": value});
        push(at, event, out);
        at = at.plus_millis((20 + rng.i64(0..500)) * SECOND_MS);
    };
    act(rng, "view", 1.0);
    let chance = |rng: &mut Rng, percent: u32| rng.u32(..100) < if own { percent } else { percent / 4 };
    if chance(rng, 62) {
        act(rng, "click", 1.0);
    }
    if chance(rng, 36) {
        act(rng, "like", 1.0);
    }
    let bought = chance(rng, 24);
    if bought {
        act(rng, "purchase", 1.0);
    }
    if chance(rng, 18) {
        let stars = if own { [5, 5, 5, 4, 4, 4, 3][rng.usize(..7)] } else { [1, 2, 3, 3, 4][rng.usize(..5)] };
        act(rng, "rating", f64::from(stars));
    }
    if bought && rng.u32(..100) < 22 {
        let text = words::about(rng, &veins[vein], chosen);
        let event = json!({"type": "message", "user_id": person.id, "text": text, "item_id": chosen.id});
        let later = at.plus_millis(rng.i64(1..6) * DAY_MS);
        push(later, event, out);
    }
}

/// Keeps an event, unless the history ends before it.
fn push(at: Timestamp, mut event: Value, out: &mut Vec<(Timestamp, Value)>) {
    if at < END {
        event["timestamp"] = at.to_string().into();
        out.push((at, event));
    }
}

fn own_vein(rng: &mut Rng, person: &Person) -> usize {
    let place = weighted(rng, person.tastes.len(), |i| person.tastes[i].1);
    person.tastes[place].0
}

/// A time in the ninety days: evenings more than nights, and a little more of late.
fn moment(rng: &mut Rng) -> Timestamp {
    let ago = rng.i64(0..DAYS).min(rng.i64(0..DAYS + DAYS / 2));
    let hour = [7, 8, 9, 11, 12, 13, 15, 17, 18, 19, 19, 20, 20, 21, 21, 22, 22, 23][rng.usize(..18)];
    let seconds = rng.i64(0..3600);
    END.plus_millis(-(ago + 1) * DAY_MS + hour * HOUR_MS + seconds * SECOND_MS)
}

/// A place among `len`, by whole weights: equal on every machine.
pub fn weighted(rng: &mut Rng, len: usize, weight: impl Fn(usize) -> u32) -> usize {
    let total: u32 = (0..len).map(&weight).sum();
    let mut left = rng.u32(..total.max(1));
    for place in 0..len {
        let w = weight(place);
        if left < w {
            return place;
        }
        left -= w;
    }
    0
}
