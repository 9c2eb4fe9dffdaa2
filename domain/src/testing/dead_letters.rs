//! What every store of dead letters must do.

use super::events::{at, tenant, user};
use crate::{
    ErrorKind,
    ports::{DeadLetter, DeadLetterFilter, DeadLetters},
};

fn letter(id: &str, who: Option<&str>, reason: &str, seconds: i64) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        tenant: tenant("t"),
        user: who.map(user),
        reason: reason.into(),
        origin: format!("file:{id}"),
        bytes: b"\xff\x00 not \"JSON\n".as_slice().into(),
        key: None,
        at: at(seconds),
    }
}

/// Everything that one empty store can show.
pub async fn dead_letters(store: &dyn DeadLetters) {
    let filter = DeadLetterFilter { limit: 99, ..DeadLetterFilter::default() };
    let list = async |filter: &DeadLetterFilter| -> Vec<String> {
        store.list(filter).await.unwrap().into_iter().map(|l| l.id).collect()
    };
    assert_eq!((store.count().await.unwrap(), list(&filter).await.len()), (0, 0));
    assert_eq!(store.get("a").await.unwrap(), None);
    store.put(&[]).await.unwrap();
    let all = [
        letter("c", Some("u"), "is not JSON", 10),
        letter("a", None, "has no user", 20),
        letter("b", Some("v"), "is 100% not JSON", 20),
        letter("d", Some("u"), "text is empty", 5),
    ];
    store.put(&all).await.unwrap();
    store.put(&all).await.unwrap();
    store.put(&[DeadLetter { reason: "another".into(), ..all[0].clone() }]).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 4, "the same failure told twice is one letter");
    assert_eq!(store.get("c").await.unwrap(), Some(all[0].clone()), "a letter stays as it is, to the byte");
    assert_eq!(list(&filter).await, ["d", "c", "a", "b"], "by time and id");
    assert_eq!(list(&DeadLetterFilter { limit: 2, ..filter.clone() }).await, ["d", "c"]);
    assert_eq!(list(&DeadLetterFilter { limit: 0, ..filter.clone() }).await, [] as [&str; 0]);
    assert_eq!(list(&DeadLetterFilter { after: Some("c".into()), ..filter.clone() }).await, ["a", "b"]);
    assert_eq!(list(&DeadLetterFilter { after: Some("a".into()), ..filter.clone() }).await, ["b"]);
    let unknown = store.list(&DeadLetterFilter { after: Some("x".into()), ..filter.clone() }).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::Invalid);
    assert_eq!(list(&DeadLetterFilter { reason: Some("not JSON".into()), ..filter.clone() }).await, ["c", "b"]);
    assert_eq!(list(&DeadLetterFilter { reason: Some("%".into()), ..filter.clone() }).await, ["b"], "no character is special");
    assert_eq!(list(&DeadLetterFilter { since: Some(at(20)), ..filter.clone() }).await, ["a", "b"]);
    store.remove(&["a".into(), "never there".into()]).await.unwrap();
    assert_eq!(list(&filter).await, ["d", "c", "b"]);
    assert_eq!(store.erase(&tenant("other"), &user("u")).await.unwrap(), 0);
    assert_eq!(store.erase(&tenant("t"), &user("u")).await.unwrap(), 2);
    assert_eq!((list(&filter).await, store.count().await.unwrap()), (vec!["b".to_owned()], 1));
    let many: Vec<_> = (0..300).map(|n| letter(&format!("n{n:03}"), None, "many", 100)).collect();
    store.put(&many).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 301);
    assert_eq!(store.list(&DeadLetterFilter { limit: 1000, ..filter }).await.unwrap()[1..], many);
}
