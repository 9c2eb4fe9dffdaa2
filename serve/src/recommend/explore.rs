//! A chance for new items: where it is switched on, a share of the answers gives its last place to one of the newest items, drawn evenly.
//!
//! Each draw is told with its probability (propensity), so that what comes of it can be weighed (inverse propensity, Horvitz and Thompson
//! 1952). Filters hold for what is drawn as for everything. Never cached, and off by default: then nothing is ever drawn.

use std::sync::atomic::{AtomicU64, Ordering};

use nearcast_domain::candidate::Source;
use serde::{Deserialize, Serialize};

use super::{
    Query,
    blend::{Candidate, Scored},
    pipeline::Run,
};

/// Whether and how new items are given a chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExploreConfig {
    /// The share of the answers that do so, 0 to 0.5.
    pub share: f64,
    /// Of how many of the newest items one is drawn.
    pub newest: usize,
}

impl Default for ExploreConfig {
    fn default() -> Self {
        Self { share: 0.0, newest: 50 }
    }
}

impl ExploreConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if !(0.0..=0.5).contains(&self.share) {
            return Err(("explore.share", "must lie between 0 and 0.5"));
        }
        if !(1..=super::shelf::NEWEST_DEPTH).contains(&self.newest) {
            return Err(("explore.newest", "must lie between 1 and 200"));
        }
        Ok(())
    }
}

/// Draws, each of them another.
#[derive(Debug, Default)]
pub struct Draws(AtomicU64);

impl Draws {
    /// The next number: even over all 64 bits, and told by `nonce` alone which comes when (SplitMix64, Steele et al. 2014).
    fn next(&self, nonce: u64) -> u64 {
        let mut z = nonce.wrapping_add(self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The query again, as one whose last place goes to a new item, where this answer is one of the share.
    pub fn drawn(&self, config: &ExploreConfig, nonce: u64, query: &Query) -> Option<Query> {
        if config.share <= 0.0 || query.watch.is_some() || unit(self.next(nonce)) >= config.share {
            return None;
        }
        Some(Query { explore: Some(self.next(nonce)), cache: false, ..query.clone() })
    }
}

/// 0 to 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl Run<'_> {
    /// Gives the last place to one of the newest items that may be recommended and is not in the answer yet. Answers with what probability
    /// it was this one, where there was any.
    pub(super) async fn explore(&mut self, chosen: &mut Vec<Scored>, draw: u64) -> Option<f32> {
        let config = self.on.config.explore;
        let newest = self.on.shelf.last_newest(self.ask.tenant, self.ask.category).await;
        let here = |item: &nearcast_domain::ItemId| chosen.iter().any(|s| s.item == *item);
        let fresh = self.ask.mem.numbers(newest.iter().take(config.newest).filter(|i| !here(i)));
        let pool: Vec<Candidate> = fresh.into_iter().map(|i| Candidate::of(i, Source::Newest)).collect();
        let pool = self.allowed(pool).await;
        let one = *pool.get((draw % pool.len().max(1) as u64) as usize)?;
        let mut sure = Vec::with_capacity(1);
        self.verify(vec![(0.0, one)], &mut sure, |c| c.sources().collect()).await;
        let new = sure.pop()?;
        let propensity = (config.share / pool.len() as f64) as f32;
        if chosen.len() >= self.query.k {
            chosen.pop();
        }
        tracing::info!(
            target: "nearcast::explore",
            tenant = %self.ask.tenant, item = %new.item, place = chosen.len() + 1, propensity,
            "a new item was given a chance"
        );
        self.push(chosen, new);
        Some(propensity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_kept_and_draws_are_even() {
        let (draws, config) = (Draws::default(), ExploreConfig { share: 0.2, newest: 10 });
        let drawn: Vec<u64> = (0..20_000).filter_map(|_| draws.drawn(&config, 7, &Query::default())?.explore).collect();
        assert!((3_700..4_300).contains(&drawn.len()), "{}", drawn.len());
        for place in 0..10 {
            let n = drawn.iter().filter(|d| *d % 10 == place).count();
            assert!((300..500).contains(&n), "{place}: {n}");
        }
        assert!(draws.drawn(&ExploreConfig::default(), 7, &Query::default()).is_none());
    }
}
