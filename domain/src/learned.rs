//! What training makes: a blend, and for each item the items that follow from having it. Plain data with a form in bytes.
//!
//! The same facts give the same bytes. Holds weights between items and of sources, and nothing of any one person.

use serde::{Deserialize, Serialize};

use crate::{ItemId, candidate::Source};

/// What each source counts, and how fast a person's own older items fade.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blend {
    /// Items next to the person's own.
    pub graph: f32,
    /// Items that follow from the person's own.
    pub learned: f32,
    /// What came next after the person's latest items.
    pub next: f32,
    /// What near people engaged with.
    pub similar_users: f32,
    /// Items whose text is near.
    pub similar_text: f32,
    /// What rises, times the share that fits the tenant and the person.
    pub trending: f32,
    /// The exponent of fading in `graph`: the r-th newest item counts `(1 + r)^-exponent`, with r from 0.
    pub graph_recency: f32,
    /// The same in `learned`.
    pub learned_recency: f32,
    /// The half-life of trending as a share of the history's span; 0: whatever fits the catalogue at the time.
    pub trending_pace: f32,
    /// How much trending follows the person's categories: an item counts `(0.3 + a)^taste`, where `a` is the part of the person's own
    /// items in its category, relative to their most frequent one.
    pub trending_taste: f32,
    /// How much everything but trending counts only for what rises: times `max(t, 0.01)^moment`, where `t` is what trending says of an
    /// item, relative to the strongest.
    pub moment: f32,
    /// How strongly items of a category that was already chosen are held back, 0 to 1.
    pub diversity: f32,
}

impl Default for Blend {
    /// Without any training.
    fn default() -> Self {
        Self {
            graph: 1.0,
            learned: 0.0,
            next: 0.0,
            similar_users: 0.1,
            similar_text: 0.3,
            trending: 1.0,
            graph_recency: 0.75,
            learned_recency: 0.7,
            trending_pace: 0.0,
            trending_taste: 0.0,
            moment: 0.0,
            diversity: 0.0,
        }
    }
}

impl Blend {
    /// What a source counts. `newest` only fills and is never learned.
    pub const fn of(&self, source: Source) -> f32 {
        match source {
            Source::Graph => self.graph,
            Source::Learned => self.learned,
            Source::Next => self.next,
            Source::SimilarUsers => self.similar_users,
            Source::SimilarText => self.similar_text,
            Source::Trending => self.trending,
            Source::Newest => 0.0,
        }
    }
}

/// The groups of people that may have a blend of their own, by how many items they have.
pub const GROUPS: [&str; 4] = ["0", "1-4", "5-20", "21+"];

/// The group of someone with so many items.
pub const fn group_of(items: usize) -> usize {
    match items {
        0 => 0,
        1..=4 => 1,
        5..=20 => 2,
        _ => 3,
    }
}

/// Everything that training makes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learned {
    /// For everyone without a blend of their group.
    pub blend: Blend,
    /// By group, where the history showed that it is worth it.
    pub groups: [Option<Blend>; GROUPS.len()],
    /// The time of the newest choice it was made of, in milliseconds since 1970.
    pub until: i64,
    /// How many choices it was made of.
    pub choices: u64,
    /// From the first of them to the last, in hours.
    pub span_hours: f64,
    /// Items by number, in the order of their ids.
    pub items: Vec<ItemId>,
    /// By item, what follows from having it: numbers and weights above 0, the strongest first. Empty where nothing does.
    pub lists: Vec<Vec<(u32, f32)>>,
    /// By item, what people chose next after it, likewise.
    pub next: Vec<Vec<(u32, f32)>>,
}

/// What everything but trending counts for an item of which trending says `t`, relative to the strongest; see [`Blend::moment`].
pub fn in_the_moment(t: f32, moment: f32) -> f32 {
    if moment > 0.0 { t.max(0.01).powf(moment) } else { 1.0 }
}

/// What remains of a score when `same` of `chosen` items before share a category with it; see [`Blend::diversity`].
pub fn held_back(score: f32, diversity: f32, same: usize, chosen: usize) -> f32 {
    if chosen == 0 { score } else { score * (1.0 - diversity * (same as f32 / chosen as f32)) }
}

/// What trending counts for an item whose category has the part `affinity` of the person's own; see [`Blend::trending_taste`].
pub fn to_the_taste(affinity: f32, taste: f32) -> f32 {
    (0.3 + affinity).powf(taste)
}

/// Why bytes are no artefact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an artefact of this program: {0}")]
pub struct BadArtefact(&'static str);

const MAGIC: &[u8; 8] = b"NCLEARN2";

#[derive(Serialize, Deserialize)]
struct Head {
    blend: Blend,
    groups: [Option<Blend>; GROUPS.len()],
    until: i64,
    choices: u64,
    span_hours: f64,
    items: Vec<ItemId>,
}

impl Learned {
    /// The blend of someone with so many items.
    pub fn blend_for(&self, items: usize) -> &Blend {
        self.groups[group_of(items)].as_ref().unwrap_or(&self.blend)
    }

    /// As it is kept: a magic, the length of a head in JSON, the head, then each list as its length, its numbers and its weights, all
    /// little-endian; those of `next` come after the others.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { blend, groups, until, choices, span_hours, items, .. } = self;
        let head = Head {
            blend: *blend,
            groups: *groups,
            until: *until,
            choices: *choices,
            span_hours: *span_hours,
            items: items.clone(),
        };
        let head = serde_json::to_vec(&head).unwrap_or_default();
        let mut out =
            Vec::with_capacity(16 + head.len() + self.lists.iter().chain(&self.next).map(|l| 4 + 8 * l.len()).sum::<usize>());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(head.len() as u64).to_le_bytes());
        out.extend_from_slice(&head);
        // As many of each as there are items.
        let places = 0..items.len();
        for list in [&self.lists, &self.next]
            .into_iter()
            .flat_map(|lists| places.clone().map(|i| lists.get(i).map_or(&[][..], Vec::as_slice)))
        {
            out.extend_from_slice(&(list.len() as u32).to_le_bytes());
            list.iter().for_each(|(i, _)| out.extend_from_slice(&i.to_le_bytes()));
            list.iter().for_each(|(_, w)| out.extend_from_slice(&w.to_le_bytes()));
        }
        out
    }

    /// The reverse. Refuses what is torn.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadArtefact> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BadArtefact("another beginning"))?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(BadArtefact("no head"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| BadArtefact("its head is too long"))?;
        let (head, mut rest) = rest.split_at_checked(length).ok_or(BadArtefact("its head is cut off"))?;
        let Head { blend, groups, until, choices, span_hours, items } =
            serde_json::from_slice(head).map_err(|_| BadArtefact("its head cannot be read"))?;
        let mut lists = Vec::with_capacity(items.len());
        for _ in 0..2 * items.len() {
            let (n, after) = rest.split_first_chunk::<4>().ok_or(BadArtefact("a list is missing"))?;
            let n = u32::from_le_bytes(*n) as usize;
            let (numbers, after) = after.split_at_checked(4 * n).ok_or(BadArtefact("a list is cut off"))?;
            let (weights, after) = after.split_at_checked(4 * n).ok_or(BadArtefact("a list is cut off"))?;
            let four = |c: &[u8]| [c[0], c[1], c[2], c[3]];
            let numbers = numbers.chunks_exact(4).map(|c| u32::from_le_bytes(four(c)));
            let weights = weights.chunks_exact(4).map(|c| f32::from_le_bytes(four(c)));
            let list: Vec<(u32, f32)> = numbers.zip(weights).collect();
            if list.iter().any(|(i, w)| *i as usize >= items.len() || !w.is_finite()) {
                return Err(BadArtefact("a list names what is not there"));
            }
            lists.push(list);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(BadArtefact("something follows its end"));
        }
        let next = lists.split_off(items.len());
        Ok(Self { blend, groups, until, choices, span_hours, items, lists, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_torn_ones_are_refused() {
        let learned = Learned {
            blend: Blend { learned: 0.7, ..Blend::default() },
            groups: [None, Some(Blend::default()), None, None],
            until: 5,
            choices: 3,
            span_hours: 1.5,
            items: ["a", "b"].map(ItemId::trusted).to_vec(),
            lists: vec![vec![(1, 0.1)], Vec::new()],
            next: vec![Vec::new(), vec![(0, 0.5)]],
        };
        let bytes = learned.to_bytes();
        assert_eq!(Learned::from_bytes(&bytes).as_ref(), Ok(&learned));
        assert_eq!(learned.blend_for(3), &Blend::default());
        for end in 0..bytes.len() {
            assert!(Learned::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let mut other = bytes;
        other.push(0);
        assert!(Learned::from_bytes(&other).is_err());
    }
}
