//! Adding up what speaks for items.
//!
//! One table a thread, used again by the next request: an entry counts only where it bears the stamp of the tally under way.

use std::{cell::RefCell, cmp::Ordering};

use nearcast_domain::ItemId;

use super::bits::Bits;
use crate::memory::Catalogue;

/// One source's word for an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposed {
    /// The item's number.
    pub item: u32,
    /// Above 0, comparable within the source only.
    pub score: f32,
}

#[derive(Clone, Copy)]
struct Sum {
    score: f64,
    stamp: u32,
}

const NOTHING: Sum = Sum { score: 0.0, stamp: 0 };

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

/// Runs with this thread's table, empty, for all items of a catalogue.
pub fn with_tally<T>(items: usize, run: impl FnOnce(&mut Tally) -> T) -> T {
    TALLY.with_borrow_mut(|tally| {
        tally.begin(items);
        run(tally)
    })
}

impl Tally {
    fn begin(&mut self, items: usize) {
        self.touched.clear();
        if self.sums.len() < items {
            self.sums.resize(items, NOTHING);
        }
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.sums.fill(NOTHING);
            self.stamp = 1;
        }
    }

    /// Adds a voice for an item; voices at or below 0, or not finite, say nothing. Sums run in the order of the calls.
    #[inline(always)]
    pub fn add(&mut self, item: u32, voice: f32) {
        if !heard(voice) {
            return;
        }
        let Some(sum) = self.sums.get_mut(item as usize) else { return };
        if sum.stamp == self.stamp {
            sum.score += f64::from(voice);
        } else {
            *sum = Sum { score: f64::from(voice), stamp: self.stamp };
            self.touched.push(item);
        }
    }

    /// The best proposals without what is left out, at most so many: best first with ties by id, or the same ones in no order.
    pub fn proposals(&mut self, catalogue: &Catalogue, leave_out: &Bits, most: usize, in_order: bool) -> Vec<Proposed> {
        let sums = &self.sums;
        let touched = self.touched.iter().filter(|i| !leave_out.contains(**i));
        let mut all: Vec<(f32, u32)> = touched.map(|i| (sums[*i as usize].score as f32, *i)).collect();
        match in_order {
            true => best_first(&mut all, most, |item| catalogue.id(item)),
            false => best_in_front(&mut all, most, |item| catalogue.id(item)),
        }
        all.truncate(most);
        all.into_iter().map(|(score, item)| Proposed { item, score }).collect()
    }
}

/// Whether a voice says anything.
#[inline(always)]
pub fn heard(voice: f32) -> bool {
    voice.is_finite() && voice > 0.0
}

/// Brings the best `most` of scored things to the front, in order: by score from the top, ties by id. What comes after is in no order.
pub fn best_first<'a>(all: &mut [(f32, u32)], most: usize, id: impl Fn(u32) -> &'a ItemId) {
    best_in_front(all, most, &id);
    let end = if most > 0 { most.min(all.len()) } else { all.len() };
    all[..end].sort_unstable_by(|a, b| order(a, b, &id));
}

/// Brings the best `most` of scored things to the front, in no order.
fn best_in_front<'a>(all: &mut [(f32, u32)], most: usize, id: impl Fn(u32) -> &'a ItemId) {
    if most > 0 && all.len() > most {
        all.select_nth_unstable_by(most - 1, |a, b| order(a, b, &id));
    }
}

#[inline(always)]
fn order<'a>(a: &(f32, u32), b: &(f32, u32), id: &impl Fn(u32) -> &'a ItemId) -> Ordering {
    match b.0.total_cmp(&a.0) {
        Ordering::Equal if a.1 != b.1 => id(a.1).cmp(id(b.1)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::ItemMemoryConfig,
        memory::{Freshness, TenantMemory},
    };

    #[test]
    fn sums_begin_anew_and_ties_go_by_id() {
        let mem = TenantMemory::new(Freshness::Exclusive, &ItemMemoryConfig::default());
        let others = (0..100).rev().map(|n| ItemId::trusted(format!("x{n:02}")));
        let ids: Vec<ItemId> = ["i", "h"].into_iter().map(ItemId::trusted).chain(others).collect();
        let numbers = mem.numbers(ids.iter());
        let id = |n: u32| mem.catalogue().id(n).as_str().to_owned();
        for in_order in [true, true] {
            let p = with_tally(ids.len(), |t| {
                for voice in [0.1, 0.4, 0.3, 0.2, f32::NAN, -1.0] {
                    t.add(numbers[0], voice);
                }
                t.add(numbers[1], 1.0);
                for n in &numbers[2..] {
                    t.add(*n, 1e-3);
                }
                t.proposals(&mem.catalogue(), &Bits::default(), 4, in_order)
            });
            assert_eq!(p.iter().map(|p| id(p.item)).collect::<Vec<_>>(), ["h", "i", "x00", "x01"]);
            assert!((p[1].score - 1.0).abs() < 1e-6);
        }
        let without: Bits = [numbers[1]].into_iter().collect();
        let mut p = with_tally(ids.len(), |t| {
            numbers.iter().for_each(|n| t.add(*n, 1.0));
            t.proposals(&mem.catalogue(), &without, 3, false)
        });
        p.sort_by_key(|p| id(p.item));
        assert_eq!(p.iter().map(|p| id(p.item)).collect::<Vec<_>>(), ["i", "x00", "x01"]);
    }
}
