//! What becomes of events: repetitions, conflicts, versions, vectors, marks and erasures.

use std::sync::Arc;

use super::{ALL, R, history, ids};
use crate::{
    Event,
    event::Item,
    ports::{
        Appended::{Conflict, Duplicate, Erased, New},
        History, LedgerCounts, LedgerWrite,
    },
    testing::events::{Maker, at, item, items, user, users, vector, with_vector},
};

pub(super) async fn appending(store: &dyn LedgerWrite) {
    let m = Maker::new("appending");
    let batch = [
        m.view("1", "u", "i", 10),
        m.view("1", "u", "i", 10),
        m.view("1", "u", "j", 10),
        m.view("1", "v", "i", 10),
        m.message("1", "u", "hello", None, 11),
        m.message("1", "u", "hello!", None, 11),
    ];
    let want = [New, Duplicate, Conflict, New, New, Conflict];
    let before = store.digest().await.unwrap();
    assert_eq!(store.preview(&batch).await.unwrap(), want);
    assert_eq!(store.digest().await.unwrap(), before, "a preview writes nothing");
    assert_eq!(store.counts(&m.0).await.unwrap(), LedgerCounts::default());
    assert_eq!(store.append(&batch, R).await.unwrap(), want);
    let after = store.digest().await.unwrap();
    assert_ne!(after, before);
    let again = [Duplicate, Duplicate, Conflict, Duplicate, Duplicate, Conflict];
    assert_eq!(store.preview(&batch).await.unwrap(), again);
    assert_eq!(store.append(&batch, R).await.unwrap(), again);
    assert_eq!(store.digest().await.unwrap(), after, "the same events again change nothing");
    assert_eq!(store.counts(&m.0).await.unwrap(), LedgerCounts { users: 2, items: 0, events: 3 });
    assert_eq!(history(store, &m, "u").await.engagements[0].item, item("i"), "of a conflict the first stays");
}

pub(super) async fn item_versions(store: &dyn LedgerWrite) {
    let m = Maker::new("versions");
    let full = m.item("full", Some("text"), &["a", "b"], |i| {
        i.expires_at = Some(at(5));
        i.hidden = true;
        i.timestamp = Some(at(1));
        i.attributes.insert("price".into(), serde_json::json!({"eur": 9.5, "list": [1, null, "x\u{0}y"]}));
    });
    assert_eq!(store.append(&[full.clone(), full.clone()], R).await.unwrap(), [New, Duplicate]);
    let Event::Item(state) = &full.event else { unreachable!() };
    let found = store.items(&m.0, &items(&["nothing", "full", "full"]), None).await.unwrap();
    assert_eq!(found[0], None);
    assert_eq!(found[1].as_ref().map(|s| &s.item), Some(state), "an item comes back as it was");
    assert_eq!(found[1], found[2]);
    // With times the newest wins, whatever the order of arrival.
    let version = |text: &str, time: Option<i64>| m.item("i", Some(text), &[], |i| i.timestamp = time.map(at));
    let text = async || -> Arc<str> {
        let state = store.items(&m.0, &items(&["i"]), None).await.unwrap().remove(0);
        state.unwrap().item.text.unwrap()
    };
    let batch = [version("two", Some(2)), version("one", Some(1)), version("three", Some(3))];
    assert_eq!(store.append(&batch, R).await.unwrap(), [New, Duplicate, New]);
    assert_eq!(&*text().await, "three");
    assert_eq!(store.append(&batch, R).await.unwrap(), [Duplicate, Duplicate, Duplicate]);
    // At the same time the greater hash wins, in both orders.
    let mut tied = [version("x", Some(9)), version("y", Some(9))];
    tied.sort_by_key(|a| a.hash);
    let Event::Item(Item { text: Some(winner), .. }) = tied[1].event.clone() else { unreachable!() };
    assert_eq!(store.append(&tied, R).await.unwrap(), [New, New]);
    assert_eq!(text().await, winner);
    tied.reverse();
    assert_eq!(store.append(&tied, R).await.unwrap(), [Duplicate, Duplicate]);
    assert_eq!(text().await, winner);
    // Where one has no time, the last to arrive wins.
    assert_eq!(store.append(&[version("timeless", None)], R).await.unwrap(), [New]);
    assert_eq!(&*text().await, "timeless");
    assert_eq!(store.append(&[version("again", None), version("timeless", None)], R).await.unwrap(), [New, New]);
    assert_eq!(&*text().await, "timeless");
    assert_eq!(store.append(&[version("old", Some(1))], R).await.unwrap(), [New]);
    assert_eq!(&*text().await, "old");
    assert_eq!(store.counts(&m.0).await.unwrap(), LedgerCounts { users: 0, items: 2, events: 0 });
}

pub(super) async fn item_vectors_and_marks(store: &dyn LedgerWrite) {
    let m = Maker::new("vectors");
    let get = async |revision: &str| store.items(&m.0, &items(&["i"]), Some(revision)).await.unwrap().remove(0).unwrap().vector;
    let marks = async || -> Vec<(String, u64)> {
        let all = store.stale_users(usize::MAX).await.unwrap();
        all.into_iter().filter(|(t, ..)| *t == m.0).map(|(_, u, n)| (u.to_string(), n)).collect()
    };
    store
        .append(&[m.view("1", "fan", "i", 1), m.message("2", "writer", "hi", Some("i"), 1), m.view("3", "other", "j", 1)], R)
        .await
        .unwrap();
    let plain = m.item("i", Some("text"), &[], |_| {});
    store.append(std::slice::from_ref(&plain), R).await.unwrap();
    assert_eq!((get(R).await, marks().await.len()), (None, 0), "without a vector nobody's profile changes");
    // A duplicate brings the vector that was missing.
    assert_eq!(store.append(&[with_vector(plain.clone(), 1)], R).await.unwrap(), [Duplicate]);
    assert_eq!(get(R).await, Some(vector(1)));
    assert_eq!(get("model@2").await, None, "vectors of two revisions are apart");
    assert_eq!(store.items(&m.0, &items(&["i"]), None).await.unwrap()[0].as_ref().unwrap().vector, None);
    let first = marks().await;
    assert_eq!(first.iter().map(|(u, _)| u.as_str()).collect::<Vec<_>>(), ["fan", "writer"]);
    // The same text keeps its vector, with or without another one in the event; nobody is marked anew.
    assert_eq!(store.append(&[with_vector(plain.clone(), 7)], R).await.unwrap(), [Duplicate]);
    let hidden = m.item("i", Some("text"), &[], |i| i.hidden = true);
    assert_eq!(store.append(&[hidden], R).await.unwrap(), [New]);
    assert_eq!((get(R).await, marks().await), (Some(vector(1)), first.clone()));
    // Another revision's vector stands beside it.
    store.append(&[with_vector(m.item("i", Some("text"), &[], |i| i.hidden = true), 2)], "model@2").await.unwrap();
    assert_eq!((get(R).await, get("model@2").await), (Some(vector(1)), Some(vector(2))));
    // Another text: the old vectors are gone, fans are marked with a higher number.
    let changed = with_vector(m.item("i", Some("other text"), &[], |_| {}), 3);
    assert_eq!(store.append(std::slice::from_ref(&changed), R).await.unwrap(), [New]);
    assert_eq!((get(R).await, get("model@2").await), (Some(vector(3)), None));
    let second = marks().await;
    assert!(second[0].1 > first[0].1 && second.len() == 2, "{first:?} {second:?}");
    // Old numbers take nothing back, the new ones do.
    let back = |marks: &[(String, u64)]| marks.iter().map(|(u, n)| (m.0.clone(), user(u), *n)).collect::<Vec<_>>();
    store.clear_stale(&back(&first)).await.unwrap();
    assert_eq!(marks().await, second);
    store.clear_stale(&back(&second[..1])).await.unwrap();
    assert_eq!(marks().await, second[1..]);
    store.clear_stale(&back(&second)).await.unwrap();
    assert_eq!(marks().await, []);
    // Categories are part of what is embedded.
    let more = with_vector(m.item("i", Some("other text"), &["c"], |_| {}), 4);
    store.append(std::slice::from_ref(&more), R).await.unwrap();
    let third = marks().await;
    assert!(third[0].1 > second[0].1, "numbers grow even when no mark is left");
    assert_eq!(store.stale_users(1).await.unwrap().len(), 1);
    // A text that went away takes its vector along.
    store.append(&[m.item("i", None, &[], |_| {})], R).await.unwrap();
    assert_eq!(get(R).await, None);
    store.clear_stale(&back(&marks().await)).await.unwrap();
}

pub(super) async fn message_vectors(store: &dyn LedgerWrite) {
    let m = Maker::new("message vectors");
    let get = async |revision: Option<&str>| {
        let mut found = store.histories(&m.0, &[user("u")], ALL, revision).await.unwrap().remove(0);
        found.messages.remove(0).vector
    };
    let plain = m.message("1", "u", "words", None, 1);
    store.append(std::slice::from_ref(&plain), R).await.unwrap();
    assert_eq!(get(Some(R)).await, None);
    assert_eq!(store.append(&[with_vector(plain.clone(), 5)], R).await.unwrap(), [Duplicate]);
    assert_eq!((get(Some(R)).await, get(None).await, get(Some("model@2")).await), (Some(vector(5)), None, None));
    let digest = store.digest().await.unwrap();
    store.append(&[with_vector(plain.clone(), 6), plain.clone()], R).await.unwrap();
    assert_eq!((get(Some(R)).await, store.digest().await.unwrap()), (Some(vector(5)), digest), "the first vector stays");
    store.append(&[with_vector(plain, 6)], "model@2").await.unwrap();
    assert_eq!((get(Some(R)).await, get(Some("model@2")).await), (Some(vector(5)), Some(vector(6))));
    assert_ne!(store.digest().await.unwrap(), digest, "vectors are facts");
    // Within one batch the second brings what the first lacked.
    let late = m.message("2", "u", "later", None, 2);
    assert_eq!(store.append(&[late.clone(), with_vector(late, 8)], R).await.unwrap(), [New, Duplicate]);
    assert_eq!(get(Some(R)).await, Some(vector(8)));
}

pub(super) async fn erasing(store: &dyn LedgerWrite) {
    let m = Maker::new("erasing");
    let keep = m.view("1", "other", "i", 10);
    let gone = [
        with_vector(m.message("1", "u", "secret", Some("i"), 10), 1),
        m.view("2", "u", "j", 50),
        with_vector(m.message("3", "u", "more", None, 20), 2),
    ];
    store.append(std::slice::from_ref(&keep), R).await.unwrap();
    let without = store.digest().await.unwrap();
    store.append(&gone, R).await.unwrap();
    store.append(&[with_vector(m.item("i", Some("t"), &[], |_| {}), 1)], R).await.unwrap();
    assert_eq!(store.append(&[m.erasure("u", 30)], R).await.unwrap(), [New]);
    assert_eq!(history(store, &m, "u").await, History::default());
    assert_eq!(store.engaged(&m.0, &user("u"), &items(&["i", "j"])).await.unwrap(), [false, false]);
    assert!(store.pairs(&m.0, &[(user("u"), item("i"))]).await.unwrap()[0].events.is_empty());
    assert_eq!(store.users(&m.0, "", None, 9).await.unwrap(), users(&["other"]));
    assert_eq!(store.counts(&m.0).await.unwrap(), LedgerCounts { users: 1, items: 1, events: 1 });
    assert!(store.stale_users(usize::MAX).await.unwrap().iter().all(|(t, u, _)| (t, u) != (&m.0, &user("u"))));
    let record =
        |store: &[crate::ports::ErasureRecord]| store.iter().find(|r| r.tenant == m.0 && r.user == user("u")).map(|r| r.until);
    assert_eq!(record(&store.erasures().await.unwrap()), Some(at(50)), "until the newest event that was erased");
    // Erased stays erased, whatever is replayed.
    let digest = store.digest().await.unwrap();
    assert_ne!(digest, without, "the record is a fact");
    assert_eq!(store.preview(&gone).await.unwrap(), [Erased; 3]);
    assert_eq!(store.append(&gone, R).await.unwrap(), [Erased; 3]);
    assert_eq!(store.append(&[m.erasure("u", 30), m.erasure("u", 30)], R).await.unwrap(), [Duplicate; 2]);
    assert_eq!(store.append(&[m.view("new id", "u", "i", 50)], R).await.unwrap(), [Erased]);
    assert_eq!(store.digest().await.unwrap(), digest);
    // What comes later is a new beginning; an old erasure does not touch it, a newer one does.
    assert_eq!(store.append(&[m.view("2", "u", "j", 51)], R).await.unwrap(), [New]);
    assert_eq!(store.append(&[m.erasure("u", 29)], R).await.unwrap(), [Duplicate]);
    assert_eq!(ids(&history(store, &m, "u").await), ["2"]);
    assert_eq!(store.append(&[m.erasure("u", 60)], R).await.unwrap(), [New]);
    assert_eq!(ids(&history(store, &m, "u").await), [] as [&str; 0]);
    assert_eq!(record(&store.erasures().await.unwrap()), Some(at(60)));
    // Events may be dated ahead: a second erasure counts though its time lies before that up to which the first one reached.
    assert_eq!(store.append(&[m.view("3", "u", "j", 90)], R).await.unwrap(), [New]);
    assert_eq!(store.append(&[m.erasure("u", 61), m.view("4", "u", "j", 95)], R).await.unwrap(), [New, New]);
    assert_eq!(store.append(&[m.erasure("u", 62)], R).await.unwrap(), [New]);
    assert_eq!(ids(&history(store, &m, "u").await), [] as [&str; 0]);
    assert_eq!(record(&store.erasures().await.unwrap()), Some(at(95)));
    assert_eq!(store.append(&[m.erasure("u", 61), m.erasure("u", 62)], R).await.unwrap(), [Duplicate; 2]);
    // What was refused as a conflict is not let in by a replay now that its rival is gone.
    let rivals = [m.view("x", "w", "i", 1), m.view("x", "w", "j", 24), m.erasure("w", 2)];
    assert_eq!(store.append(&rivals[..2], R).await.unwrap(), [New, Conflict]);
    assert_eq!(store.append(&rivals[2..], R).await.unwrap(), [New]);
    assert_eq!(store.append(&rivals, R).await.unwrap(), [Erased, Erased, Duplicate]);
    let rivals = [m.view("x", "y", "i", 1), m.view("x", "y", "j", 24), m.erasure("y", 2), m.view("x", "y", "j", 24)];
    assert_eq!(store.append(&rivals, R).await.unwrap(), [New, Conflict, New, Erased]);
    // Someone who was never seen can be erased too.
    assert_eq!(store.append(&[m.erasure("stranger", 5), m.erasure("stranger", 5)], R).await.unwrap(), [New, Duplicate]);
    assert_eq!(store.append(&[m.view("1", "stranger", "i", 5)], R).await.unwrap(), [Erased]);
    assert_eq!(ids(&history(store, &m, "other").await), ["1"]);
    assert!(store.tenants().await.unwrap().contains(&m.0));
}

pub(super) async fn erasing_within_a_batch(store: &dyn LedgerWrite) {
    let m = Maker::new("erasing at once");
    store.append(&[m.view("0", "u", "i", 1)], R).await.unwrap();
    let batch = [
        m.view("1", "u", "i", 10),
        with_vector(m.message("1", "u", "x", None, 12), 1),
        m.erasure("u", 11),
        m.view("1", "u", "i", 12),
        m.view("1", "u", "other content", 13),
        m.view("1", "u", "other content", 13),
        with_vector(m.message("1", "u", "y", None, 14), 2),
    ];
    let want = [New, New, New, Erased, New, Duplicate, New];
    assert_eq!(store.preview(&batch).await.unwrap(), want);
    assert_eq!(store.append(&batch, R).await.unwrap(), want);
    let h = history(store, &m, "u").await;
    assert_eq!((ids(&h), h.messages.len()), (vec!["1"], 1));
    assert_eq!(h.messages[0].vector, Some(vector(2)));
    assert_eq!(store.counts(&m.0).await.unwrap(), LedgerCounts { users: 1, items: 0, events: 2 });
    let until = store.erasures().await.unwrap().into_iter().find(|r| r.tenant == m.0).unwrap().until;
    assert_eq!(until, at(12));
}

pub(super) async fn tenants_apart(store: &dyn LedgerWrite) {
    let (a, b) = (Maker::new("apart a"), Maker::new("apart b"));
    let both = [
        a.view("1", "u", "i", 1),
        b.view("1", "u", "i", 2),
        a.item("i", Some("of a"), &["c"], |_| {}),
        b.message("1", "u", "only b", None, 3),
        b.erasure("v", 1),
    ];
    assert_eq!(store.append(&both, R).await.unwrap(), [New; 5]);
    assert_eq!(history(store, &a, "u").await.engagements[0].timestamp, at(1));
    assert_eq!(history(store, &b, "u").await.engagements[0].timestamp, at(2));
    assert!(history(store, &a, "u").await.messages.is_empty());
    assert_eq!(store.items(&b.0, &items(&["i"]), None).await.unwrap(), [None]);
    assert!(store.newest_items(&b.0, Some("c"), 9).await.unwrap().is_empty());
    assert_eq!(store.append(&[a.view("9", "v", "i", 1)], R).await.unwrap(), [New], "erased with one tenant only");
    assert_eq!(store.append(&[a.erasure("u", 9)], R).await.unwrap(), [New]);
    assert_eq!(ids(&history(store, &b, "u").await), ["1"]);
    let tenants = store.tenants().await.unwrap();
    assert!(tenants.is_sorted() && tenants.contains(&a.0) && tenants.contains(&b.0));
    assert!(store.erasures().await.unwrap().is_sorted_by_key(|r| (r.tenant.clone(), r.user.clone())));
}

/// Whoever asks learns of each writer that says so, and of nothing else.
pub(super) async fn written_beside(store: &dyn LedgerWrite) {
    let m = Maker::new("beside");
    let mut before = store.written_beside().await.unwrap();
    for n in 0..3 {
        store.append(&[m.view(&format!("b{n}"), "anna", "lamp", n)], R).await.unwrap();
        assert_eq!(store.written_beside().await.unwrap(), before);
        store.wrote_beside().await.unwrap();
        let after = store.written_beside().await.unwrap();
        assert_ne!(after, before);
        before = after;
    }
}

/// Nobody counts as new of whom there is an event, before or behind the introduction.
pub(super) async fn newcomers(store: &dyn LedgerWrite) {
    let m = Maker::new("newcomers");
    let other = Maker::new("newcomers elsewhere");
    store.append(&[m.view("1", "anna", "lamp", 1), other.view("1", "carl", "lamp", 1)], R).await.unwrap();
    store
        .append(&[m.message("1", "dora", "hello", None, 1), m.view("1", "eric", "lamp", 1), m.erasure("eric", 2)], R)
        .await
        .unwrap();
    let of = |names: &[&str]| names.iter().map(|n| user(n)).collect::<Vec<_>>();
    assert!(store.introduce(&m.0, &[]).await.unwrap().is_empty());
    let new = store.introduce(&m.0, &of(&["bert", "anna", "carl", "dora"])).await.unwrap();
    assert_eq!(new, [true, false, true, false]);
    for who in ["bert", "carl"] {
        assert_eq!(history(store, &m, who).await, History::default());
        assert_eq!(store.append(&[m.view("2", who, "lamp", 3)], R).await.unwrap(), [New]);
    }
    assert_eq!(store.introduce(&m.0, &of(&["carl", "bert"])).await.unwrap(), [false, false]);
    assert_eq!(store.users(&m.0, "", None, 9).await.unwrap(), of(&["anna", "bert", "carl", "dora"]));
    // Of somebody who was erased there is nothing either, whatever is answered; nor are they a user again.
    store.introduce(&m.0, &of(&["eric"])).await.unwrap();
    assert_eq!(history(store, &m, "eric").await, History::default());
    assert_eq!(store.users(&m.0, "e", None, 9).await.unwrap(), []);
    // Erased behind the introduction: nobody is left.
    store.introduce(&m.0, &of(&["fred"])).await.unwrap();
    store.append(&[m.view("1", "fred", "lamp", 1), m.erasure("fred", 2)], R).await.unwrap();
    assert_eq!(store.users(&m.0, "f", None, 9).await.unwrap(), []);
    assert_eq!(store.append(&[m.view("2", "fred", "lamp", 3)], R).await.unwrap(), [New]);
    assert_eq!(store.users(&m.0, "f", None, 9).await.unwrap(), of(&["fred"]));
}
