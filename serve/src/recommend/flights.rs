//! One computation for all who ask the same at once: the first computes, the others wait for its bytes.
//!
//! Nobody waits past their own deadline, nor for one who went away.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use axum::body::Bytes;
use foldhash::fast::RandomState;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Computations under way, by key.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<String, watch::Receiver<Option<Bytes>>, RandomState>>);

/// What a caller is.
pub enum Turn<'a> {
    /// The first: computes, and tells the others.
    Mine(Leader<'a>),
    /// What the first made.
    Theirs(Bytes),
    /// The first went away or took too long.
    Alone,
}

/// Tells the others; their wait ends also when it is dropped.
pub struct Leader<'a> {
    flights: &'a Flights,
    key: String,
    tell: watch::Sender<Option<Bytes>>,
}

impl Flights {
    /// Computes, or waits until `deadline` for who does.
    pub async fn join(&self, key: &str, deadline: Instant) -> Turn<'_> {
        let mut other = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(key) {
                Some(other) => other.clone(),
                None => {
                    let (tell, other) = watch::channel(None);
                    flights.insert(key.to_owned(), other);
                    return Turn::Mine(Leader { flights: self, key: key.to_owned(), tell });
                }
            }
        };
        let made = timeout_at(deadline, other.wait_for(Option::is_some)).await;
        match made {
            Ok(Ok(bytes)) => bytes.clone().map_or(Turn::Alone, Turn::Theirs),
            _ => Turn::Alone,
        }
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Leader<'_> {
    /// Hands the bytes to everyone who waits.
    pub fn tell(self, bytes: Bytes) {
        self.tell.send_replace(Some(bytes));
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_computes_and_nobody_waits_for_ever() {
        let f = Flights::default();
        let soon = || Instant::now() + Duration::from_millis(50);
        let Turn::Mine(leader) = f.join("k", soon()).await else { panic!("the first computes") };
        let Turn::Mine(_other) = f.join("l", soon()).await else { panic!("another key") };
        let waits = f.join("k", soon());
        let tells = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            leader.tell(Bytes::from_static(b"made"));
        };
        let (theirs, ()) = tokio::join!(waits, tells);
        assert!(matches!(theirs, Turn::Theirs(b) if &*b == b"made"));
        let Turn::Mine(gone) = f.join("k", soon()).await else { panic!("nobody computes any more") };
        let (alone, ()) = tokio::join!(f.join("k", soon()), async { drop(gone) });
        assert!(matches!(alone, Turn::Alone));
        let Turn::Mine(_slow) = f.join("k", soon()).await else { panic!() };
        assert!(matches!(f.join("k", soon()).await, Turn::Alone));
        assert_eq!(f.under_way(), 2);
    }
}
