//! What rises: for everyone alike with the half-life that fits the tenant's catalogue, or as it was learned, faster and more of the
//! asker's own categories.
//!
//! Reads lists that all requests share; what is the asker's own is looked up in memory.

use std::collections::HashMap;

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source, learned::to_the_taste};

use super::{Ask, CandidateSource, Found, Own};
use crate::recommend::{
    shelf::Rising,
    tally::{Proposed, best_first},
    through::Through,
};

/// The source `trending`.
pub struct Trending;

#[async_trait]
impl CandidateSource for Trending {
    fn source(&self) -> Source {
        Source::Trending
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found> {
        let Some(table) = &ask.learned else { return risen(ask, None, 0.0, &[]).await };
        // Who cannot be read is nobody known: what rises is there all the same.
        let own = ask.own().await.map(|edges| edges.own).unwrap_or_default();
        let blend = &table.blending(own.len()).blend;
        risen(ask, table.half_life(blend), blend.trending_taste, &own).await
    }
}

async fn risen(ask: &Ask<'_>, half_life: Option<f32>, taste: f32, own: &[Own]) -> StoreResult<Found> {
    let rising = ask.on.shelf.rising(ask.tenant, ask.category, half_life).await?;
    let liked: Vec<u32> = own.iter().take(ask.on.config.sources.own_items).filter(|o| o.positive).map(|o| o.item).collect();
    if taste <= 0.0 || liked.is_empty() {
        return Ok(Found::risen(ask, &rising));
    }
    Ok(of_taste(ask, &rising, taste, &liked))
}

/// The same, more of the categories that the asker has most of.
fn of_taste(ask: &Ask<'_>, rising: &Rising, taste: f32, liked: &[u32]) -> Found {
    let numbered = rising.numbered(&ask.mem);
    let mut counts: HashMap<std::sync::Arc<str>, f32> = HashMap::new();
    ask.mem.each_card(liked.iter().copied(), |_, seen| {
        for category in seen.iter().flat_map(|s| &s.card.categories) {
            *counts.entry(category.clone()).or_default() += 1.0;
        }
    });
    let most = counts.values().copied().fold(1.0, f32::max);
    let mut ranked: Vec<(f32, u32)> = Vec::with_capacity(numbered.len());
    let mut place = 0_u32;
    ask.mem.each_card(numbered.iter().map(|(i, _)| *i), |_, seen| {
        let part = |c| counts.get(c).copied().unwrap_or(0.0) / most;
        let affinity = seen.iter().flat_map(|s| &s.card.categories).map(part).fold(0.0, f32::max);
        ranked.push((numbered[place as usize].1 * to_the_taste(affinity, taste), place));
        place += 1;
    });
    let wanted = ask.on.config.sources.trending.min(ranked.len());
    let catalogue = ask.mem.catalogue();
    best_first(&mut ranked, wanted, |place| catalogue.id(numbered[place as usize].0));
    let first = ranked.iter().take(wanted);
    let proposals = first.map(|(score, place)| Proposed { item: numbered[*place as usize].0, score: *score }).collect();
    Found { proposals, through: Through::Nobody }
}
