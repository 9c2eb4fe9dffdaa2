//! What is read back: histories, pairs, pages, and every name and value as it came in.

use super::{ALL, R, history, ids};
use crate::{
    EventId,
    ports::{
        Append,
        Appended::{Duplicate, New},
        EngagedEvent, History, HistoryLimit, LedgerCounts, LedgerWrite,
    },
    taste::MESSAGE_KIND,
    testing::events::{Maker, at, item, items, tenant, user, users, vector, with_vector},
};

pub(super) async fn empty(store: &dyn LedgerWrite) {
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

pub(super) async fn histories(store: &dyn LedgerWrite) {
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
pub(super) async fn values_to_the_bit(store: &dyn LedgerWrite) {
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

/// Whatever a ledger remembers of vectors: they are those of the newest version.
pub(super) async fn vectors_follow_their_items(store: &dyn LedgerWrite) {
    let m = Maker::new("vectors");
    let asked = items(&["a", "none", "b", "a"]);
    let version =
        |text: &str, category: &str, time: i64| m.item("a", Some(text), &[category], |i| i.timestamp = Some(at(time)));
    let b = with_vector(m.item("b", Some("b"), &[], |_| {}), 9);
    let steps = [
        (with_vector(version("one", "c", 1), 1), Some(1)),
        (with_vector(version("two", "c", 2), 2), Some(2)),
        (with_vector(version("two", "d", 3), 2), Some(2)),
        (with_vector(version("one", "c", 1), 1), Some(2)),
        (version("three", "d", 4), None),
        (with_vector(version("three", "d", 4), 3), Some(3)),
    ];
    assert_eq!(store.item_vectors(&m.0, &asked, R).await.unwrap(), [None, None, None, None]);
    for (step, want) in steps {
        store.append(&[step, b.clone()], R).await.unwrap();
        let want = want.map(vector);
        for _ in 0..2 {
            let found = store.item_vectors(&m.0, &asked, R).await.unwrap();
            assert_eq!(found, [want.clone(), None, Some(vector(9)), want.clone()]);
        }
        assert_eq!(store.item_vectors(&m.0, &asked, "another").await.unwrap(), [None, None, None, None]);
    }
}

pub(super) async fn ties_and_limits(store: &dyn LedgerWrite) {
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

pub(super) async fn pairs_and_engaged(store: &dyn LedgerWrite) {
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

pub(super) async fn newest_and_catalogue(store: &dyn LedgerWrite) {
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

pub(super) async fn user_pages(store: &dyn LedgerWrite) {
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

pub(super) async fn odd_names(store: &dyn LedgerWrite) {
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

pub(super) async fn many(store: &dyn LedgerWrite) {
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
