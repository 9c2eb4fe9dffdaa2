//! What every keeper of artefacts must do.

use crate::{
    Tenant, Timestamp,
    ports::{Artefacts, NewArtefact},
};

fn artefact(n: u8, length: usize) -> NewArtefact {
    let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8 ^ n).collect();
    NewArtefact {
        created: Timestamp::from_millis(1_000 + i64::from(n)),
        digest: format!("{n:064x}"),
        figures: serde_json::json!({ "ndcg": 0.25, "n": n, "of": { "graph": [0.5, 1e-3] } }),
        body,
    }
}

/// Everything that one can show.
pub async fn artefacts(store: &dyn Artefacts) {
    let (a, b) = (Tenant::parse(&super::servers::unique("a")).unwrap(), Tenant::parse(&super::servers::unique("b")).unwrap());
    assert!(store.list(&a).await.unwrap().is_empty());
    assert_eq!(store.body(&a, 1).await.unwrap(), None);
    assert!(!store.switch(&a, Some(1)).await.unwrap(), "there is no such version");
    assert!(store.switch(&a, None).await.unwrap());
    // Longer than a row of some stores may be.
    let (one, two, other) = (artefact(1, 5_000_000), artefact(2, 0), artefact(3, 17));
    assert_eq!(store.put(&a, &one).await.unwrap(), 1);
    assert_eq!(store.put(&a, &two).await.unwrap(), 2);
    assert_eq!(store.put(&b, &other).await.unwrap(), 1, "each tenant counts by itself");
    assert!(store.body(&a, 1).await.unwrap().as_ref() == Some(&one.body), "bytes come back as they were");
    assert_eq!(store.body(&a, 2).await.unwrap(), Some(Vec::new()));
    let listed = store.list(&a).await.unwrap();
    assert_eq!(listed.iter().map(|i| (i.version, i.in_service)).collect::<Vec<_>>(), [(2, false), (1, false)]);
    assert_eq!((&listed[1].digest, &listed[1].figures, listed[1].created), (&one.digest, &one.figures, one.created));
    let in_service = async || -> Vec<u64> {
        store.in_service().await.unwrap().into_iter().filter(|(t, _)| *t == a).map(|(_, v)| v).collect()
    };
    assert!(in_service().await.is_empty());
    assert!(store.switch(&a, Some(2)).await.unwrap());
    assert_eq!(in_service().await, [2]);
    assert!(store.switch(&a, Some(1)).await.unwrap(), "back to an older one");
    assert!(!store.switch(&a, Some(9)).await.unwrap());
    assert_eq!(in_service().await, [1]);
    assert!(store.list(&a).await.unwrap()[1].in_service);
    store.remove(&a, 1).await.unwrap();
    assert!(store.body(&a, 1).await.unwrap().is_some(), "what is in service stays");
    store.remove(&a, 2).await.unwrap();
    store.remove(&a, 2).await.unwrap();
    assert_eq!(store.body(&a, 2).await.unwrap(), None);
    assert_eq!(store.put(&a, &two).await.unwrap(), 3, "a number is never used again");
    assert!(store.switch(&a, None).await.unwrap());
    assert!(in_service().await.is_empty());
    for (tenant, version) in [(&a, 1), (&a, 3), (&b, 1)] {
        store.remove(tenant, version).await.unwrap();
    }
    assert!(store.list(&a).await.unwrap().is_empty() && store.list(&b).await.unwrap().is_empty());
}

/// Survives a new start.
pub async fn artefacts_reopened<S: Artefacts>(open: impl AsyncFn() -> S) {
    let tenant = Tenant::parse(&super::servers::unique("a")).unwrap();
    {
        let store = open().await;
        store.put(&tenant, &artefact(1, 10)).await.unwrap();
        store.put(&tenant, &artefact(2, 10)).await.unwrap();
        store.switch(&tenant, Some(1)).await.unwrap();
        store.remove(&tenant, 2).await.unwrap();
    }
    let store = open().await;
    let listed = store.list(&tenant).await.unwrap();
    assert_eq!(listed.iter().map(|i| (i.version, i.in_service)).collect::<Vec<_>>(), [(1, true)]);
    assert_eq!(store.put(&tenant, &artefact(2, 10)).await.unwrap(), 3);
    store.switch(&tenant, None).await.unwrap();
    store.remove(&tenant, 1).await.unwrap();
    store.remove(&tenant, 3).await.unwrap();
}
