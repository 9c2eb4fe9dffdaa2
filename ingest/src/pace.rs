//! How fast texts are embedded, and with that how many of them go into the ledger at once.
//!
//! A crash costs the embeddings of one part of a batch, so a part holds about a second of them: thousands where a model is quick, so that
//! stores are called seldom. Says nothing about what is written, only about when.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Texts of a part at least, and before anything is known.
const LEAST: u64 = 512;
/// Texts of a part at most.
const MOST: u64 = 8_192;
/// So few texts say nothing about the pace.
const TELLING: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// How many texts make a part of a batch.
    pub fn texts_at_once(&self) -> usize {
        self.0.load(Ordering::Relaxed).clamp(LEAST, MOST) as usize
    }

    /// So many texts took so long.
    pub fn took(&self, texts: usize, time: Duration) {
        if texts >= TELLING {
            self.0.store((texts as f64 / time.as_secs_f64().max(1e-6)) as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_about_a_second() {
        let pace = Pace::default();
        assert_eq!(pace.texts_at_once(), 512);
        for (texts, ms, at_once) in [(512, 400, 1_280), (512, 10, 8_192), (1_000, 10_000, 512)] {
            pace.took(texts, Duration::from_millis(ms));
            assert_eq!(pace.texts_at_once(), at_once);
        }
        pace.took(3, Duration::from_millis(1));
        assert_eq!(pace.texts_at_once(), 512);
    }
}
