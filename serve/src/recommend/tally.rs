//! Adding up what speaks for items, and remembering through whom the most came.
//!
//! One table a thread, used again by the next request: an entry counts only where it bears the stamp of the tally under way.

use std::{cell::RefCell, cmp::Ordering};

use super::{bits::Bits, formulas::VIA};
use crate::memory::Catalogue;

/// Nobody, in [`Proposed::via`].
pub const NOBODY: u16 = u16::MAX;

/// One source's word for an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposed {
    /// The item's number.
    pub item: u32,
    /// Above 0, comparable within the source only.
    pub score: f32,
    /// Through whom, the strongest first: places in the source's list of names.
    pub via: [u16; VIA],
}

#[derive(Clone, Copy)]
struct Sum {
    stamp: u32,
    voices: u32,
    score: f64,
    via: [(f32, u16); VIA],
}

const NOTHING: Sum = Sum { stamp: 0, voices: 0, score: 0.0, via: [(0.0, NOBODY); VIA] };

/// The table; see the module.
#[derive(Default)]
pub struct Tally {
    sums: Vec<Sum>,
    stamp: u32,
    touched: Vec<u32>,
}

thread_local! {
    static TALLY: RefCell<Tally> = RefCell::default();
}

/// Runs with this thread's table, empty.
pub fn with_tally<T>(run: impl FnOnce(&mut Tally) -> T) -> T {
    TALLY.with_borrow_mut(|tally| {
        tally.begin();
        run(tally)
    })
}

impl Tally {
    fn begin(&mut self) {
        self.touched.clear();
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.sums.fill(NOTHING);
            self.stamp = 1;
        }
    }

    /// Adds a voice for an item; voices at or below 0, or not finite, say nothing. Sums run in the order of the calls.
    #[inline]
    pub fn add(&mut self, item: u32, voice: f32, via: u16) {
        if !(voice.is_finite() && voice > 0.0) {
            return;
        }
        let at = item as usize;
        if at >= self.sums.len() {
            self.sums.resize(at + 1, NOTHING);
        }
        let sum = &mut self.sums[at];
        if sum.stamp != self.stamp {
            *sum = Sum { stamp: self.stamp, ..NOTHING };
            self.touched.push(item);
        }
        sum.score += f64::from(voice);
        let known = (sum.voices as usize).min(VIA);
        sum.voices += 1;
        if known == VIA && sum.via[VIA - 1].0 >= voice {
            return;
        }
        // Equal voices keep the order in which they were heard.
        let mut place = 0;
        while place < known && sum.via[place].0 >= voice {
            place += 1;
        }
        let end = (known + 1).min(VIA);
        sum.via.copy_within(place..end - 1, place + 1);
        sum.via[place] = (voice, via);
    }

    /// The best proposals without what is left out, at most so many: best first with ties by id, or the same ones in no order.
    pub fn proposals(&mut self, catalogue: &Catalogue, leave_out: &Bits, most: usize, in_order: bool) -> Vec<Proposed> {
        let sums = &self.sums;
        let touched = self.touched.iter().filter(|i| !leave_out.contains(**i));
        let mut all: Vec<(f32, u32)> = touched.map(|i| (sums[*i as usize].score as f32, *i)).collect();
        match in_order {
            true => best_first(&mut all, catalogue, most),
            false => best_in_front(&mut all, catalogue, most),
        }
        all.truncate(most);
        all.into_iter()
            .map(|(score, item)| Proposed { item, score, via: sums[item as usize].via.map(|(_, via)| via) })
            .collect()
    }
}

/// Brings the best `most` of scored items to the front, in order: by score from the top, ties by id. What comes after is in no order.
pub fn best_first(all: &mut [(f32, u32)], catalogue: &Catalogue, most: usize) {
    best_in_front(all, catalogue, most);
    let end = if most > 0 { most.min(all.len()) } else { all.len() };
    all[..end].sort_unstable_by(|a, b| order(catalogue, a, b));
}

/// Brings the best `most` of scored items to the front, in no order.
fn best_in_front(all: &mut [(f32, u32)], catalogue: &Catalogue, most: usize) {
    if most > 0 && all.len() > most {
        all.select_nth_unstable_by(most - 1, |a, b| order(catalogue, a, b));
    }
}

fn order(catalogue: &Catalogue, a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then_with(|| if a.1 == b.1 { Ordering::Equal } else { catalogue.id(a.1).cmp(catalogue.id(b.1)) })
}

#[cfg(test)]
mod tests {
    use nearcast_domain::ItemId;

    use super::*;
    use crate::{config::ItemMemoryConfig, memory::Freshness, memory::TenantMemory};

    #[test]
    fn the_strongest_voices_are_named_and_ties_go_by_id() {
        let mem = TenantMemory::new(Freshness::Exclusive, &ItemMemoryConfig::default());
        let ids: Vec<ItemId> = ["i", "h"]
            .into_iter()
            .map(ItemId::trusted)
            .chain((0..100).rev().map(|n| ItemId::trusted(format!("x{n:02}"))))
            .collect();
        let numbers = mem.numbers(ids.iter());
        let id = |n: u32| mem.catalogue().id(n).as_str().to_owned();
        for _ in 0..2 {
            let p = with_tally(|t| {
                for (voice, via) in [(0.1, 0), (0.4, 1), (0.3, 2), (0.2, 3), (f32::NAN, 4), (-1.0, 5)] {
                    t.add(numbers[0], voice, via);
                }
                t.add(numbers[1], 1.0, 0);
                for n in &numbers[2..] {
                    t.add(*n, 1e-3, 0);
                }
                t.proposals(&mem.catalogue(), &Bits::default(), 4, true)
            });
            assert_eq!(p.iter().map(|p| id(p.item)).collect::<Vec<_>>(), ["h", "i", "x00", "x01"]);
            assert_eq!((p[1].via, p[0].via), ([1, 2, 3], [0, NOBODY, NOBODY]));
            assert!((p[1].score - 1.0).abs() < 1e-6);
        }
    }
}
