//! What every store of engagement totals must do.

use super::events::{item, tenant, user};
use crate::{
    EventId, Tenant, Timestamp,
    ports::{EngagementWrite, HourTotal, ItemLabels, Tally, TrendFit, TrendingQuery},
    time::HOUR_MS,
};

/// Everything that one empty store can show.
pub async fn engagement(store: &dyn EngagementWrite) {
    empty(store).await;
    counting(store).await;
    trending(store).await;
    labels(store).await;
    fitting(store).await;
    erasing(store).await;
    tenants_apart(store).await;
    many(store).await;
}

fn tally(id: &str, who: &str, what: &str, weight: f32, hour: i64) -> Tally {
    let timestamp = Timestamp::from_millis(hour * HOUR_MS + 1234);
    Tally { id: EventId::parse(id).unwrap(), user: user(who), item: item(what), weight, timestamp }
}

fn total(hour: i64, what: &str, count: u64, weight: f64) -> HourTotal {
    HourTotal { hour, item: item(what), count, weight }
}

fn ask(category: Option<&str>, half_life_hours: Option<f64>, limit: usize) -> TrendingQuery {
    TrendingQuery { category: category.map(Into::into), half_life_hours, limit }
}

/// Items and scores; scores rounded, since backends may compute powers with another last bit.
async fn rising(store: &dyn EngagementWrite, t: &Tenant, query: TrendingQuery) -> Vec<(String, f64)> {
    let found = store.trending(t, query).await.unwrap();
    found.into_iter().map(|(i, s)| (i.to_string(), (s * 1e9).round() / 1e9)).collect()
}

fn want(list: &[(&str, f64)]) -> Vec<(String, f64)> {
    list.iter().map(|(i, s)| ((*i).to_owned(), *s)).collect()
}

async fn empty(store: &dyn EngagementWrite) {
    let t = tenant("nobody");
    for query in [ask(None, None, 9), ask(None, Some(2.0), 9), ask(Some("c"), Some(2.0), 9)] {
        assert!(store.trending(&t, query).await.unwrap().is_empty());
    }
    assert!(store.hours(&t, 9).await.unwrap().is_empty());
    assert_eq!(store.trend_fit(&t).await.unwrap(), None);
    assert_eq!(store.erase(&t, &user("u")).await.unwrap(), 0);
    store.record(&t, &[]).await.unwrap();
    store.set_labels(&t, &[]).await.unwrap();
}

async fn counting(store: &dyn EngagementWrite) {
    let t = tenant("counting");
    let batch = [
        tally("1", "u", "a", 1.0, 10),
        tally("1", "u", "a", 1.0, 10),
        tally("1", "v", "a", 0.3, 10),
        tally("2", "u", "a", 0.5, 11),
        tally("3", "u", "b", 0.0, 10),
        tally("4", "u", "b", 1.0, -1),
    ];
    store.record(&t, &batch).await.unwrap();
    let digest = store.digest().await.unwrap();
    let a = f64::from((f64::from(0.3_f32) * 1_048_576.0).round() as u32) / 1_048_576.0 + 1.0;
    let all = [total(-1, "b", 1, 1.0), total(10, "a", 2, a), total(10, "b", 1, 0.0), total(11, "a", 1, 0.5)];
    assert_eq!(store.hours(&t, 9).await.unwrap(), all, "by hour and item, each event once");
    assert_eq!(store.hours(&t, 2).await.unwrap(), all[2..], "the newest");
    assert_eq!(store.hours(&t, 0).await.unwrap(), []);
    // Told again, with whatever else: what was counted stays as it was.
    store.record(&t, &batch).await.unwrap();
    store.record(&t, &[tally("2", "u", "other", 9.0, 99)]).await.unwrap();
    assert_eq!(store.hours(&t, 9).await.unwrap(), all);
    assert_eq!(store.digest().await.unwrap(), digest);
}

async fn trending(store: &dyn EngagementWrite) {
    let t = tenant("trending");
    let batch = [
        tally("1", "u", "old", 1.0, 0),
        tally("2", "u", "old", 1.0, 0),
        tally("3", "u", "old", 1.0, 10),
        tally("4", "u", "new", 1.0, 20),
        tally("5", "u", "tie", 1.0, 20),
        tally("6", "u", "nothing", 0.0, 20),
    ];
    store.record(&t, &batch).await.unwrap();
    assert_eq!(
        rising(store, &t, ask(None, Some(10.0), 9)).await,
        want(&[("new", 1.0), ("old", 1.0), ("tie", 1.0), ("nothing", 0.0)]),
        "2·¼ + ½ = 1: ties by id"
    );
    let faster = rising(store, &t, ask(None, Some(5.0), 9)).await;
    assert_eq!(faster, want(&[("new", 1.0), ("tie", 1.0), ("old", 0.375), ("nothing", 0.0)]));
    assert_eq!(rising(store, &t, ask(None, Some(5.0), 2)).await, faster[..2]);
    assert_eq!(rising(store, &t, ask(None, None, 3)).await, want(&[("old", 3.0), ("new", 1.0), ("tie", 1.0)]));
    assert!(store.trending(&t, ask(None, None, 0)).await.unwrap().is_empty());
}

async fn labels(store: &dyn EngagementWrite) {
    let t = tenant("labels");
    let set = async |of: &str, categories: &[&str]| {
        let categories = categories.iter().map(|c| (*c).to_owned()).collect();
        store.set_labels(&t, &[ItemLabels { item: item(of), categories }]).await.unwrap();
    };
    set("a", &["x", "y"]).await;
    store
        .record(&t, &[tally("1", "u", "a", 1.0, 0), tally("2", "u", "b", 2.0, 10), tally("3", "u", "c", 4.0, 20)])
        .await
        .unwrap();
    set("b", &["x"]).await;
    set("never engaged with", &["x"]).await;
    assert_eq!(
        rising(store, &t, ask(Some("x"), Some(10.0), 9)).await,
        want(&[("b", 1.0), ("a", 0.25)]),
        "age is counted from the tenant's newest hour, not the category's"
    );
    assert_eq!(rising(store, &t, ask(Some("y"), None, 9)).await, want(&[("a", 1.0)]));
    assert_eq!(rising(store, &t, ask(Some("z"), None, 9)).await, []);
    let digest = store.digest().await.unwrap();
    set("a", &["z"]).await;
    assert_eq!(rising(store, &t, ask(Some("x"), None, 9)).await, want(&[("b", 2.0)]), "categories are replaced whole");
    assert_ne!(store.digest().await.unwrap(), digest);
    set("a", &["x", "y"]).await;
    set("a", &["x", "y"]).await;
    assert_eq!(store.digest().await.unwrap(), digest);
    set("a", &[]).await;
    assert_eq!(rising(store, &t, ask(Some("y"), None, 9)).await, []);
}

async fn fitting(store: &dyn EngagementWrite) {
    let t = tenant("fitting");
    let digest = store.digest().await.unwrap();
    for half_life_hours in [Some(12.5), None, Some(3.0)] {
        let fit = TrendFit { half_life_hours, share: 0.25 };
        store.set_trend_fit(&t, fit).await.unwrap();
        assert_eq!(store.trend_fit(&t).await.unwrap(), Some(fit));
    }
    assert_eq!(store.digest().await.unwrap(), digest, "what was fitted is no fact");
    assert_eq!(store.trend_fit(&tenant("fitting not")).await.unwrap(), None);
}

async fn erasing(store: &dyn EngagementWrite) {
    let t = tenant("erasing");
    store.record(&t, &[tally("1", "v", "a", 0.25, 1)]).await.unwrap();
    let before = store.digest().await.unwrap();
    let gone = [tally("1", "u", "a", 1.0, 1), tally("2", "u", "a", 1.0, 1), tally("3", "u", "b", 1.0, 1)];
    store.record(&t, &gone).await.unwrap();
    assert_eq!(store.erase(&t, &user("u")).await.unwrap(), 3);
    assert_eq!(store.hours(&t, 9).await.unwrap(), [total(1, "a", 1, 0.25)]);
    assert_eq!(store.digest().await.unwrap(), before);
    assert_eq!(rising(store, &t, ask(None, Some(1.0), 9)).await, want(&[("a", 0.25)]));
    assert_eq!(store.erase(&t, &user("u")).await.unwrap(), 0);
    store.record(&t, &gone[2..]).await.unwrap();
    assert_eq!(store.hours(&t, 9).await.unwrap().len(), 2, "what comes later is a new beginning");
}

async fn tenants_apart(store: &dyn EngagementWrite) {
    let (a, b) = (tenant("apart a"), tenant("apart b"));
    store.record(&a, &[tally("1", "u", "i", 1.0, 1)]).await.unwrap();
    store.record(&b, &[tally("1", "u", "i", 2.0, 1), tally("2", "u", "i", 2.0, 50)]).await.unwrap();
    store.set_labels(&b, &[ItemLabels { item: item("i"), categories: vec!["c".into()] }]).await.unwrap();
    assert_eq!(rising(store, &a, ask(None, Some(1.0), 9)).await, want(&[("i", 1.0)]), "the newest hour is the tenant's own");
    assert_eq!(rising(store, &a, ask(Some("c"), None, 9)).await, []);
    assert_eq!(store.erase(&a, &user("u")).await.unwrap(), 1);
    assert_eq!(rising(store, &b, ask(None, None, 9)).await, want(&[("i", 4.0)]));
}

async fn many(store: &dyn EngagementWrite) {
    let t = tenant("many");
    let all: Vec<Tally> =
        (0..1300).map(|n| tally(&format!("e{n}"), &format!("u{}", n % 9), &format!("i{}", n % 11), 0.1, n / 13)).collect();
    store.record(&t, &all[..700]).await.unwrap();
    store.record(&t, &all[500..]).await.unwrap();
    let hours = store.hours(&t, usize::MAX).await.unwrap();
    assert_eq!(hours.iter().map(|h| h.count).sum::<u64>(), 1300);
    assert!(hours.is_sorted_by_key(|h| (h.hour, h.item.clone())));
    let found = store.trending(&t, ask(None, Some(7.0), 99)).await.unwrap();
    let newest = 1299 / 13;
    for (id, score) in &found {
        let want: f64 =
            hours.iter().filter(|h| h.item == *id).map(|h| h.weight * (-((newest - h.hour) as f64) / 7.0).exp2()).sum();
        assert!((score - want).abs() < 1e-9, "{id} {score} {want}");
    }
    assert_eq!(found.len(), 11);
}

/// Two empty stores get the same facts in other batches and orders: their digests are equal to the bit.
pub async fn engagement_digests(a: &dyn EngagementWrite, b: &dyn EngagementWrite) {
    let t = tenant("digests");
    let all: Vec<Tally> = (0_i64..60)
        .map(|n| tally(&format!("e{n}"), &format!("u{}", n % 3), &format!("i{}", n % 2), 0.1 + n as f32 / 7.0, n % 5))
        .collect();
    let labels = [ItemLabels { item: item("i0"), categories: vec!["x".into(), "y".into()] }];
    a.record(&t, &all).await.unwrap();
    a.set_labels(&t, &labels).await.unwrap();
    b.set_labels(&t, &labels).await.unwrap();
    for part in all.rchunks(7) {
        b.record(&t, part).await.unwrap();
        b.record(&t, &part[..part.len() / 2]).await.unwrap();
    }
    assert_eq!(a.digest().await.unwrap(), b.digest().await.unwrap());
    assert_eq!(a.hours(&t, 99).await.unwrap(), b.hours(&t, 99).await.unwrap());
    b.record(&t, &[tally("more", "u", "i0", 1.0, 1)]).await.unwrap();
    assert_ne!(a.digest().await.unwrap(), b.digest().await.unwrap());
}

/// What was acknowledged is there when the store is opened again.
pub async fn engagement_reopened<S: EngagementWrite>(open: impl AsyncFn() -> S) {
    let t = tenant("reopened");
    let store = open().await;
    store.record(&t, &[tally("1", "u", "i", 1.0, 1)]).await.unwrap();
    store.set_trend_fit(&t, TrendFit { half_life_hours: None, share: 0.5 }).await.unwrap();
    let digest = store.digest().await.unwrap();
    drop(store);
    let store = open().await;
    assert_eq!(store.digest().await.unwrap(), digest);
    assert_eq!(store.trend_fit(&t).await.unwrap(), Some(TrendFit { half_life_hours: None, share: 0.5 }));
}
