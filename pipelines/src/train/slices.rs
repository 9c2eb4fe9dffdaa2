//! Earlier moments on which sources and blends are compared: what was known then, and what people chose next.
//!
//! Where people come again and again, a moment is one time for all. Where most come once, everyone's latest choices are held back
//! instead: at one time for all there would be nobody of whom anything is known.

use super::world::{Known, World};

/// The share of all choices that judges an artefact: the newest.
const JUDGED: f64 = 0.1;
/// The share of each slice before, on which the blend is learned.
const LEARNED: f64 = 0.05;
/// How many of those there are.
const SLICES: usize = 3;
/// Slices are times where at least this share of their choices is of people known before.
const RETURNING: f64 = 0.5;

/// A person and what they chose next.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Who.
    pub user: usize,
    /// What they chose next, by number, in order.
    pub truth: Vec<u32>,
}

/// An earlier moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// What was known.
    pub known: Known,
    /// What came next.
    pub tests: Vec<Test>,
    /// When, where it was one time for all.
    pub at: Option<i64>,
}

/// The slices of a history: those to learn on, oldest first, and at the end the one that judges. Empty where there is too little. At most
/// `people` tests each, spread over all.
pub fn slices(world: &World, people: usize) -> Vec<Slice> {
    let mut times: Vec<i64> = world.choices.iter().flatten().map(|c| c.first).collect();
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len() as f64) * (1.0 - share)) as usize).copied();
    let begins: Option<Vec<i64>> = (0..=SLICES).rev().map(|n| at(JUDGED + LEARNED * n as f64)).collect();
    let Some(begins) = begins else { return Vec::new() };
    let by_time: Vec<Slice> =
        begins.iter().enumerate().map(|(n, at)| by_time(world, *at, begins.get(n + 1).copied().unwrap_or(i64::MAX))).collect();
    let returning = by_time.iter().flat_map(|s| &s.tests).map(|t| t.truth.len()).sum::<usize>();
    let newer = times.len() - times.partition_point(|t| *t < begins[0]);
    let mut slices = match returning as f64 >= RETURNING * newer as f64 {
        true => by_time,
        false => (0..=SLICES).rev().map(|n| by_person(world, n)).collect(),
    };
    for s in &mut slices {
        thin(&mut s.tests, people);
    }
    slices
}

fn by_time(world: &World, at: i64, end: i64) -> Slice {
    let known: Known = world.choices.iter().map(|c| c.partition_point(|c| c.first < at)).collect();
    let until = |c: &[super::world::Choice]| c.partition_point(|c| c.first < end);
    let tests = (0..world.users.len()).map(|u| test(world, u, known[u], until(&world.choices[u])));
    Slice { tests: tests.flatten().collect(), known, at: Some(at) }
}

/// The `n`-th slice from the newest, of everyone's own choices.
fn by_person(world: &World, n: usize) -> Slice {
    // Where a person's slices begin, from the newest.
    let begin = |length: usize, n: usize| {
        let part = |share: f64| ((length as f64 * share).round() as usize).max(1);
        length.saturating_sub(part(JUDGED) + n * part(LEARNED))
    };
    let (mut known, mut tests) = (Vec::with_capacity(world.users.len()), Vec::new());
    for (user, choices) in world.choices.iter().enumerate() {
        let from = begin(choices.len(), n);
        let to = if n == 0 { choices.len() } else { begin(choices.len(), n - 1) };
        // Of too short a history nothing would be left.
        let enough = from >= 2;
        known.push(if enough { from } else { choices.len() });
        if enough {
            tests.extend(test(world, user, from, to));
        }
    }
    Slice { known, tests, at: None }
}

fn test(world: &World, user: usize, from: usize, to: usize) -> Option<Test> {
    let truth: Vec<u32> = world.choices[user][from..to].iter().map(|c| c.item).collect();
    (from > 0 && !truth.is_empty()).then_some(Test { user, truth })
}

/// Leaves at most `most`, at even distances.
fn thin(tests: &mut Vec<Test>, most: usize) {
    let n = tests.len();
    if n > most {
        let mut at = 0;
        tests.retain(|_| {
            let keep = (at + 1) * most / n > at * most / n;
            at += 1;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{ItemId, Timestamp, UserId, ports::Edge};

    use super::*;

    fn edge(user: usize, item: usize, at: i64) -> Edge {
        let time = Timestamp::from_millis(at);
        let (user, item) = (UserId::trusted(format!("u{user:03}")), ItemId::trusted(format!("i{item:03}")));
        Edge { user, item, weight: 1.0, positive: true, first: time, last: time }
    }

    #[test]
    fn people_who_return_are_cut_by_time_and_others_by_their_own() {
        // Everyone all the time.
        let steady: Vec<Edge> = (0..400).map(|n| edge(n % 10, n / 10, n as i64)).collect();
        let s = slices(&World::new(&steady, Vec::new()), 100);
        assert_eq!(s.iter().map(|s| s.at).collect::<Vec<_>>(), [Some(300), Some(320), Some(340), Some(360)]);
        assert_eq!((s[3].known[0], s[3].tests.len(), s[3].tests[0].truth.clone()), (36, 10, vec![36, 37, 38, 39]));
        assert_eq!(slices(&World::new(&steady, Vec::new()), 3)[0].tests.len(), 3);
        // One after the other.
        let once: Vec<Edge> = (0..400).map(|n| edge(n / 40, n % 40, n as i64)).collect();
        let s = slices(&World::new(&once, Vec::new()), 100);
        assert!(s.iter().all(|s| s.at.is_none() && s.tests.len() == 10));
        assert_eq!((s[0].known[0], s[0].tests[0].truth.clone()), (30, vec![30, 31]));
        assert_eq!((s[3].known[0], s[3].tests[0].truth.clone()), (36, vec![36, 37, 38, 39]));
        assert!(slices(&World::default(), 100).is_empty());
    }
}
