//! What every ledger must do.

mod appending;
mod reading;

use super::events::{Maker, at, user, with_vector};
use crate::ports::{Appended::Duplicate, History, HistoryLimit, LedgerWrite};

const R: &str = "model@1";
const ALL: HistoryLimit = HistoryLimit { engagements: usize::MAX, messages: usize::MAX };

/// Everything that one empty ledger can show. Each part has a tenant of its own.
pub async fn ledger(store: &dyn LedgerWrite) {
    reading::empty(store).await;
    appending::appending(store).await;
    reading::histories(store).await;
    reading::values_to_the_bit(store).await;
    reading::ties_and_limits(store).await;
    reading::pairs_and_engaged(store).await;
    appending::item_versions(store).await;
    appending::item_vectors_and_marks(store).await;
    appending::message_vectors(store).await;
    reading::vectors_follow_their_items(store).await;
    reading::newest_and_catalogue(store).await;
    reading::user_pages(store).await;
    appending::erasing(store).await;
    appending::erasing_within_a_batch(store).await;
    appending::tenants_apart(store).await;
    appending::written_beside(store).await;
    appending::newcomers(store).await;
    reading::odd_names(store).await;
    reading::many(store).await;
}

async fn history(store: &dyn LedgerWrite, m: &Maker, who: &str) -> History {
    store.histories(&m.0, &[user(who)], ALL, Some(R)).await.unwrap().remove(0)
}

fn ids(history: &History) -> Vec<&str> {
    history.engagements.iter().map(|e| e.id.as_str()).collect()
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
