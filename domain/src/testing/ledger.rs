//! What every ledger must do.

use std::sync::Arc;

use super::events::{Maker, at, item, items, tenant, user, users, vector, with_vector};
use crate::{
    Event, EventId,
    event::Item,
    ports::{
        Append,
        Appended::{Conflict, Duplicate, Erased, New},
        EngagedEvent, History, HistoryLimit, LedgerCounts, LedgerWrite,
    },
    taste::MESSAGE_KIND,
};

const R: &str = "model@1";
const ALL: HistoryLimit = HistoryLimit { engagements: usize::MAX, messages: usize::MAX };

/// Everything that one empty ledger can show. Each part has a tenant of its own.
pub async fn ledger(store: &dyn LedgerWrite) {
    empty(store).await;
    appending(store).await;
    histories(store).await;
    values_to_the_bit(store).await;
    ties_and_limits(store).await;
    pairs_and_engaged(store).await;
    item_versions(store).await;
    item_vectors_and_marks(store).await;
    message_vectors(store).await;
    newest_and_catalogue(store).await;
    user_pages(store).await;
    erasing(store).await;
    erasing_within_a_batch(store).await;
    tenants_apart(store).await;
    odd_names(store).await;
    many(store).await;
}

async fn history(store: &dyn LedgerWrite, m: &Maker, who: &str) -> History {
    store.histories(&m.0, &[user(who)], ALL, Some(R)).await.unwrap().remove(0)
}

fn ids(history: &History) -> Vec<&str> {
    history.engagements.iter().map(|e| e.id.as_str()).collect()
}

async fn empty(store: &dyn LedgerWrite) {
    let t = tenant("nobody");
    assert_eq!(store.histories(&t, &users(&["a", "b"]), ALL, None).await.unwrap(), vec![History::default(); 2]);
    assert_eq!(store.histories(&t, &[], ALL, None).await.unwrap(), []);
    assert_eq!(store.items(&t, &items(&["a"]), Some(R)).await.unwrap(), [None]);
    assert_eq!(store.engaged(&t, &user("a"), &items(&["a", "b"])).await.unwrap(), [false, false]);
    let pairs = store.pairs(&t, &[(user("a"), item("b"))]).await.unwrap();
    assert_eq!((pairs.len(), pairs[0].events.len()), (1, 0));
    assert!(store.newest_items(&t, None, 9).await.unwrap().is_empty());
    assert!(store.users(&t, "", None, 9).await.unwrap().is_empty());
    assert!(store.catalogue(&t, None, 9, None).await.unwrap().is_empty());
    assert!(!store.tenants().await.unwrap().contains(&t), "asking makes no tenant");
    assert_eq!(store.counts(&t).await.unwrap(), LedgerCounts::default());
    assert!(store.append(&[], R).await.unwrap().is_empty());
}

async fn appending(store: &dyn LedgerWrite) {
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

async fn histories(store: &dyn LedgerWrite) {
    let m = Maker::new("histories");
    let batch = [
        m.engagement("e1", "u", "i1", "rating", 7.5, 30),
        m.message("m1", "u", "about i2", Some("i2"), 20),
        m.message("m2", "u", "about nothing", None, 40),
        m.engagement("e2", "u", "i3", "view", -3.25, -10),
        m.view("e3", "v", "i1", 5),
    ];
    store.append(&batch, R).await.unwrap();
    let found = store.histories(&m.0, &users(&["v", "nobody", "u"]), ALL, None).await.unwrap();
    assert_eq!(ids(&found[0]), ["e3"]);
    assert_eq!(found[1], History::default());
    let h = &found[2];
    assert_eq!(ids(h), ["e1", "m1", "e2"], "newest first, in whatever order they came");
    assert_eq!((&*h.engagements[0].kind, h.engagements[0].value, h.engagements[0].timestamp), ("rating", 7.5, at(30)));
    let about = &h.engagements[1];
    assert_eq!((&*about.kind, about.value, about.is_message), (MESSAGE_KIND, 1.0, true));
    assert_eq!(about.item, item("i2"));
    assert_eq!((h.engagements[2].value, h.engagements[2].timestamp, h.engagements[2].is_message), (-3.25, at(-10), false));
    let wrote: Vec<_> = h.messages.iter().map(|m| (m.id.as_str(), &*m.text, m.item.clone())).collect();
    assert_eq!(wrote, [("m2", "about nothing", None), ("m1", "about i2", Some(item("i2")))]);
}

/// Every finite value comes back to the bit: profiles and edges depend on it.
async fn values_to_the_bit(store: &dyn LedgerWrite) {
    let m = Maker::new("values");
    let mut rng = fastrand::Rng::with_seed(3);
    let mut values = vec![0.0, 0.1, -1.0 / 3.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e22, 2.017_351_698_988_807e285];
    values.extend(std::iter::repeat_with(|| f64::from_bits(rng.u64(..))).filter(|v| v.is_finite()).take(500));
    let batch: Vec<Append> =
        (0_i64..).zip(&values).map(|(n, v)| m.engagement(&format!("e{n}"), "u", "i", "amount", *v, n)).collect();
    store.append(&batch, R).await.unwrap();
    let bits = |events: &[EngagedEvent]| events.iter().map(|e| e.value.to_bits()).collect::<Vec<_>>();
    let mut want: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits(&store.pairs(&m.0, &[(user("u"), item("i"))]).await.unwrap()[0].events), want);
    want.reverse();
    assert_eq!(bits(&history(store, &m, "u").await.engagements), want);
}

async fn ties_and_limits(store: &dyn LedgerWrite) {
    let m = Maker::new("ties");
    let mut batch: Vec<Append> = ["c", "a", "d", "b"].iter().map(|id| m.view(id, "u", "i", 7)).collect();
    batch.push(m.view("z", "u", "i", 3));
    batch.push(m.view("y", "u", "i", 9));
    batch.extend(["p", "q"].map(|id| m.message(id, "u", "hm", None, 7)));
    store.append(&batch, R).await.unwrap();
    for (engagements, messages) in [(0, 1), (1, 0), (3, 2), (4, 9), (6, 1), (99, 99)] {
        let limit = HistoryLimit { engagements, messages };
        let h = store.histories(&m.0, &[user("u")], limit, None).await.unwrap().remove(0);
        assert_eq!(ids(&h), &["y", "d", "c", "b", "a", "z"][..engagements.min(6)], "ties by id from the end");
        let wrote: Vec<_> = h.messages.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(wrote, &["q", "p"][..messages.min(2)]);
    }
}

async fn pairs_and_engaged(store: &dyn LedgerWrite) {
    let m = Maker::new("pairs");
    let batch = [
        m.view("b", "u", "i", 20),
        m.view("a", "u", "i", 20),
        m.message("c", "u", "nice", Some("i"), 10),
        m.view("d", "u", "j", 5),
        m.view("e", "v", "i", 1),
        m.message("f", "v", "no item", None, 1),
    ];
    store.append(&batch, R).await.unwrap();
    let asked = [
        (user("u"), item("j")),
        (user("w"), item("i")),
        (user("u"), item("i")),
        (user("v"), item("j")),
        (user("v"), item("i")),
        (user("u"), item("i")),
    ];
    let found = store.pairs(&m.0, &asked).await.unwrap();
    assert_eq!(found.iter().map(|p| (p.user.clone(), p.item.clone())).collect::<Vec<_>>(), asked);
    let ids: Vec<Vec<&str>> = found.iter().map(|p| p.events.iter().map(|e| e.id.as_str()).collect()).collect();
    assert_eq!(
        ids,
        [vec!["d"], vec![], vec!["c", "a", "b"], vec![], vec!["e"], vec!["c", "a", "b"]],
        "oldest first, ties by id"
    );
    assert_eq!(&*found[2].events[0].kind, MESSAGE_KIND);
    assert_eq!(found[2].events[1].item, item("i"));
    let known = store.engaged(&m.0, &user("u"), &items(&["x", "j", "i", "j"])).await.unwrap();
    assert_eq!(known, [false, true, true, true]);
    assert_eq!(store.engaged(&m.0, &user("w"), &items(&["i"])).await.unwrap(), [false]);
}

async fn item_versions(store: &dyn LedgerWrite) {
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

async fn item_vectors_and_marks(store: &dyn LedgerWrite) {
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

async fn message_vectors(store: &dyn LedgerWrite) {
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

async fn newest_and_catalogue(store: &dyn LedgerWrite) {
    let m = Maker::new("catalogue");
    for (id, categories, hidden) in
        [("b", &["x"][..], false), ("d", &["x", "y"], false), ("a", &["y"], false), ("c", &["x"], true)]
    {
        let vector = id.len() as u64 + u64::from(id.as_bytes()[0]);
        store.append(&[with_vector(m.item(id, Some(id), categories, |i| i.hidden = hidden), vector)], R).await.unwrap();
    }
    store.append(&[m.view("1", "u", "never stated", 1)], R).await.unwrap();
    let newest = async |category: Option<&str>, limit: usize| -> Vec<String> {
        let found = store.newest_items(&m.0, category, limit).await.unwrap();
        found.iter().map(|s| s.item.item_id.to_string()).collect()
    };
    assert_eq!(newest(None, 9).await, ["a", "d", "b"], "the last to arrive first; what is hidden is not shown");
    assert_eq!(newest(None, 2).await, ["a", "d"]);
    assert_eq!(newest(Some("x"), 9).await, ["d", "b"]);
    assert_eq!(newest(Some("z"), 9).await, [] as [&str; 0]);
    store.append(&[m.item("d", Some("d"), &["z"], |_| {}), m.item("c", Some("c"), &["x"], |_| {})], R).await.unwrap();
    assert_eq!(newest(Some("x"), 9).await, ["c", "b"], "categories are those of the newest version");
    assert_eq!(newest(Some("z"), 9).await, ["d"]);
    let page = async |after: Option<&str>, limit: usize| {
        let after = after.map(item);
        store.catalogue(&m.0, after.as_ref(), limit, Some(R)).await.unwrap()
    };
    let ids = |page: &[crate::ports::ItemState]| page.iter().map(|s| s.item.item_id.to_string()).collect::<Vec<_>>();
    let first = page(None, 3).await;
    assert_eq!(ids(&first), ["a", "b", "c"], "by id, and only what was stated");
    assert_eq!(first[0].vector, Some(vector(98)));
    assert_eq!(ids(&page(Some("c"), 3).await), ["d"]);
    assert_eq!(ids(&page(Some("bb"), 3).await), ["c", "d"]);
    assert_eq!(store.catalogue(&m.0, None, 1, None).await.unwrap()[0].vector, None);
}

async fn user_pages(store: &dyn LedgerWrite) {
    let m = Maker::new("users");
    let names = ["anna", "an", "ann", "bob", "аня", "an%", "an_", "a\u{10ffff}", "Ann"];
    let batch: Vec<Append> = names.iter().map(|n| m.view("1", n, "i", 1)).collect();
    store.append(&batch, R).await.unwrap();
    let page = async |prefix: &str, after: Option<&str>, limit: usize| -> Vec<String> {
        let after = after.map(user);
        store.users(&m.0, prefix, after.as_ref(), limit).await.unwrap().iter().map(ToString::to_string).collect()
    };
    let mut all: Vec<_> = names.iter().map(ToString::to_string).collect();
    all.sort();
    assert_eq!(page("", None, 99).await, all, "in the order of bytes");
    assert_eq!(page("an", None, 99).await, ["an", "an%", "an_", "ann", "anna"]);
    assert_eq!(page("an", Some("an_"), 1).await, ["ann"]);
    assert_eq!(page("an%", None, 9).await, ["an%"], "no character is special");
    assert_eq!(page("a\u{10ffff}", None, 9).await, ["a\u{10ffff}"]);
    assert_eq!(page("ан", None, 9).await, ["аня"], "letters that look alike are not the same");
    assert_eq!(page("x", None, 9).await, [] as [&str; 0]);
}

async fn erasing(store: &dyn LedgerWrite) {
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

async fn erasing_within_a_batch(store: &dyn LedgerWrite) {
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

async fn tenants_apart(store: &dyn LedgerWrite) {
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

async fn odd_names(store: &dyn LedgerWrite) {
    let m = Maker::new("odd \"names\"\\ 💠");
    let long = "ж".repeat(128);
    for (n, name) in ["'", "\"", "\\", "null", "1", "01", "1.0", "%", "[]", "💠", &long].iter().enumerate() {
        let seconds = n as i64;
        let batch = [
            m.view(name, name, name, seconds),
            m.message(name, name, "a\u{0}b\u{1f}", Some(name), seconds),
            m.item(name, Some(name), &[name], |_| {}),
        ];
        assert_eq!(store.append(&batch, R).await.unwrap(), [New; 3], "{name}");
        assert_eq!(store.append(&batch, R).await.unwrap(), [Duplicate; 3], "{name}");
        let h = history(store, &m, name).await;
        assert_eq!((h.engagements.len(), &*h.messages[0].text), (2, "a\u{0}b\u{1f}"));
        assert_eq!(h.engagements[0].id, EventId::parse(name).unwrap());
        assert_eq!(store.engaged(&m.0, &user(name), &items(&[name, "other"])).await.unwrap(), [true, false]);
        assert_eq!(store.pairs(&m.0, &[(user(name), item(name))]).await.unwrap()[0].events.len(), 2);
        assert_eq!(store.newest_items(&m.0, Some(name), 9).await.unwrap().len(), 1);
        assert_eq!(store.items(&m.0, &items(&[name]), None).await.unwrap()[0].as_ref().unwrap().item.item_id, item(name));
    }
}

async fn many(store: &dyn LedgerWrite) {
    let m = Maker::new("many");
    let batch: Vec<Append> = (0..1500)
        .map(|n| m.view(&format!("e{n}"), &format!("u{}", n % 7), &format!("i{}", n % 100), i64::from(n) * 10))
        .collect();
    assert_eq!(store.append(&batch, R).await.unwrap(), vec![New; 1500]);
    assert_eq!(store.counts(&m.0).await.unwrap(), LedgerCounts { users: 7, items: 0, events: 1500 });
    let limit = HistoryLimit { engagements: 20, messages: 5 };
    let all: Vec<String> = (0..7).map(|n| format!("u{n}")).collect();
    let asked: Vec<_> = all.iter().map(|u| user(u)).collect();
    for (n, h) in store.histories(&m.0, &asked, limit, None).await.unwrap().iter().enumerate() {
        let newest = (0..1500).rev().filter(|e| e % 7 == n).take(20).map(|e| format!("e{e}")).collect::<Vec<_>>();
        assert_eq!(ids(h), newest);
    }
}

/// Two empty ledgers get the same facts, in other batches and in another order between users: their digests are equal, and
/// differ from one that lacks a fact.
pub async fn ledger_digests(a: &dyn LedgerWrite, b: &dyn LedgerWrite) {
    let m = Maker::new("digests");
    let of = |who: &str| {
        vec![
            m.view("1", who, "i", 1),
            with_vector(m.message("1", who, "text", Some("j"), 2), 1),
            m.view("2", who, "j", 3),
            m.erasure(who, 2),
            m.view("3", who, "k", 4),
        ]
    };
    let (ann, bob) = (of("ann"), of("bob"));
    let item = with_vector(m.item("i", Some("t"), &["c"], |i| i.timestamp = Some(at(1))), 3);
    let mut all = vec![item.clone()];
    all.extend(ann.iter().cloned());
    all.extend(bob.iter().cloned());
    a.append(&all, R).await.unwrap();
    for (x, y) in bob.iter().zip(&ann) {
        b.append(std::slice::from_ref(x), R).await.unwrap();
        b.append(&[y.clone(), y.clone()], R).await.unwrap();
    }
    assert_ne!(a.digest().await.unwrap(), b.digest().await.unwrap());
    b.append(&[item], R).await.unwrap();
    assert_eq!(a.digest().await.unwrap(), b.digest().await.unwrap());
    a.append(&all, R).await.unwrap();
    assert_eq!(a.digest().await.unwrap(), b.digest().await.unwrap());
}

/// What was acknowledged is there when the ledger is opened again.
pub async fn ledger_reopened<S: LedgerWrite>(open: impl AsyncFn() -> S) {
    let m = Maker::new("reopened");
    let batch = [m.view("1", "u", "i", 1), with_vector(m.message("1", "u", "x", None, 1), 1), m.erasure("v", 1)];
    let store = open().await;
    store.append(&batch, R).await.unwrap();
    let digest = store.digest().await.unwrap();
    drop(store);
    let store = open().await;
    assert_eq!(store.digest().await.unwrap(), digest);
    assert_eq!(store.append(&batch, R).await.unwrap(), [Duplicate; 3]);
}
