//! What the people of the sample write: sentences put together from the words of their veins.
//!
//! No sentence mixes two tastes unless it says so.

use fastrand::Rng;

use super::catalogue::{SampleItem, Vein};

const DOING: [&str; 12] = [
    "These days I am mostly {}.",
    "You will find me {}.",
    "Currently {}.",
    "I really enjoy {}.",
    "Still {}, and still learning.",
    "My new habit: {}.",
    "Anyone else {}?",
    "Back to {}.",
    "This week: {}.",
    "I could talk for hours about {}.",
    "Nothing calms me like {}.",
    "I never thought I would love {} this much.",
];
const TROUBLE: [&str; 6] =
    ["{}. Any ideas?", "{}. What am I doing wrong?", "{}. Tips welcome.", "{}. Has anyone solved this?", "{}.", "{}. Help!"];
const WISH: [&str; 9] = [
    "Looking for {}.",
    "Can anyone recommend {}?",
    "I would love {}.",
    "Is there such a thing as {}?",
    "Saving up for {}.",
    "Still searching for {}.",
    "What I need is {}.",
    "Birthday wish: {}.",
    "Next on my list: {}.",
];
const JOY: [&str; 5] = ["{}.", "{}!", "{}. Small joys.", "{}. Had to tell someone.", "{} :)"];
const BOTH: [&str; 3] =
    ["When I am not {}, I am {}.", "Half of my week is {}, the other half {}.", "Torn between {} and {} today."];
const ABOUT: [&str; 6] = [
    "The {} arrived. Happy with it so far.",
    "Two weeks with the {} and I would buy it again.",
    "The {} is just what I was looking for.",
    "Asked for the {} and got it. Good advice in here, thank you.",
    "My notes on the {}: better than I hoped.",
    "Lent my {} to a friend and now I want it back.",
];

/// A message out of one vein.
pub fn message(rng: &mut Rng, vein: &Vein) -> String {
    let opening = (rng.u32(..100) < 40).then(|| fill(rng, &DOING, &vein.doing));
    let main = match (rng.u32(..100), opening.is_some()) {
        (0..30, false) => fill(rng, &DOING, &vein.doing),
        (0..55, _) => fill(rng, &WISH, &vein.wish),
        (55..78, _) => fill(rng, &TROUBLE, &vein.trouble),
        _ => fill(rng, &JOY, &vein.joy),
    };
    opening.map_or(main.clone(), |o| format!("{o} {main}"))
}

/// A message out of two.
pub fn of_both(rng: &mut Rng, a: &Vein, b: &Vein) -> String {
    let frame = pick(rng, &BOTH);
    let (first, second) = (pick(rng, &a.doing), pick(rng, &b.doing));
    frame.replacen("{}", first, 1).replacen("{}", second, 1)
}

/// A message about an item that its writer chose.
pub fn about(rng: &mut Rng, vein: &Vein, item: &SampleItem) -> String {
    let frame = pick(rng, &ABOUT);
    let opening = match item.title.split_once(", ") {
        Some((kind, _)) => frame.replacen("{}", &in_a_sentence(kind), 1),
        // A title of its own stands without an article.
        None => {
            let bare = frame.replace("The {}", "{}").replace("the {}", "{}").replace("my {}", "my copy of {}");
            bare.replacen("{}", &item.title, 1)
        }
    };
    if rng.bool() { opening } else { format!("{opening} {}", fill(rng, &JOY, &vein.joy)) }
}

/// The name of a kind of thing without its capital, unless that is part of an abbreviation.
fn in_a_sentence(kind: &str) -> String {
    let mut chars = kind.chars();
    match (chars.next(), kind.chars().nth(1)) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => kind.to_owned(),
    }
}

fn fill(rng: &mut Rng, frames: &[&str], words: &[&str]) -> String {
    let word = pick(rng, words);
    pick(rng, frames).replacen("{}", word, 1)
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    rng.choice(from).copied().unwrap_or_default()
}
