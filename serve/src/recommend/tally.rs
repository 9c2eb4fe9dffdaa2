//! Adding up what speaks for items.
//!
//! One table a thread, used again by the next request: whoever takes the proposals out leaves it empty.

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

/// The table; see the module.
#[derive(Default)]
pub struct Tally {
    /// By number of an item. Half as wide as it could be: of ten thousand items all lie in the nearest cache.
    sums: Vec<f32>,
    /// Who has a voice, a bit each.
    marks: Vec<u64>,
    /// Whether somebody's voices may still be in it.
    used: bool,
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

/// Scores are told apart by so many of their leading bits, for a first choice: the exponent and three more, an eighth of a score.
const COARSE: u32 = 32 - 12;
const CLASSES: usize = 1 << 11;

impl Tally {
    fn begin(&mut self, items: usize) {
        if std::mem::replace(&mut self.used, true) {
            // Whoever used it before never asked for the proposals, which clears it.
            self.sums.fill(0.0);
            self.marks.fill(0);
        }
        if self.sums.len() < items {
            self.sums.resize(items, 0.0);
            self.marks.resize(items.div_ceil(64), 0);
        }
    }

    /// Takes in the voices that `tell` hands out.
    #[inline(always)]
    pub fn hear(&mut self, tell: impl FnOnce(&mut Hearing<'_>)) {
        tell(&mut Hearing { sums: &mut self.sums, marks: &mut self.marks });
    }

    /// The best proposals without what is left out, at most so many: best first with ties by id, or the same ones in no order. Empties the
    /// table.
    pub fn proposals(&mut self, catalogue: &Catalogue, leave_out: &Bits, most: usize, in_order: bool) -> Vec<Proposed> {
        let voiced: usize = self.marks.iter().map(|m| m.count_ones() as usize).sum();
        let mut all: Vec<(f32, u32)> = Vec::with_capacity(voiced);
        let mut classes = [0_u32; CLASSES];
        for (at, (mark, sums)) in self.marks.iter_mut().zip(self.sums.chunks_mut(64)).enumerate() {
            let (voiced, first) = (std::mem::take(mark), at as u32 * 64);
            each_bit(voiced & leave_out.word(at), |bit| sums[bit] = 0.0);
            each_bit(voiced & !leave_out.word(at), |bit| {
                let score = std::mem::take(&mut sums[bit]);
                // Voices are above 0 and finite; together they may be too much for a number.
                let score = score.min(f32::MAX);
                classes[(score.to_bits() >> COARSE) as usize % CLASSES] += 1;
                all.push((score, first + bit as u32));
            });
        }
        self.used = false;
        if all.len() > most {
            // Only what is in the classes that hold the best has to be compared.
            let (mut above, mut lowest) = (0, CLASSES);
            while above < most {
                lowest -= 1;
                above += classes[lowest] as usize;
            }
            all.retain(|(score, _)| (score.to_bits() >> COARSE) as usize >= lowest);
        }
        match in_order {
            true => best_first(&mut all, most, |item| catalogue.id(item)),
            false => best_in_front(&mut all, most, |item| catalogue.id(item)),
        }
        all.truncate(most);
        all.into_iter().map(|(score, item)| Proposed { item, score }).collect()
    }
}

/// A tally that takes in voices, with what it needs at hand: through the table itself each voice would look it up anew.
pub struct Hearing<'a> {
    sums: &'a mut [f32],
    marks: &'a mut [u64],
}

impl Hearing<'_> {
    /// Adds a voice for an item: one that is [`heard`]. Sums run in the order of the calls.
    #[inline(always)]
    pub fn add(&mut self, item: u32, voice: f32) {
        let at = item as usize;
        let (Some(sum), Some(mark)) = (self.sums.get_mut(at), self.marks.get_mut(at / 64)) else { return };
        *sum += voice;
        *mark |= 1 << (at % 64);
    }
}

/// The places of the bits that are set, from the lowest.
#[inline(always)]
fn each_bit(mut bits: u64, mut tell: impl FnMut(usize)) {
    while bits != 0 {
        tell(bits.trailing_zeros() as usize);
        bits &= bits - 1;
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
    if most == 0 || all.len() <= most {
        return;
    }
    // Numbers alone are parted much faster than what is compared by id too; few are as good as the last.
    let mut ranks: Vec<u32> = all.iter().map(|(score, _)| rank(*score)).collect();
    let last = *ranks.select_nth_unstable_by(most - 1, |a, b| b.cmp(a)).1;
    let above = to_the_front(all, |score| rank(score) > last);
    let as_good = above + to_the_front(&mut all[above..], |score| rank(score) == last);
    if as_good > most {
        all[above..as_good].select_nth_unstable_by(most - above - 1, |a, b| order(a, b, &id));
    }
}

/// Brings those whose score `is` so to the front; answers how many.
fn to_the_front(all: &mut [(f32, u32)], is: impl Fn(f32) -> bool) -> usize {
    let mut many = 0;
    for at in 0..all.len() {
        if is(all[at].0) {
            all.swap(at, many);
            many += 1;
        }
    }
    many
}

/// A number that is higher the higher a score is, as by [`f32::total_cmp`].
fn rank(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
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

    #[test]
    fn ranks_go_as_scores_do() {
        let scores = [f32::NEG_INFINITY, -2.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1.0, f32::MAX, f32::INFINITY];
        assert!(scores.is_sorted_by(|a, b| rank(*a) < rank(*b)));
    }
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
            // Voices that nobody took out say nothing to the next.
            with_tally(ids.len(), |t| t.hear(|t| t.add(numbers[0], 9.0)));
            let p = with_tally(ids.len(), |t| {
                t.hear(|t| {
                    for voice in [0.1, 0.4, 0.3, 0.2] {
                        t.add(numbers[0], voice);
                    }
                    t.add(numbers[1], 1.0);
                    for n in &numbers[2..] {
                        t.add(*n, 1e-3);
                    }
                });
                t.proposals(&mem.catalogue(), &Bits::default(), 4, in_order)
            });
            assert_eq!(p.iter().map(|p| id(p.item)).collect::<Vec<_>>(), ["h", "i", "x00", "x01"]);
            assert!((p[1].score - 1.0).abs() < 1e-6);
        }
        let without: Bits = [numbers[1]].into_iter().collect();
        let mut p = with_tally(ids.len(), |t| {
            t.hear(|t| numbers.iter().for_each(|n| t.add(*n, 1.0)));
            t.proposals(&mem.catalogue(), &without, 3, false)
        });
        p.sort_by_key(|p| id(p.item));
        assert_eq!(p.iter().map(|p| id(p.item)).collect::<Vec<_>>(), ["i", "x00", "x01"]);
    }
}
