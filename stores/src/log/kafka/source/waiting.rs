//! Records that wait for the worker, and the order in which it gets them.
//!
//! Of one partition always in its order. Between partitions by the records' own times, as far as they have been read: what was produced
//! first is worked off first, so that items are there before what people do with them and nobody's profile has to be made twice. A record
//! is never overtaken by many that were read long after it: a partition of old records must not hold up another's new ones.

use std::collections::{BTreeMap, VecDeque};

use super::held::Held;

/// A record is handed out before any that was read so many records behind it.
const AHEAD: u64 = 65_536;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    /// By partition, each with its place among all that were read.
    parts: BTreeMap<i32, VecDeque<(u64, Held)>>,
    read: u64,
}

impl Waiting {
    /// A record was read.
    pub fn push(&mut self, held: Held) {
        self.read += 1;
        self.parts.entry(held.partition).or_default().push_back((self.read, held));
    }

    /// Records that were handed out come back, in the order in which they were: they go first again.
    pub fn give_back(&mut self, back: VecDeque<Held>) {
        for held in back.into_iter().rev() {
            self.parts.entry(held.partition).or_default().push_front((0, held));
        }
    }

    /// The next record.
    pub fn pop(&mut self) -> Option<Held> {
        let heads = || self.parts.iter().filter_map(|(partition, queue)| Some((*partition, queue.front()?)));
        let oldest = heads().map(|(_, (place, _))| *place).min()?;
        let near = heads().filter(|(_, (place, _))| *place < oldest + AHEAD);
        let (_, partition) = near.map(|(partition, (_, held))| (held.time, partition)).min()?;
        self.parts.get_mut(&partition)?.pop_front().map(|(_, held)| held)
    }

    /// Keeps those alone of which this is true.
    pub fn retain(&mut self, keep: impl Fn(&Held) -> bool) {
        for queue in self.parts.values_mut() {
            queue.retain(|(_, held)| keep(held));
        }
        self.parts.retain(|_, queue| !queue.is_empty());
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.parts.values().map(VecDeque::len).sum()
    }

    /// All of them, partition by partition.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.parts.values().flatten().map(|(_, held)| held)
    }
}

#[cfg(test)]
mod tests {
    use nearcast_domain::ports::Record;

    use super::*;

    fn held(partition: i32, offset: i64, time: i64) -> Held {
        Held { partition, offset, time, record: Record::default() }
    }

    fn order(waiting: &mut Waiting) -> Vec<(i32, i64)> {
        std::iter::from_fn(|| waiting.pop()).map(|h| (h.partition, h.offset)).collect()
    }

    #[test]
    fn what_was_produced_first_comes_first_and_a_partition_keeps_its_order() {
        let mut waiting = Waiting::default();
        for (partition, offset, time) in [(0, 0, 10), (0, 1, 40), (0, 2, 30), (1, 0, 20), (1, 1, 30), (2, 0, 5)] {
            waiting.push(held(partition, offset, time));
        }
        assert_eq!(order(&mut waiting), [(2, 0), (0, 0), (1, 0), (1, 1), (0, 1), (0, 2)]);
    }

    #[test]
    fn new_records_do_not_wait_for_all_the_old_ones_behind_them() {
        let mut waiting = Waiting::default();
        waiting.push(held(0, 0, 1_000));
        (0..100_000).for_each(|offset| waiting.push(held(1, offset, 1)));
        let at = order(&mut waiting).iter().position(|(partition, _)| *partition == 0).unwrap();
        assert_eq!(at as u64, AHEAD - 1);
    }

    #[test]
    fn what_comes_back_goes_first_again() {
        let mut waiting = Waiting::default();
        for (partition, offset, time) in [(0, 0, 1), (1, 0, 2), (0, 1, 3), (1, 1, 4)] {
            waiting.push(held(partition, offset, time));
        }
        let back = [waiting.pop().unwrap(), waiting.pop().unwrap()];
        waiting.give_back(back.into());
        assert_eq!(order(&mut waiting), [(0, 0), (1, 0), (0, 1), (1, 1)]);
        waiting.push(held(0, 2, 1));
        waiting.retain(|h| h.partition != 0);
        assert_eq!(waiting.iter().count(), 0);
    }
}
