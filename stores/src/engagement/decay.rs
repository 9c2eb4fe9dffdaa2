//! The score of trending, computed in one way for every backend.
//!
//! Reads no clock: age is counted from the newest hour of the tenant.

use nearcast_domain::{ItemId, ports::WEIGHT_STEP};

/// The score of an item whose hours stand in `hours` with their weights in steps, **the oldest first**: one order of adding,
/// one result.
pub(super) fn score(hours: impl IntoIterator<Item = (i64, i64)>, newest: i64, half_life_hours: f64) -> f64 {
    let fade = |hour: i64| (-((newest - hour) as f64) / half_life_hours).exp2();
    let sum: f64 = hours.into_iter().map(|(hour, steps)| steps as f64 * fade(hour)).sum();
    sum * WEIGHT_STEP
}

/// The highest scores from the top, ties by id.
pub(super) fn strongest(mut scores: Vec<(ItemId, f64)>, limit: usize) -> Vec<(ItemId, f64)> {
    let order = |a: &(ItemId, f64), b: &(ItemId, f64)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    if limit > 0 && scores.len() > limit {
        scores.select_nth_unstable_by(limit - 1, order);
    }
    scores.truncate(limit);
    scores.sort_by(order);
    scores
}
