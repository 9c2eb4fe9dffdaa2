//! The sample catalogue: twelve subjects of two veins each, read from the word lists beside this file.
//!
//! A vein is a taste within a subject (espresso, filter coffee): its items, and what people say who care for it. Nothing
//! here draws lots: the catalogue is the same for every seed.

use serde_json::{Value, json};

/// One subject a file: its makers, then its veins with items (`*` a kind of thing, `-` its variants) and with what people
/// do (`d`), struggle with (`t`), wish for (`w`) and enjoy (`j`).
const SUBJECTS: [&str; 12] = [
    include_str!("subjects/aquariums.txt"),
    include_str!("subjects/astronomy.txt"),
    include_str!("subjects/baking.txt"),
    include_str!("subjects/board_games.txt"),
    include_str!("subjects/coffee.txt"),
    include_str!("subjects/cycling.txt"),
    include_str!("subjects/gardening.txt"),
    include_str!("subjects/home_studio.txt"),
    include_str!("subjects/photography.txt"),
    include_str!("subjects/science_fiction.txt"),
    include_str!("subjects/trail_running.txt"),
    include_str!("subjects/woodworking.txt"),
];

/// How many variants each kind of thing has: from the simplest to the finest.
pub const TIERS: usize = 3;

/// Price factors of the variants, in percent of the price in the word list.
const TIER_PERCENT: [u32; TIERS] = [70, 100, 160];

/// Something that can be recommended.
#[derive(Debug, Clone)]
pub struct SampleItem {
    /// Readable: the title in lower case with hyphens.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// Title and description.
    pub text: String,
    /// Who makes it.
    pub maker: &'static str,
    /// In whole euros.
    pub price: u32,
}

/// A taste within a subject.
#[derive(Debug, Clone, Default)]
pub struct Vein {
    /// `coffee`.
    pub subject: String,
    /// `espresso`.
    pub name: &'static str,
    /// Kinds of things in [`TIERS`] variants each, one after the other.
    pub items: Vec<SampleItem>,
    /// Gerunds: "practising rosettas".
    pub doing: Vec<&'static str>,
    /// Sentences without their full stop.
    pub trouble: Vec<&'static str>,
    /// Noun phrases: "a better tamper".
    pub wish: Vec<&'static str>,
    /// Sentences without their full stop.
    pub joy: Vec<&'static str>,
}

/// All veins, the two of a subject side by side.
pub fn veins() -> Vec<Vein> {
    SUBJECTS.iter().flat_map(|text| read(text)).collect()
}

impl SampleItem {
    /// The event that states this item.
    pub fn event(&self, vein: &Vein) -> Value {
        json!({
            "type": "item", "item_id": self.id, "text": self.text, "categories": [vein.subject, vein.name],
            "attributes": {"title": self.title, "maker": self.maker, "price": self.price, "currency": "EUR"},
        })
    }
}

fn read(text: &'static str) -> Vec<Vein> {
    let (mut out, mut subject, mut makers): (Vec<Vein>, _, Vec<&'static str>) = (Vec::new(), String::new(), Vec::new());
    let (mut noun, mut price, mut sentence, mut tier) = ("", 0_u32, "", 0);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            out.push(Vein { subject: subject.clone(), name, ..Vein::default() });
            continue;
        }
        if let Some(name) = line.strip_prefix("# ") {
            subject = name.to_lowercase();
            continue;
        }
        if let Some(names) = line.strip_prefix("makers: ") {
            makers = names.split(", ").collect();
            continue;
        }
        let (Some(vein), Some((mark, rest))) = (out.last_mut(), line.split_once(' ')) else { continue };
        match mark {
            "*" => {
                let mut parts = rest.splitn(3, " | ");
                noun = parts.next().unwrap_or_default();
                price = parts.next().and_then(|p| p.parse().ok()).unwrap_or_default();
                sentence = parts.next().unwrap_or_default();
                tier = 0;
            }
            "-" => {
                let nth = vein.items.len();
                let maker = makers.get((nth + nth / TIERS) % makers.len().max(1)).copied().unwrap_or_default();
                vein.items.push(item(noun, price, sentence, rest, tier, maker));
                tier += 1;
            }
            "d" => vein.doing.push(rest),
            "t" => vein.trouble.push(rest),
            "w" => vein.wish.push(rest),
            "j" => vein.joy.push(rest),
            _ => {}
        }
    }
    out
}

/// An item from a variant's line: `short name: what sets it apart`, where a name after `=` is a title of its own.
fn item(noun: &str, price: u32, sentence: &str, variant: &str, tier: usize, maker: &'static str) -> SampleItem {
    let (name, detail) = variant.split_once(": ").unwrap_or((variant, ""));
    let (title, price) = match name.strip_prefix('=') {
        Some(own) => (own.to_owned(), price),
        None => (format!("{noun}, {name}"), price * TIER_PERCENT.get(tier).copied().unwrap_or(100) / 100),
    };
    // A title of its own does not say what the thing is.
    let kind = if name.starts_with('=') { format!("{noun}. ") } else { String::new() };
    let text = format!("{title}. {kind}{sentence} {}.", capitalised(detail));
    SampleItem { id: slug(&title), title, text, maker, price }
}

/// The text with its first letter in upper case.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Letters and digits in lower case, everything else one hyphen.
fn slug(title: &str) -> String {
    let plain = title.replace("é", "e").replace("â", "a").replace("ø", "o").replace('\'', "");
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_word_lists_are_whole() {
        let veins = veins();
        assert_eq!(veins.len(), 24);
        assert_eq!(veins.iter().map(|v| &v.subject).collect::<BTreeSet<_>>().len(), 12);
        for v in &veins {
            assert_eq!(v.items.len(), 8 * TIERS, "items of {}", v.name);
            assert!(v.doing.len() >= 6 && v.trouble.len() >= 4 && v.wish.len() >= 4 && v.joy.len() >= 4, "words of {}", v.name);
            for i in &v.items {
                assert!(i.price > 0 && !i.maker.is_empty() && i.text.len() > 40, "{i:?}");
                assert!(!i.text.contains(['|', '=']) && !i.text.contains("..") && !i.text.contains(" ."), "{i:?}");
            }
        }
    }

    #[test]
    fn items_are_distinct() {
        let veins = veins();
        let items: Vec<_> = veins.iter().flat_map(|v| &v.items).collect();
        assert_eq!(items.len(), 576);
        assert_eq!(items.iter().map(|i| &i.id).collect::<BTreeSet<_>>().len(), items.len());
        assert_eq!(items.iter().map(|i| &i.text).collect::<BTreeSet<_>>().len(), items.len());
    }

    #[test]
    fn ids_are_readable() {
        assert_eq!(slug("Tamper, walnut handle 58 mm"), "tamper-walnut-handle-58-mm");
        assert_eq!(slug("Last Winter in Tromsø"), "last-winter-in-tromso");
    }
}
