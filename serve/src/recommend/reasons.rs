//! Why an item is recommended: each source's share in its score, and through whom. Told for what is chosen, for nothing else.
//!
//! Shares and names are those that made the score; nothing is made up afterwards.

use nearcast_domain::candidate::Source;

use super::{
    blend::{Scale, Scored},
    pipeline::Run,
    sources::Found,
    through::Speakers,
};

/// Whom a source heard for the chosen items that it named.
struct Heard<'a> {
    source: Source,
    found: &'a Found,
    /// Places among the chosen,
    places: Vec<usize>,
    /// and who was heard for each.
    speakers: Vec<Speakers>,
}

/// Tells the reasons of what was chosen.
pub(super) fn tell(run: &Run<'_>, chosen: &mut [Scored], scale: &Scale, found: &[(Source, Found)]) {
    // Of each source only the items that it named: whom it did not, nobody speaks for.
    let heard: Vec<Heard<'_>> = found
        .iter()
        .map(|(source, found)| {
            let named = chosen.iter().enumerate().filter(|(_, s)| s.candidate.named_by(*source));
            let (places, items): (Vec<usize>, Vec<u32>) = named.map(|(place, s)| (place, s.candidate.item)).unzip();
            let speakers = found.through.speakers(run.on.recency_of(*source), &items);
            Heard { source: *source, found, places, speakers }
        })
        .collect();
    let catalogue = run.ask.mem.catalogue();
    for (place, scored) in chosen.iter_mut().enumerate() {
        let via = |source: Source| -> Vec<String> {
            let Some(heard) = heard.iter().find(|h| h.source == source) else { return Vec::new() };
            let Ok(at) = heard.places.binary_search(&place) else { return Vec::new() };
            heard.speakers[at].iter().filter_map(|speaker| heard.found.through.name(*speaker, &catalogue)).collect()
        };
        scored.reasons = scale.reasons(&scored.candidate, via, run.query.explain);
    }
}
