//! Epochs of users in bounded memory. Forgetting a user may cost an answer that was still good; it must never bring back one
//! that was not.

use std::collections::{BTreeMap, HashMap};

use nearcast_domain::{Tenant, UserId};

/// Each bump hands out a number greater than all before. The users bumped longest ago are forgotten first, and whoever is not known
/// has the number of the last that was forgotten: at least what they had themselves, and less than what any bump will give.
#[derive(Debug)]
pub(super) struct Epochs {
    capacity: usize,
    last: u64,
    floor: u64,
    by_user: HashMap<(Tenant, UserId), u64>,
    by_age: BTreeMap<u64, (Tenant, UserId)>,
}

impl Epochs {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, last: 0, floor: 0, by_user: HashMap::new(), by_age: BTreeMap::new() }
    }

    pub(super) fn get(&self, tenant: &Tenant, user: &UserId) -> u64 {
        self.by_user.get(&(tenant.clone(), user.clone())).copied().unwrap_or(self.floor)
    }

    pub(super) fn bump(&mut self, tenant: &Tenant, user: &UserId) {
        self.last += 1;
        let key = (tenant.clone(), user.clone());
        if let Some(old) = self.by_user.insert(key.clone(), self.last) {
            self.by_age.remove(&old);
        }
        self.by_age.insert(self.last, key);
        while self.by_user.len() > self.capacity
            && let Some((epoch, key)) = self.by_age.pop_first()
        {
            self.floor = epoch;
            self.by_user.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_never_falls_nor_stays_after_a_bump() {
        let tenant = Tenant::default();
        let users: Vec<UserId> = (0..50).map(|u| UserId::trusted(format!("u{u}"))).collect();
        let mut epochs = Epochs::new(7);
        let mut seen = [0; 50];
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..5000 {
            let u = rng.usize(..users.len());
            if rng.bool() {
                let before = epochs.get(&tenant, &users[u]);
                epochs.bump(&tenant, &users[u]);
                assert!(epochs.get(&tenant, &users[u]) > before);
            }
            for (user, seen) in users.iter().zip(&mut seen) {
                let now = epochs.get(&tenant, user);
                assert!(now >= *seen);
                *seen = now;
            }
            assert!(epochs.by_user.len() <= 7 && epochs.by_age.len() == epochs.by_user.len());
        }
    }
}
