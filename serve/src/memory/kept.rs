//! A bounded table in two generations: when the younger is full the older is dropped. Reading is a shared lock and a hash.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
    sync::{PoisonError, RwLock},
};

use foldhash::fast::RandomState;

const SHARDS: usize = 16;

/// Values by key, each with a weight.
pub struct Kept<K, V> {
    shards: Box<[RwLock<Generations<K, V>>]>,
    hasher: RandomState,
    /// The weight that one generation of one shard may have.
    room: usize,
}

struct Generations<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    weight: usize,
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    /// Of about this weight in all.
    pub fn new(weight: usize) -> Self {
        let empty = || Generations { young: HashMap::default(), old: HashMap::default(), weight: 0 };
        Self {
            shards: (0..SHARDS).map(|_| RwLock::new(empty())).collect(),
            hasher: RandomState::default(),
            room: (weight / SHARDS / 2).max(1),
        }
    }

    fn shard(&self, key: &K) -> &RwLock<Generations<K, V>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    pub fn get(&self, key: &K) -> Option<V> {
        let shard = self.shard(key).read().unwrap_or_else(PoisonError::into_inner);
        shard.young.get(key).or_else(|| shard.old.get(key)).cloned()
    }

    /// Keeps a value if `ok` says so under the lock that removing takes too.
    pub fn put(&self, key: K, value: V, weight: usize, ok: impl FnOnce() -> bool) {
        let mut shard = self.shard(&key).write().unwrap_or_else(PoisonError::into_inner);
        if !ok() {
            return;
        }
        if shard.weight >= self.room {
            shard.old = std::mem::take(&mut shard.young);
            shard.weight = 0;
        }
        shard.weight += weight;
        shard.old.remove(&key);
        shard.young.insert(key, value);
    }

    pub fn remove(&self, key: &K) {
        let mut shard = self.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        shard.young.remove(key);
        shard.old.remove(key);
    }

    /// Removes all that are so: looks at every one.
    pub fn forget(&self, is: impl Fn(&K) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.young.retain(|key, _| !is(key));
            shard.old.retain(|key, _| !is(key));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner)).map(|s| s.young.len() + s.old.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_new() {
        let kept = Kept::new(1_000);
        for n in 0..20_000 {
            kept.put(n, n, 1, || true);
        }
        assert!((400..=1_100).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.get(&19_999), Some(19_999));
        kept.put(5, 6, 1, || false);
        assert_eq!(kept.get(&5), None);
        kept.remove(&19_999);
        assert_eq!(kept.get(&19_999), None);
        assert!(kept.get(&19_998).is_some() && kept.get(&19_997).is_some());
        kept.forget(|n| n % 2 == 0);
        assert!(kept.get(&19_998).is_none() && kept.get(&19_997).is_some());
    }
}
