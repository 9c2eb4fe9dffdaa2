//! A million hostile records: the decoder never panics, and whatever it accepts obeys every rule of input.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

use nearcast_domain::{
    Event, Timestamp,
    decode::{Context, MAX_CATEGORIES, MAX_TEXT_BYTES, decode},
    ids::{MAX_ID_BYTES, check},
};

const CASES: usize = 1_000_000;

const SEEDS: [&str; 6] = [
    r#"{"type":"item","item_id":"i1","text":"Trail shoe, 240 g","categories":["shoes","a"],"expires_at":"2027-01-01T00:00:00Z","hidden":false,"attributes":{"a":[1,{"b":null}]}}"#,
    r#"{"type":"message","message_id":"m1","user_id":"u1","text":"training for a marathon","item_id":null,"timestamp":"2026-01-02T03:04:05Z"}"#,
    r#"{"type":"engagement","event_id":"e1","user_id":"u1","item_id":"i1","kind":"purchase","value":1.0,"timestamp":"2026-01-02T03:05:00Z"}"#,
    r#"{"type":"erasure","user_id":"u1","timestamp":"2026-01-03T00:00:00Z"}"#,
    r#"{"user_id":"u1","message":"an older record","timestamp":"2026-01-02T03:04:05+05:30"}"#,
    r#"{"tenant":"t","user_id":7,"campaign_id":"c","kind":"click","timestamp":"2026-01-02T03:04:05"}"#,
];

/// What breaks parsers.
const TOKENS: [&str; 26] = [
    "1e999",
    "-1e999",
    "NaN",
    "null",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "9999-12-31T23:59:59Z",
    "-0001-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "[[[[[[[[",
    "]]]]",
    "{\"a\":{\"a\":",
    "\"",
    "\\",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "é",
    "18446744073709551616",
    "0.1e-400",
    "true",
    "{}",
    "[]",
    ",",
    ":",
];

fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            1 if at < bytes.len() => bytes[at] = rng.u8(..),
            2 => bytes.truncate(at),
            3 => {
                let to = rng.usize(at..=bytes.len());
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let to = rng.usize(at..=bytes.len());
                bytes.drain(at..to);
            }
            5 => {
                let long = vec![*rng.choice(b"x [{\"\\").unwrap(); rng.usize(..400)];
                bytes.splice(at..at, long);
            }
            _ => {
                let token = rng.choice(TOKENS).unwrap();
                // Whole values as well as odd places.
                let at = bytes[..at].iter().rposition(|b| *b == b':').map_or(at, |colon| colon + 1);
                bytes.splice(at..at, token.bytes());
            }
        }
    }
}

/// Every rule that DESIGN's section on events states, asked of what was accepted.
fn obeys_the_rules(event: &Event, cx: &Context) {
    let (ids, text, timestamp): (Vec<&str>, Option<&str>, Option<Timestamp>) = match event {
        Event::Message(m) => (vec![m.user_id.as_str(), m.message_id.as_str()], Some(&m.text), Some(m.timestamp)),
        Event::Engagement(e) => {
            assert!(e.value.is_finite());
            (vec![e.user_id.as_str(), e.item_id.as_str(), e.event_id.as_str(), &e.kind], None, Some(e.timestamp))
        }
        Event::Item(i) => {
            assert!(i.categories.len() <= MAX_CATEGORIES && i.categories.is_sorted());
            (i.categories.iter().map(|c| &**c).chain([i.item_id.as_str()]).collect(), i.text.as_deref(), i.timestamp)
        }
        Event::Erasure(e) => (vec![e.user_id.as_str()], None, Some(e.timestamp)),
    };
    for id in ids.into_iter().chain([event.tenant().as_str(), event.key()]) {
        assert!(check(id).is_ok() && id.len() <= MAX_ID_BYTES, "{event:?}");
    }
    if let Some(text) = text {
        assert!(!text.trim().is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains('\0'), "{event:?}");
    }
    if let Some(timestamp) = timestamp {
        assert!(timestamp <= cx.now.plus_millis(cx.max_ahead_ms), "{event:?}");
    }
    // What is accepted can be written down and read again as the same event.
    let again = decode(&serde_json::to_vec(event).unwrap(), cx).unwrap();
    assert_eq!(again.content_hash(), event.content_hash());
}

#[test]
fn a_million_hostile_records() {
    let cx = Context::stored(Timestamp::parse("2026-06-01T00:00:00Z").unwrap());
    let mut rng = fastrand::Rng::with_seed(20_260_601);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..CASES {
        let mut bytes = rng.choice(SEEDS).unwrap().as_bytes().to_vec();
        mutate(&mut rng, &mut bytes);
        match decode(&bytes, &cx) {
            Ok(event) => {
                accepted += 1;
                obeys_the_rules(&event, &cx);
            }
            Err(reject) => {
                refused += 1;
                assert!(!reject.0.is_empty() && reject.0.len() < 1000, "{reject}");
            }
        }
    }
    // Both ways are walked often.
    assert!(accepted > CASES / 50 && refused > CASES / 4, "{accepted} accepted, {refused} refused");
}

#[test]
fn extremes() {
    let cx = Context::stored(Timestamp::parse("2026-06-01T00:00:00Z").unwrap());
    let message = |text: &str| format!(r#"{{"user_id":"u","text":"{text}","timestamp":"2026-01-01T00:00:00Z"}}"#);
    for bytes in [
        Vec::new(),
        b"\0".to_vec(),
        vec![b'{'; 1_000_000],
        vec![b'['; 1_000_000],
        vec![b'"'; 1_000_000],
        vec![0xff; 1_000_000],
        message(&"x".repeat(10_000_000)).into_bytes(),
        format!(r#"{{"item_id":"i","attributes":{}1{}}}"#, r#"{"a":"#.repeat(5000), "}".repeat(5000)).into_bytes(),
    ] {
        assert!(decode(&bytes, &cx).is_err());
    }
    assert!(decode(message(&"x".repeat(MAX_TEXT_BYTES)).as_bytes(), &cx).is_ok());
    assert!(decode(message(&"x".repeat(MAX_TEXT_BYTES + 1)).as_bytes(), &cx).is_err());
}
