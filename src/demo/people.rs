//! The people of the sample: their names, what they care for, and how.
//!
//! Tastes are not drawn evenly: who bakes bread often brews filter coffee, and somebody keeps a reef and cuts dovetails.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::{catalogue::Vein, history::weighted};

/// Someone who writes and engages.
#[derive(Debug, Clone)]
pub struct Person {
    /// `maya.okafor`.
    pub id: String,
    /// Veins by their place, with their shares; the first is the strongest.
    pub tastes: Vec<(usize, u32)>,
    /// Which variant of a thing they tend to: the simple, the solid or the fine one.
    pub tier: usize,
    /// How many items they look at.
    pub visits: usize,
    /// How many messages they write.
    pub messages: usize,
}

/// How many tend to the simple, the solid and the fine variant of a thing.
const TIER_SHARES: [u32; 3] = [4, 5, 2];

const FIRST: &str = "maya amir lena tomas priya jonas aisha mateo ingrid kenji sofia daniel yara marek nina oscar leila hugo \
    amara felix zoe rahul clara emeka ida paolo hana victor selma diego freya samir elena noah mina anton grace luca tara \
    bjorn olivia kofi alma ravi julia stefan noor henry lucia arjun eva malik rosa theo wanjiru peter chiara ali greta \
    ben mei carla ivan dalia";

const LAST: &str = "okafor lindqvist haddad moreau tanaka novak silva petersen iyer rossi brandt mensah kowalski larsen \
    garcia nakamura weber osei dubois santos keller rahman horvat bianchi jensen adeyemi fischer costa nguyen bauer \
    lopez eriksson khan martin varga sato meyer diallo hansen romano chen schmitt alvarez patel virtanen ferrari \
    boateng nilsson marin kaya walsh dimitrov torres hoffman yilmaz cohen berg ortega singh murphy papadakis zhang \
    fontaine reyes vogel mwangi kruger olsen bailey sandoval";

/// Veins that often go together.
const AFFINITIES: [(&str, &str); 30] = [
    ("fast trails", "road"),
    ("fast trails", "espresso"),
    ("mountain ultras", "landscape"),
    ("mountain ultras", "bikepacking"),
    ("landscape", "astrophotography"),
    ("landscape", "bikepacking"),
    ("visual observing", "space opera"),
    ("visual observing", "bikepacking"),
    ("astrophotography", "synthesizers"),
    ("filter coffee", "bread and sourdough"),
    ("filter coffee", "film and street"),
    ("espresso", "road"),
    ("espresso", "synthesizers"),
    ("kitchen garden", "bread and sourdough"),
    ("kitchen garden", "hand tools"),
    ("flowers and balcony", "pastry and cakes"),
    ("flowers and balcony", "planted tanks"),
    ("heavy strategy", "space opera"),
    ("heavy strategy", "machines and turning"),
    ("heavy strategy", "near future"),
    ("party and family", "pastry and cakes"),
    ("party and family", "singing and guitar"),
    ("near future", "synthesizers"),
    ("near future", "film and street"),
    ("singing and guitar", "film and street"),
    ("singing and guitar", "hand tools"),
    ("planted tanks", "party and family"),
    ("reef and saltwater", "machines and turning"),
    ("reef and saltwater", "astrophotography"),
    ("road", "pastry and cakes"),
];

/// People by the order in which they are drawn. Every name once.
pub fn people(rng: &mut Rng, veins: &[Vein], count: usize) -> Vec<Person> {
    let first: Vec<&str> = FIRST.split_whitespace().collect();
    let last: Vec<&str> = LAST.split_whitespace().collect();
    let mut names = BTreeSet::new();
    let mut out = Vec::with_capacity(count);
    while out.len() < count.min(first.len() * last.len() / 2) {
        let id = format!("{}.{}", first[rng.usize(..first.len())], last[rng.usize(..last.len())]);
        if !names.insert(id.clone()) {
            continue;
        }
        // A few look at much, most at little.
        let visits = 3 + rng.usize(..=4) + rng.usize(..=4) + if rng.u32(..8) == 0 { rng.usize(..=10) } else { 0 };
        out.push(Person {
            id,
            tastes: tastes(rng, veins),
            tier: weighted(rng, TIER_SHARES.len(), |t| TIER_SHARES[t]),
            visits,
            messages: rng.usize(2..=6).min(rng.usize(2..=6) + 1),
        });
    }
    out
}

/// One to three veins, most often ones that go together.
fn tastes(rng: &mut Rng, veins: &[Vein]) -> Vec<(usize, u32)> {
    // Some veins have more than twice the following of others.
    let main = weighted(rng, veins.len(), |v| 4 + (v as u32 * 5) % 7);
    let mut out = vec![(main, 6)];
    let more = match rng.u32(..100) {
        0..35 => 0,
        35..80 => 1,
        _ => 2,
    };
    for _ in 0..more {
        let next = match rng.u32(..100) {
            0..55 => partner(rng, veins, main).unwrap_or(main ^ 1),
            55..80 => main ^ 1,
            _ => rng.usize(..veins.len()),
        };
        if out.iter().all(|(v, _)| *v != next) {
            out.push((next, 3));
        }
    }
    out
}

fn partner(rng: &mut Rng, veins: &[Vein], main: usize) -> Option<usize> {
    let name = veins.get(main)?.name;
    let others: Vec<&str> =
        AFFINITIES.iter().filter_map(|(a, b)| if *a == name { Some(*b) } else { (*b == name).then_some(*a) }).collect();
    let wanted = rng.choice(&others)?;
    veins.iter().position(|v| v.name == *wanted)
}

#[cfg(test)]
mod tests {
    use super::{super::catalogue::veins, *};

    #[test]
    fn affinities_name_real_veins() {
        let veins = veins();
        for name in AFFINITIES.iter().flat_map(|(a, b)| [a, b]) {
            assert!(veins.iter().any(|v| v.name == *name), "{name}");
        }
    }

    #[test]
    fn people_have_names_and_tastes_of_their_own() {
        let veins = veins();
        let people = people(&mut Rng::with_seed(1), &veins, 1100);
        assert_eq!(people.len(), 1100);
        assert_eq!(people.iter().map(|p| &p.id).collect::<BTreeSet<_>>().len(), 1100);
        let with = |n: usize| people.iter().filter(|p| p.tastes.len() == n).count();
        assert!(with(1) > 200 && with(2) > 200 && with(3) > 50);
        let everyone_cared_for =
            (0..veins.len()).all(|v| people.iter().filter(|p| p.tastes.iter().any(|t| t.0 == v)).count() > 20);
        assert!(everyone_cared_for);
    }
}
