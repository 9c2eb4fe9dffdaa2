//! Latencies counted in buckets that grow by a fiftieth: any number of them in the same memory, quantiles right to 2 %.

use std::time::Duration;

use serde_json::{Value, json};

/// Upper bounds grow by this.
const GROWTH: f64 = 1.02;
/// Below this, in microseconds, all are alike.
const LEAST: f64 = 5.0;
const BUCKETS: usize = 900;

/// See the module.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest_us: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest_us: 0.0 }
    }
}

fn bucket(us: f64) -> usize {
    if us <= LEAST { 0 } else { (((us / LEAST).ln() / GROWTH.ln()).ceil() as usize).min(BUCKETS - 1) }
}

fn bound_us(bucket: usize) -> f64 {
    LEAST * GROWTH.powi(bucket as i32)
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        let us = took.as_secs_f64() * 1e6;
        self.counts[bucket(us)] += 1;
        self.total += 1;
        self.longest_us = self.longest_us.max(us);
    }

    /// All of another.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.total += other.total;
        self.longest_us = self.longest_us.max(other.longest_us);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The q-quantile in milliseconds; NaN of none.
    pub fn ms(&self, q: f64) -> f64 {
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (n, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && self.total > 0 {
                return bound_us(n).min(self.longest_us) / 1e3;
            }
        }
        f64::NAN
    }

    /// How many took at most so long.
    pub fn within(&self, limit: Duration) -> u64 {
        let last = bucket(limit.as_secs_f64() * 1e6);
        self.counts[..=last].iter().sum()
    }

    /// Quantiles, and the counts of ten buckets a factor of ten: what is drawn.
    pub fn json(&self) -> Value {
        let mut bars: Vec<(f64, u64)> = Vec::new();
        for (n, count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            let edge = 10_f64.powf((bound_us(n).log10() * 10.0).ceil() / 10.0) / 1e3;
            match bars.last_mut() {
                Some((e, c)) if (*e - edge).abs() < 1e-9 => *c += count,
                _ => bars.push((edge, *count)),
            }
        }
        json!({"count":self.total,"p50_ms":self.ms(0.5),"p90_ms":self.ms(0.9),"p99_ms":self.ms(0.99),"p999_ms":self.ms(0.999),
               "max_ms":self.longest_us / 1e3,"bars":bars})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_two_percent() {
        let mut h = Histogram::default();
        (1..=10_000).for_each(|n| h.add(Duration::from_micros(n * 10)));
        for q in [0.5, 0.9, 0.99] {
            let right = q * 100.0;
            assert!((h.ms(q) - right).abs() / right < 0.021, "{q}: {}", h.ms(q));
        }
        let share = h.within(Duration::from_millis(50)) as f64 / h.count() as f64;
        assert!((share - 0.5).abs() < 0.015, "{share}");
    }
}
