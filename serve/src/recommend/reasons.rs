//! Why an item is recommended: each source's share in its score, and through whom. Told for what is chosen, for nothing else.
//!
//! Shares and names are those that made the score; nothing is made up afterwards.

use nearcast_domain::candidate::Source;

use super::{
    blend::{Scale, Scored},
    pipeline::Run,
    sources::Found,
    through::Strongest,
};

/// Tells the reasons of what was chosen.
pub(super) fn tell(run: &Run<'_>, chosen: &mut [Scored], scale: &Scale, found: &[(Source, Found)]) {
    // Of each source only the items that it named: whom it did not, nobody speaks for.
    let heard: Vec<(Source, &Found, Vec<(usize, Strongest)>)> = found
        .iter()
        .map(|(source, f)| {
            let named = chosen.iter().enumerate().filter(|(_, s)| s.candidate.named_by(*source));
            let (places, items): (Vec<usize>, Vec<u32>) = named.map(|(place, s)| (place, s.candidate.item)).unzip();
            let strongest = f.through.strongest(run.on.recency_of(*source), &items);
            (*source, f, places.into_iter().zip(strongest).collect())
        })
        .collect();
    let catalogue = run.ask.mem.catalogue();
    for (place, scored) in chosen.iter_mut().enumerate() {
        let via = |source: Source| -> Vec<String> {
            let Some((_, found, strongest)) = heard.iter().find(|(s, ..)| *s == source) else { return Vec::new() };
            let of_this = strongest.iter().filter(|(at, _)| *at == place).flat_map(|(_, voices)| voices);
            let voices = of_this.filter(|(voice, _)| *voice > 0.0);
            voices.filter_map(|(_, speaker)| found.through.name(*speaker, &catalogue)).collect()
        };
        scored.reasons = scale.reasons(&scored.candidate, via, run.query.explain);
    }
}
