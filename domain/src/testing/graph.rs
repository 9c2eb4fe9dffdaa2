//! What every graph must do.

use super::events::{at, item, items, tenant, user, users};
use crate::{
    ItemId, Tenant,
    ports::{Edge, GraphWrite, Neighbour, NeighbourList, Touched},
};

/// Everything that one empty graph can show.
pub async fn graph(store: &dyn GraphWrite) {
    empty(store).await;
    edges(store).await;
    touching(store).await;
    neighbours(store).await;
    replacing(store).await;
    erasing(store).await;
    tenants_apart(store).await;
    many(store).await;
}

fn edge(who: &str, what: &str, weight: f32, last: i64) -> Edge {
    Edge { user: user(who), item: item(what), weight, positive: weight > 0.5, first: at(last - 5), last: at(last) }
}

fn list(of: &str, near: &[(&str, f32)]) -> NeighbourList {
    (item(of), near.iter().map(|(id, weight)| Neighbour { item: item(id), weight: *weight }).collect())
}

fn names(edges: &[Edge]) -> Vec<(&str, &str)> {
    edges.iter().map(|e| (e.user.as_str(), e.item.as_str())).collect()
}

async fn touched(store: &dyn GraphWrite, t: &Tenant) -> Vec<ItemId> {
    store.touched(t, usize::MAX).await.unwrap().items
}

async fn empty(store: &dyn GraphWrite) {
    let t = tenant("nobody");
    assert_eq!(store.edges_of_users(&t, &users(&["a", "b"]), 9).await.unwrap(), [vec![], vec![]]);
    assert_eq!(store.edges_of_items(&t, &items(&["a"]), 9).await.unwrap(), [vec![]]);
    assert_eq!(store.edges_of_items(&t, &[], 9).await.unwrap(), [] as [Vec<Edge>; 0]);
    assert_eq!(store.neighbours(&t, &items(&["a"]), 9).await.unwrap(), [vec![]]);
    assert_eq!(store.count(&t).await.unwrap(), 0);
    assert!(store.scan(&t).await.unwrap().is_empty());
    assert!(store.touched(&t, 9).await.unwrap().items.is_empty());
    assert_eq!(store.erase(&t, &user("a")).await.unwrap(), 0);
    store.set_edges(&t, &[]).await.unwrap();
    store.set_neighbours(&t, &[], 0).await.unwrap();
    assert!(!store.touched_tenants().await.unwrap().contains(&t));
}

async fn edges(store: &dyn GraphWrite) {
    let t = tenant("edges");
    let first = [
        edge("u", "c", 1.0, 20),
        edge("u", "a", 0.1, 20),
        edge("v", "a", 0.7, 20),
        edge("w", "a", 0.3, 40),
        edge("u", "b", 0.0, 30),
    ];
    store.set_edges(&t, &first).await.unwrap();
    let of_users = store.edges_of_users(&t, &users(&["v", "x", "u"]), 9).await.unwrap();
    assert_eq!(of_users[0], [first[2].clone()], "an edge comes back as it was");
    assert_eq!(of_users[1], []);
    assert_eq!(names(&of_users[2]), [("u", "b"), ("u", "a"), ("u", "c")], "newest first, ties by item; weight 0 is kept");
    let of_items = store.edges_of_items(&t, &items(&["a", "z", "b"]), 9).await.unwrap();
    assert_eq!(names(&of_items[0]), [("w", "a"), ("u", "a"), ("v", "a")], "newest first, ties by user");
    assert_eq!((of_items[1].len(), names(&of_items[2])), (0, vec![("u", "b")]));
    for limit in 0..4 {
        assert_eq!(store.edges_of_users(&t, &users(&["u"]), limit).await.unwrap()[0], of_users[2][..limit]);
        assert_eq!(store.edges_of_items(&t, &items(&["a"]), limit).await.unwrap()[0], of_items[0][..limit]);
    }
    assert_eq!(store.count(&t).await.unwrap(), 5);
    assert_eq!(names(&store.scan(&t).await.unwrap()), [("u", "a"), ("u", "b"), ("u", "c"), ("v", "a"), ("w", "a")]);
    let digest = store.digest().await.unwrap();
    store.set_edges(&t, &first).await.unwrap();
    assert_eq!((store.digest().await.unwrap(), store.count(&t).await.unwrap()), (digest, 5), "setting again changes nothing");
    // An edge is replaced as a whole, and can become older; of two in one call the last stands.
    let changed = [edge("u", "b", 9.0, 99), edge("u", "b", 0.25, 1)];
    store.set_edges(&t, &changed).await.unwrap();
    assert_eq!(store.edges_of_users(&t, &users(&["u"]), 9).await.unwrap()[0][2], changed[1]);
    assert_ne!(store.digest().await.unwrap(), digest);
    store.set_edges(&t, &first[4..]).await.unwrap();
    assert_eq!((store.digest().await.unwrap(), store.count(&t).await.unwrap()), (digest, 5));
}

async fn touching(store: &dyn GraphWrite) {
    let t = tenant("touching");
    store.set_edges(&t, &[edge("u", "a", 1.0, 1), edge("u", "b", 1.0, 1)]).await.unwrap();
    store.set_edges(&t, &[edge("u", "c", 1.0, 1)]).await.unwrap();
    assert!(store.touched_tenants().await.unwrap().contains(&t));
    assert!(store.touched_tenants().await.unwrap().is_sorted());
    let Touched { items: found, upto } = store.touched(&t, 2).await.unwrap();
    assert_eq!(found, items(&["a", "b"]), "oldest first");
    // Set again without a change: not touched anew. With one: touched later than what was read.
    store.set_edges(&t, &[edge("u", "b", 1.0, 1), edge("u", "a", 0.5, 1)]).await.unwrap();
    store.set_neighbours(&t, &[list("a", &[]), list("b", &[("a", 1.0)])], upto).await.unwrap();
    assert_eq!(touched(store, &t).await, items(&["c", "a"]), "marks that were set later stay");
    let Touched { items: found, upto } = store.touched(&t, 9).await.unwrap();
    store.set_neighbours(&t, &[list(found[1].as_str(), &[])], upto).await.unwrap();
    assert_eq!(touched(store, &t).await, items(&["c"]), "only these items' marks are taken back");
    store.set_neighbours(&t, &[list("c", &[])], upto).await.unwrap();
    assert!(!store.touched_tenants().await.unwrap().contains(&t));
    store.set_edges(&t, &[edge("u", "c", 0.25, 1)]).await.unwrap();
    store.set_neighbours(&t, &[list("c", &[])], upto).await.unwrap();
    assert_eq!(touched(store, &t).await, items(&["c"]), "numbers grow even when no mark is left");
}

async fn neighbours(store: &dyn GraphWrite) {
    let t = tenant("neighbours");
    let near = list("i", &[("c", 0.5), ("long ключ \"'", 0.1), ("a", 0.5), ("b", 3.5)]);
    store.set_neighbours(&t, &[near, list("j", &[("i", 1.0)])], 0).await.unwrap();
    let found = store.neighbours(&t, &items(&["j", "k", "i"]), 9).await.unwrap();
    assert_eq!(found[0], list("j", &[("i", 1.0)]).1);
    assert_eq!(found[1], []);
    assert_eq!(found[2], list("i", &[("b", 3.5), ("a", 0.5), ("c", 0.5), ("long ключ \"'", 0.1)]).1, "by weight, ties by id");
    assert_eq!(store.neighbours(&t, &items(&["i"]), 2).await.unwrap()[0], found[2][..2]);
    let digest = store.digest().await.unwrap();
    store.set_neighbours(&t, &[list("j", &[("x", 1.0)])], 0).await.unwrap();
    assert_eq!(
        store.neighbours(&t, &items(&["j"]), 9).await.unwrap()[0],
        list("j", &[("x", 1.0)]).1,
        "a list is replaced whole"
    );
    assert_ne!(store.digest().await.unwrap(), digest);
    store.set_neighbours(&t, &[list("j", &[("i", 1.0)])], 0).await.unwrap();
    assert_eq!(store.digest().await.unwrap(), digest);
    store.set_neighbours(&t, &[list("j", &[])], 0).await.unwrap();
    assert_eq!(store.neighbours(&t, &items(&["j"]), 9).await.unwrap()[0], [], "an empty list removes it");
}

async fn replacing(store: &dyn GraphWrite) {
    let (t, other) = (tenant("replacing"), tenant("replacing not"));
    for t in [&t, &other] {
        store.set_edges(t, &[edge("u", "a", 1.0, 1), edge("u", "b", 1.0, 1)]).await.unwrap();
        store.set_neighbours(t, &[list("a", &[("b", 1.0)])], 0).await.unwrap();
    }
    let upto = store.touched(&t, 0).await.unwrap().upto;
    store.set_edges(&t, &[edge("v", "b", 1.0, 1)]).await.unwrap();
    store.replace_neighbours(&t, &[list("b", &[("a", 2.0)]), list("c", &[])], upto).await.unwrap();
    let found = store.neighbours(&t, &items(&["a", "b", "c"]), 9).await.unwrap();
    assert_eq!(found, [vec![], list("b", &[("a", 2.0)]).1, vec![]], "what is not among the new lists is gone");
    assert_eq!(touched(store, &t).await, items(&["b"]), "all marks up to the number, none later");
    assert_eq!(store.neighbours(&other, &items(&["a"]), 9).await.unwrap(), [list("a", &[("b", 1.0)]).1]);
    assert_eq!(touched(store, &other).await, items(&["a", "b"]));
    store.replace_neighbours(&t, &[], u64::MAX).await.unwrap();
    assert_eq!(store.neighbours(&t, &items(&["b"]), 9).await.unwrap(), [vec![]]);
}

async fn erasing(store: &dyn GraphWrite) {
    let t = tenant("erasing");
    store.set_edges(&t, &[edge("v", "a", 1.0, 1)]).await.unwrap();
    let before = store.digest().await.unwrap();
    store.set_edges(&t, &[edge("u", "a", 1.0, 1), edge("u", "b", 1.0, 1)]).await.unwrap();
    store.set_neighbours(&t, &[list("a", &[]), list("b", &[])], u64::MAX).await.unwrap();
    assert_eq!(store.erase(&t, &user("u")).await.unwrap(), 2);
    assert_eq!(store.digest().await.unwrap(), before);
    assert_eq!((store.count(&t).await.unwrap(), touched(store, &t).await), (1, items(&["a", "b"])));
    assert_eq!(store.edges_of_users(&t, &users(&["u"]), 9).await.unwrap(), [vec![]]);
    assert_eq!(names(&store.edges_of_items(&t, &items(&["a"]), 9).await.unwrap()[0]), [("v", "a")]);
    assert_eq!(store.erase(&t, &user("u")).await.unwrap(), 0);
    store.set_edges(&t, &[edge("u", "b", 1.0, 1)]).await.unwrap();
    assert_eq!(store.count(&t).await.unwrap(), 2);
}

async fn tenants_apart(store: &dyn GraphWrite) {
    let (a, b) = (tenant("apart a"), tenant("apart b"));
    store.set_edges(&a, &[edge("u", "i", 1.0, 1)]).await.unwrap();
    store.set_edges(&b, &[edge("u", "i", 2.0, 2), edge("u", "j", 2.0, 2)]).await.unwrap();
    store.set_neighbours(&b, &[list("i", &[("j", 1.0)])], 0).await.unwrap();
    assert_eq!(store.edges_of_users(&a, &users(&["u"]), 9).await.unwrap()[0], [edge("u", "i", 1.0, 1)]);
    assert_eq!(store.edges_of_items(&a, &items(&["i", "j"]), 9).await.unwrap().concat(), [edge("u", "i", 1.0, 1)]);
    assert_eq!(store.neighbours(&a, &items(&["i"]), 9).await.unwrap(), [vec![]]);
    assert_eq!(store.scan(&b).await.unwrap().len(), 2);
    assert_eq!(store.erase(&a, &user("u")).await.unwrap(), 1);
    assert_eq!((store.count(&a).await.unwrap(), store.count(&b).await.unwrap()), (0, 2));
}

async fn many(store: &dyn GraphWrite) {
    let t = tenant("many");
    let all: Vec<Edge> = (0..1300).map(|n| edge(&format!("u{}", n % 13), &format!("i{}", n / 13), 1.0, i64::from(n))).collect();
    store.set_edges(&t, &all).await.unwrap();
    assert_eq!(store.count(&t).await.unwrap(), 1300);
    let asked: Vec<String> = (0..13).map(|n| format!("u{n}")).collect();
    let asked: Vec<_> = asked.iter().map(|u| user(u)).collect();
    for (n, edges) in store.edges_of_users(&t, &asked, 7).await.unwrap().iter().enumerate() {
        let want: Vec<Edge> = all.iter().rev().filter(|e| e.user == asked[n]).take(7).cloned().collect();
        assert_eq!(*edges, want);
    }
}

/// Two empty graphs get the same edges and lists in other batches and orders: their digests are equal.
pub async fn graph_digests(a: &dyn GraphWrite, b: &dyn GraphWrite) {
    let t = tenant("digests");
    let edges = [edge("u", "a", 1.0, 1), edge("u", "b", 0.1, 2), edge("v", "b", 0.2, 3)];
    a.set_edges(&t, &edges).await.unwrap();
    a.set_neighbours(&t, &[list("a", &[("b", 1.0), ("c", 0.5)]), list("b", &[("a", 1.0)])], u64::MAX).await.unwrap();
    b.set_neighbours(&t, &[list("b", &[("a", 1.0)])], 0).await.unwrap();
    for e in edges.iter().rev() {
        b.set_edges(&t, &[edge(e.user.as_str(), e.item.as_str(), 7.0, 7)]).await.unwrap();
        b.set_edges(&t, std::slice::from_ref(e)).await.unwrap();
    }
    assert_ne!(a.digest().await.unwrap(), b.digest().await.unwrap());
    b.set_neighbours(&t, &[list("a", &[("c", 0.5), ("b", 1.0)])], 0).await.unwrap();
    assert_eq!(a.digest().await.unwrap(), b.digest().await.unwrap());
}

/// What was acknowledged is there when the graph is opened again.
pub async fn graph_reopened<S: GraphWrite>(open: impl AsyncFn() -> S) {
    let t = tenant("reopened");
    let store = open().await;
    store.set_edges(&t, &[edge("u", "a", 1.0, 1)]).await.unwrap();
    store.set_neighbours(&t, &[list("a", &[("b", 1.0)])], 0).await.unwrap();
    let (digest, marks) = (store.digest().await.unwrap(), store.touched(&t, 9).await.unwrap());
    drop(store);
    let store = open().await;
    assert_eq!((store.digest().await.unwrap(), store.touched(&t, 9).await.unwrap()), (digest, marks));
}
