//! What every vector index must do, exact or not: on this few rows, an answer equals the one that comparing all rows gives.

use std::collections::BTreeMap;

use crate::{
    ErrorKind, Tenant, Vector,
    digest::Digest,
    ports::{Collection, Hit, VectorQuery, VectorRow, VectorWrite},
    profile::unit,
};

const DIMENSION: usize = 24;

/// A random unit vector.
pub fn random_unit(rng: &mut fastrand::Rng, dimension: usize) -> Vector {
    let v: Vec<f64> = (0..dimension).map(|_| rng.f64() - 0.5).collect();
    unit(&v).unwrap()
}

/// What comparing all rows finds: the order and the scores that an index must give.
pub fn nearest<'a>(rows: impl IntoIterator<Item = &'a VectorRow>, query: &VectorQuery) -> Vec<Hit> {
    let mut hits: Vec<Hit> = rows
        .into_iter()
        .filter(|r| query.label.as_ref().is_none_or(|l| r.labels.contains(l)) && !query.exclude.contains(&r.id))
        .map(|r| {
            let score: f64 = r.vector.iter().zip(query.vector.iter()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            Hit { id: r.id.clone(), score: score as f32 }
        })
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(query.limit);
    hits
}

/// Whether two answers are the same, scores up to rounding; rows whose scores differ by rounding only may change places.
pub fn assert_same(found: &[Hit], expected: &[Hit], rows: &BTreeMap<String, VectorRow>, query: &VectorQuery) {
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f.score - e.score).abs() < 2e-6, "{f:?} {e:?}");
        let own = nearest([&rows[&f.id]], &VectorQuery { limit: 1, ..query.clone() });
        assert!(own.first().is_some_and(|o| (o.score - f.score).abs() < 2e-6), "{f:?} is not what it says: {own:?}");
    }
    for pair in found.windows(2) {
        let in_order = pair[0].score > pair[1].score || (pair[0].score == pair[1].score && pair[0].id < pair[1].id);
        assert!(in_order, "{pair:?}");
    }
    assert!(found.iter().all(|h| (-1.0..=1.0).contains(&h.score)));
}

fn row(id: &str, vector: Vector, labels: &[&str]) -> VectorRow {
    VectorRow { id: id.into(), vector, labels: labels.iter().map(|l| (*l).to_owned()).collect() }
}

fn ask(vector: &Vector, limit: usize) -> VectorQuery {
    VectorQuery { vector: vector.clone(), limit, label: None, exclude: Vec::new() }
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|h| h.id.as_str()).collect()
}

/// Runs the whole suite on an empty index. Panics where the port's promises are broken.
pub async fn vectors(store: &dyn VectorWrite) {
    empty(store).await;
    rows_and_order(store).await;
    filters(store).await;
    tenants_and_collections(store).await;
    refusals(store).await;
    any_history(store).await;
    digests(store).await;
    revisions(store).await;
}

async fn empty(store: &dyn VectorWrite) {
    let tenant = Tenant::default();
    let v = random_unit(&mut fastrand::Rng::with_seed(1), DIMENSION);
    assert_eq!(store.revision().await.unwrap(), None);
    assert!(!store.needs_rebuild().await.unwrap());
    assert_eq!(store.digest().await.unwrap(), Digest::default());
    for c in Collection::ALL {
        assert_eq!(store.count(&tenant, c).await.unwrap(), 0);
        assert_eq!(store.search(&tenant, c, ask(&v, 5)).await.unwrap(), []);
        assert_eq!(store.get(&tenant, c, &["a".into(), "b".into()]).await.unwrap(), [None, None]);
        store.delete(&tenant, c, &["a".into()]).await.unwrap();
    }
    store.checkpoint().await.unwrap();
}

async fn rows_and_order(store: &dyn VectorWrite) {
    let (tenant, items) = (Tenant::trusted("order"), Collection::Items);
    let mut rng = fastrand::Rng::with_seed(2);
    let (v, w) = (random_unit(&mut rng, DIMENSION), random_unit(&mut rng, DIMENSION));
    store.upsert(&tenant, items, "r1", &[row("c", v.clone(), &[]), row("a", v.clone(), &[])]).await.unwrap();
    assert_eq!(store.revision().await.unwrap().as_deref(), Some("r1"), "the first revision written is current");
    store.upsert(&tenant, items, "r1", &[row("b", v.clone(), &[]), row("z", w.clone(), &[])]).await.unwrap();
    store.upsert(&tenant, items, "r1", &[]).await.unwrap();
    assert_eq!(ids(&store.search(&tenant, items, ask(&v, 4)).await.unwrap()), ["a", "b", "c", "z"], "ties by id");
    assert_eq!(ids(&store.search(&tenant, items, ask(&v, 2)).await.unwrap()), ["a", "b"], "ties by id where the limit cuts");
    assert_eq!(store.search(&tenant, items, ask(&v, 0)).await.unwrap(), []);
    assert_eq!(store.search(&tenant, items, ask(&v, 99)).await.unwrap().len(), 4);
    let got = store.get(&tenant, items, &["z".into(), "none".into(), "a".into(), "z".into()]).await.unwrap();
    assert_eq!(got, [Some(w.clone()), None, Some(v.clone()), Some(w.clone())], "in the order asked");

    store.upsert(&tenant, items, "r1", &[row("a", w.clone(), &["x"])]).await.unwrap();
    assert_eq!(ids(&store.search(&tenant, items, ask(&w, 2)).await.unwrap()), ["a", "z"], "an update replaces");
    assert_eq!(ids(&store.search(&tenant, items, ask(&v, 2)).await.unwrap()), ["b", "c"]);
    assert_eq!(store.count(&tenant, items).await.unwrap(), 4);
    store.upsert(&tenant, items, "r1", &[row("twice", v.clone(), &[]), row("twice", w.clone(), &[])]).await.unwrap();
    assert_eq!(store.get(&tenant, items, &["twice".into()]).await.unwrap(), [Some(w)], "the last of equal ids stands");
    store.delete(&tenant, items, &["twice".into(), "never".into(), "c".into(), "c".into()]).await.unwrap();
    assert_eq!(ids(&store.search(&tenant, items, ask(&v, 9)).await.unwrap()[..1]), ["b"]);
    assert_eq!(store.count(&tenant, items).await.unwrap(), 3);
    assert_eq!(store.get(&tenant, items, &["c".into()]).await.unwrap(), [None]);
}

async fn filters(store: &dyn VectorWrite) {
    let (tenant, items) = (Tenant::trusted("filters"), Collection::Items);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut rows = BTreeMap::new();
    for i in 0..400 {
        let labels: &[&str] = match i {
            7 => &["common", "rare"],
            i if i % 2 == 0 => &["common"],
            _ => &[],
        };
        let r = row(&format!("i{i:03}"), random_unit(&mut rng, DIMENSION), labels);
        rows.insert(r.id.clone(), r);
    }
    store.upsert(&tenant, items, "r1", &rows.values().cloned().collect::<Vec<_>>()).await.unwrap();
    let everything: Vec<String> = rows.keys().cloned().collect();
    for _ in 0..20 {
        let vector = random_unit(&mut rng, DIMENSION);
        for label in [None, Some("common"), Some("rare"), Some("unknown")] {
            for exclude in
                [vec![], vec!["i007".to_owned(), "unknown".to_owned()], everything[..395].to_vec(), everything.clone()]
            {
                let query = VectorQuery { vector: vector.clone(), limit: 10, label: label.map(str::to_owned), exclude };
                let found = store.search(&tenant, items, query.clone()).await.unwrap();
                assert_same(&found, &nearest(rows.values(), &query), &rows, &query);
            }
        }
    }
    let query = VectorQuery { label: Some("rare".into()), ..ask(&rows["i000"].vector, 3) };
    let relabelled = VectorRow { labels: vec!["rare".into()], ..rows["i009"].clone() };
    store.upsert(&tenant, items, "r1", &[relabelled, VectorRow { labels: vec![], ..rows["i007"].clone() }]).await.unwrap();
    assert_eq!(ids(&store.search(&tenant, items, query).await.unwrap()), ["i009"], "labels are replaced with the row");
}

async fn tenants_and_collections(store: &dyn VectorWrite) {
    let mut rng = fastrand::Rng::with_seed(4);
    let (t1, t2) = (Tenant::trusted("one"), Tenant::trusted("two"));
    let v = random_unit(&mut rng, DIMENSION);
    let w = random_unit(&mut rng, DIMENSION);
    store.upsert(&t1, Collection::Users, "r1", &[row("same", v.clone(), &[])]).await.unwrap();
    store.upsert(&t2, Collection::Users, "r1", &[row("same", w.clone(), &[])]).await.unwrap();
    store.upsert(&t1, Collection::Items, "r1", &[row("same", w.clone(), &[]), row("other", w.clone(), &[])]).await.unwrap();
    assert_eq!(store.get(&t1, Collection::Users, &["same".into()]).await.unwrap(), [Some(v.clone())]);
    assert_eq!(store.get(&t2, Collection::Users, &["same".into()]).await.unwrap(), [Some(w)]);
    assert_eq!(store.count(&t1, Collection::Users).await.unwrap(), 1);
    assert_eq!(store.count(&t1, Collection::Items).await.unwrap(), 2);
    assert_eq!(store.count(&t2, Collection::Items).await.unwrap(), 0);
    assert_eq!(store.search(&t2, Collection::Items, ask(&v, 9)).await.unwrap(), []);
    store.delete(&t1, Collection::Users, &["same".into()]).await.unwrap();
    assert_eq!(store.count(&t2, Collection::Users).await.unwrap(), 1, "a deletion is one tenant's");
    assert_eq!(store.count(&t1, Collection::Items).await.unwrap(), 2, "a deletion is one collection's");
}

async fn refusals(store: &dyn VectorWrite) {
    let (tenant, users) = (Tenant::trusted("refusals"), Collection::Users);
    let mut rng = fastrand::Rng::with_seed(5);
    let (good, longer) = (random_unit(&mut rng, DIMENSION), random_unit(&mut rng, DIMENSION + 1));
    let error = store.upsert(&tenant, users, "r1", &[row("a", longer.clone(), &[])]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "a revision has one dimension");
    store.upsert(&tenant, users, "r1", &[row("a", good, &[])]).await.unwrap();
    assert_eq!(store.search(&tenant, users, ask(&longer, 1)).await.unwrap_err().kind, ErrorKind::Invalid);
    let not_a_number: Vector = std::iter::repeat_n(f32::NAN, DIMENSION).collect();
    assert_eq!(store.upsert(&tenant, users, "r1", &[row("b", not_a_number, &[])]).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(store.count(&tenant, users).await.unwrap(), 1, "what is refused changes nothing");
}

/// Whatever came before, answers are those of the rows that stand, from the moment a write is acknowledged.
async fn any_history(store: &dyn VectorWrite) {
    let (tenant, items) = (Tenant::trusted("history"), Collection::Items);
    let mut rng = fastrand::Rng::with_seed(6);
    let pool: Vec<Vector> = (0..60).map(|_| random_unit(&mut rng, DIMENSION)).collect();
    let mut rows: BTreeMap<String, VectorRow> = BTreeMap::new();
    for step in 0..300 {
        let batch: Vec<String> = (0..rng.usize(1..8)).map(|_| format!("i{}", rng.u32(..200))).collect();
        if rng.u8(..4) == 0 {
            store.delete(&tenant, items, &batch).await.unwrap();
            for id in batch {
                rows.remove(&id);
            }
        } else {
            let batch: Vec<VectorRow> = batch
                .iter()
                .map(|id| {
                    let vector = if rng.bool() { rng.choice(&pool).unwrap().clone() } else { random_unit(&mut rng, DIMENSION) };
                    let labels: &[&str] = [&[][..], &["x"], &["x", "y"]][rng.usize(..3)];
                    row(id, vector, labels)
                })
                .collect();
            store.upsert(&tenant, items, "r1", &batch).await.unwrap();
            for r in batch {
                rows.insert(r.id.clone(), r);
            }
        }
        let vector = if rng.bool() { rng.choice(&pool).unwrap().clone() } else { random_unit(&mut rng, DIMENSION) };
        let label = [None, Some("x".to_owned()), Some("y".to_owned())][rng.usize(..3)].clone();
        let exclude = (0..rng.usize(..20)).map(|_| format!("i{}", rng.u32(..200))).collect();
        let query = VectorQuery { vector, limit: rng.usize(1..30), label, exclude };
        let found = store.search(&tenant, items, query.clone()).await.unwrap();
        assert_same(&found, &nearest(rows.values(), &query), &rows, &query);
        if step % 50 == 0 {
            store.checkpoint().await.unwrap();
        }
    }
    assert_eq!(store.count(&tenant, items).await.unwrap(), rows.len() as u64);
}

async fn digests(store: &dyn VectorWrite) {
    let mut rng = fastrand::Rng::with_seed(7);
    let (tenant, items) = (Tenant::trusted("digests"), Collection::Items);
    let without = store.digest().await.unwrap();
    let rows: Vec<VectorRow> = (0..50).map(|i| row(&format!("d{i}"), random_unit(&mut rng, DIMENSION), &["l"])).collect();
    let all: Vec<String> = rows.iter().map(|r| r.id.clone()).collect();
    store.upsert(&tenant, items, "r1", &rows).await.unwrap();
    let with = store.digest().await.unwrap();
    assert_eq!(with.rows(), without.rows() + 50);
    let mut expected = without;
    for r in &rows {
        r.add_to(&mut expected, &tenant, items);
    }
    assert_eq!(with, expected, "a row counts as the port says");
    store.delete(&tenant, items, &all).await.unwrap();
    assert_eq!(store.digest().await.unwrap(), without);

    let mut shuffled = rows.clone();
    rng.shuffle(&mut shuffled);
    let wrong: Vec<VectorRow> = rows[..20]
        .iter()
        .map(|r| VectorRow { vector: random_unit(&mut rng, DIMENSION), labels: vec![], ..r.clone() })
        .collect();
    store.upsert(&tenant, items, "r1", &wrong).await.unwrap();
    assert_ne!(store.digest().await.unwrap(), with);
    for batch in shuffled.chunks(7).chain(rows.chunks(30)) {
        store.upsert(&tenant, items, "r1", batch).await.unwrap();
    }
    assert_eq!(store.digest().await.unwrap(), with, "order, batches and history leave no trace");
    store.upsert(&tenant, items, "r1", &[VectorRow { labels: vec!["m".into()], ..rows[0].clone() }]).await.unwrap();
    assert_ne!(store.digest().await.unwrap(), with, "labels count");
    store.upsert(&tenant, items, "r1", &rows[..1]).await.unwrap();
    assert_eq!(store.digest().await.unwrap(), with);
}

async fn revisions(store: &dyn VectorWrite) {
    let mut rng = fastrand::Rng::with_seed(8);
    let tenant = Tenant::trusted("revisions");
    let (v, shorter) = (random_unit(&mut rng, DIMENSION), random_unit(&mut rng, DIMENSION / 2));
    for c in Collection::ALL {
        store.upsert(&tenant, c, "r1", &[row("a", v.clone(), &[]), row("b", v.clone(), &[])]).await.unwrap();
    }
    let before = store.digest().await.unwrap();
    for c in Collection::ALL {
        let rows = [row("a", shorter.clone(), &[]), row("only-2", shorter.clone(), &[]), row("gone", shorter.clone(), &[])];
        store.upsert(&tenant, c, "r2", &rows).await.unwrap();
    }
    assert_eq!(store.revision().await.unwrap().as_deref(), Some("r1"), "writing another revision does not switch");
    assert_eq!(store.digest().await.unwrap(), before);
    for c in Collection::ALL {
        assert_eq!(ids(&store.search(&tenant, c, ask(&v, 9)).await.unwrap()), ["a", "b"]);
        assert_eq!(store.count(&tenant, c).await.unwrap(), 2);
        assert_eq!(store.get(&tenant, c, &["only-2".into()]).await.unwrap(), [None]);
        store.delete(&tenant, c, &["gone".into(), "b".into()]).await.unwrap();
    }
    assert_eq!(store.drop_revision("r1").await.unwrap_err().kind, ErrorKind::Invalid, "what is current is not dropped");
    store.switch("r2").await.unwrap();
    assert_eq!(store.revision().await.unwrap().as_deref(), Some("r2"));
    for c in Collection::ALL {
        assert_eq!(
            ids(&store.search(&tenant, c, ask(&shorter, 9)).await.unwrap()),
            ["a", "only-2"],
            "deleted from every revision"
        );
        assert_eq!(store.get(&tenant, c, &["a".into()]).await.unwrap(), [Some(shorter.clone())]);
    }
    assert_eq!(store.digest().await.unwrap().rows(), 4);
    store.switch("r1").await.unwrap();
    assert_eq!(ids(&store.search(&tenant, Collection::Users, ask(&v, 9)).await.unwrap()), ["a"], "and back");
    store.switch("r2").await.unwrap();
    store.drop_revision("r1").await.unwrap();
    store.drop_revision("never").await.unwrap();
    assert_eq!(store.count(&tenant, Collection::Users).await.unwrap(), 2);
    store.switch("r1").await.unwrap();
    assert_eq!(store.count(&tenant, Collection::Users).await.unwrap(), 0, "a dropped revision is gone");
    store.switch("r2").await.unwrap();
}
