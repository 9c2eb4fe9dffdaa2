//! What people chose next after the asker's latest items: `Σ 1/(1 + r) · strength · weight` over the newest few that they liked.
//!
//! Reads memory alone, once the asker's own items are known. Without an artefact in service it proposes nothing.

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source};

use super::{Ask, CandidateSource, Found};
use crate::recommend::formulas::recency;

/// The latest items that count, as in training.
const LATEST: usize = 5;

/// The source `next`.
pub struct Next;

#[async_trait]
impl CandidateSource for Next {
    fn source(&self) -> Source {
        Source::Next
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found> {
        let Some(table) = &ask.learned else { return Ok(Found::default()) };
        let all = ask.own().await?.own;
        if table.blending(all.len()).blend.next <= 0.0 {
            return Ok(Found::default());
        }
        let own = || {
            let latest = all.iter().take(LATEST).enumerate().filter(|(_, o)| o.positive && o.weight > 0.0);
            latest.filter_map(|(r, o)| Some((o.item, o.weight * recency(r, 1.0), table.next(o.item)?.clone()))).collect()
        };
        Ok(ask.learned_to_follow(Source::Next, &all, own))
    }
}
