//! What every keeper of leases must do.

use std::time::Duration;

use crate::ports::Leases;

/// Everything that one can show.
pub async fn leases(store: &dyn Leases) {
    let long = Duration::from_secs(60);
    let name = super::servers::unique("lease");
    assert!(store.acquire(&name, "a", long).await.unwrap());
    assert!(store.acquire(&name, "a", long).await.unwrap(), "its holder renews it");
    assert!(!store.acquire(&name, "b", long).await.unwrap(), "nobody else has it meanwhile");
    assert!(store.acquire(&format!("{name}2"), "b", long).await.unwrap(), "another name is another lease");
    store.release(&name, "b").await.unwrap();
    assert!(!store.acquire(&name, "b", long).await.unwrap(), "only its holder gives it back");
    store.release(&name, "a").await.unwrap();
    assert!(store.acquire(&name, "b", Duration::from_millis(1)).await.unwrap());
    std::thread::sleep(Duration::from_millis(50));
    assert!(store.acquire(&name, "c", long).await.unwrap(), "one that was not renewed ends");
    assert!(!store.acquire(&name, "b", long).await.unwrap());
    store.release(&name, "c").await.unwrap();
    store.release(&format!("{name}2"), "b").await.unwrap();
}
