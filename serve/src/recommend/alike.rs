//! Near-duplicates: items whose texts are almost the same do not stand side by side.
//!
//! Looks at the words of the beginning of each text. Takes nothing out of an answer and puts nothing in: what comes next and is another
//! thing changes places with what is alike.

use super::blend::Scored;

/// Words of a text that are compared, at most.
const WORDS: usize = 32;
/// Texts with fewer words say too little.
const LEAST: usize = 3;
/// Two texts are alike where they share this part of all their words (Jaccard).
const ALIKE: f32 = 0.8;

/// The words of a text as sorted numbers, none twice.
pub fn words(text: &str) -> Box<[u32]> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    let mut all: Vec<u32> = parts.take(WORDS).map(|w| number(w.chars().flat_map(char::to_lowercase))).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}

/// FNV-1a over characters (Fowler, Noll and Vo).
fn number(word: impl Iterator<Item = char>) -> u32 {
    word.fold(0x811C_9DC5, |h, c| (h ^ c as u32).wrapping_mul(0x0100_0193))
}

fn alike(a: &[u32], b: &[u32]) -> bool {
    if a.len().min(b.len()) < LEAST {
        return false;
    }
    let (mut at, mut to, mut both) = (0, 0, 0);
    while at < a.len() && to < b.len() {
        match a[at].cmp(&b[to]) {
            std::cmp::Ordering::Less => at += 1,
            std::cmp::Ordering::Greater => to += 1,
            std::cmp::Ordering::Equal => (at, to, both) = (at + 1, to + 1, both + 1),
        }
    }
    both as f32 >= ALIKE * (a.len() + b.len() - both) as f32
}

/// Moves what is alike apart, where there is something else to stand between. Scores never rise from one place to the next.
pub fn apart(chosen: &mut [Scored]) {
    for at in 1..chosen.len() {
        let (before, rest) = chosen.split_at_mut(at);
        let Some(last) = before.last() else { continue };
        if !alike(&last.card.words, &rest[0].card.words) {
            continue;
        }
        if let Some(other) = rest.iter().position(|s| !alike(&last.card.words, &s.card.words)) {
            rest[..=other].rotate_right(1);
            let most = rest[0].score;
            rest[1..=other].iter_mut().for_each(|s| s.score = s.score.min(most));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nearcast_domain::{ItemId, candidate::Source};

    use super::*;
    use crate::{memory::Card, recommend::blend::Candidate};

    fn scored(item: &str, score: f32, text: &str) -> Scored {
        let card = Arc::new(Card { words: words(text), ..Card::default() });
        Scored { item: ItemId::trusted(item), candidate: Candidate::of(0, Source::Newest), score, reasons: Vec::new(), card }
    }

    #[test]
    fn what_is_almost_the_same_does_not_stand_side_by_side() {
        let pens = "Blue ballpoint pens, medium point, box of 12";
        let mut all = [
            scored("a", 0.9, pens),
            scored("b", 0.8, "blue BALLPOINT pens medium point; box of 12!"),
            scored("c", 0.7, "New: blue ballpoint pens, medium point, box of 12"),
            scored("d", 0.6, "A stapler that takes twenty sheets"),
            scored("e", 0.5, "Pens"),
        ];
        apart(&mut all);
        let order: Vec<&str> = all.iter().map(|s| s.item.as_str()).collect();
        assert_eq!(order, ["a", "d", "b", "e", "c"]);
        assert!(all.windows(2).all(|w| w[0].score >= w[1].score));
        let mut same = [scored("a", 0.9, pens), scored("b", 0.8, pens)];
        apart(&mut same);
        assert_eq!((same[0].item.as_str(), same[1].score), ("a", 0.8), "nothing else is there");
    }

    #[test]
    fn few_words_say_too_little() {
        assert!(!alike(&words("red pen"), &words("red pen")));
        assert!(alike(&words("The red pen"), &words("the RED pen.")));
        assert!(!alike(&words(""), &words("")));
    }
}
