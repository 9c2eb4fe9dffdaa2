//! One computation for all who ask the same at once: the first computes, the others wait for its bytes. What was made while a store
//! could not follow is given for a moment longer, so that asking again does not make it slower still.
//!
//! Nobody waits past their own deadline, nor for one who went away.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use foldhash::fast::RandomState;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// So many answers are kept at once; of more, the oldest go.
const MOST_KEPT: usize = 4_096;

/// Computations under way, by key.
#[derive(Default)]
pub struct Flights(Mutex<Board>);

#[derive(Default)]
struct Board {
    flights: HashMap<String, Flight, RandomState>,
    /// Those whose answers are kept, by their ends: all are kept equally long.
    kept: VecDeque<(Instant, String)>,
}

struct Flight {
    answer: watch::Receiver<Option<Bytes>>,
    /// Until when its answer is kept, once it was made.
    until: Option<Instant>,
}

impl Board {
    /// Takes out what was kept long enough.
    fn sweep(&mut self, now: Instant, most: usize) {
        while self.kept.front().is_some_and(|(until, _)| *until <= now) || self.kept.len() > most {
            let Some((until, key)) = self.kept.pop_front() else { return };
            if self.flights.get(&key).is_some_and(|f| f.until == Some(until)) {
                self.flights.remove(&key);
            }
        }
    }
}

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
    /// Until when the answer is given, once it was told.
    keep: Option<Instant>,
}

impl Flights {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes, or waits until `deadline` for who does.
    pub async fn join(&self, key: &str, deadline: Instant) -> Turn<'_> {
        let mut other = {
            let mut board = self.board();
            board.sweep(Instant::now(), MOST_KEPT);
            match board.flights.get(key) {
                Some(flight) => flight.answer.clone(),
                None => {
                    let (tell, answer) = watch::channel(None);
                    board.flights.insert(key.to_owned(), Flight { answer, until: None });
                    return Turn::Mine(Leader { flights: self, key: key.to_owned(), tell, keep: None });
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
        self.board().flights.values().filter(|f| f.until.is_none()).count()
    }
}

impl Leader<'_> {
    /// Hands the bytes to everyone who waits.
    pub fn tell(self, bytes: Bytes) {
        self.tell.send_replace(Some(bytes));
    }

    /// The same, and to everyone who asks within this time.
    pub fn tell_for(mut self, bytes: Bytes, time: Duration) {
        self.keep = Some(Instant::now() + time);
        self.tell.send_replace(Some(bytes));
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let mut board = self.flights.board();
        match self.keep {
            Some(until) => {
                if let Some(flight) = board.flights.get_mut(&self.key) {
                    flight.until = Some(until);
                }
                board.kept.push_back((until, std::mem::take(&mut self.key)));
                board.sweep(Instant::now(), MOST_KEPT);
            }
            None => drop(board.flights.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_given_until_its_end() {
        let f = Flights::default();
        let now = Instant::now;
        let Turn::Mine(leader) = f.join("k", now()).await else { panic!("the first computes") };
        leader.tell_for(Bytes::from_static(b"made"), Duration::from_millis(100));
        assert_eq!(f.under_way(), 0);
        tokio::time::sleep(Duration::from_millis(99)).await;
        let Turn::Theirs(bytes) = f.join("k", now()).await else { panic!("kept") };
        assert_eq!(&*bytes, b"made");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Turn::Mine(_again) = f.join("k", now()).await else { panic!("over") };
        for n in 0..=MOST_KEPT {
            let Turn::Mine(leader) = f.join(&n.to_string(), now()).await else { panic!("another key") };
            leader.tell_for(Bytes::new(), Duration::from_secs(1));
        }
        let kept = f.board().kept.len();
        assert_eq!((kept, f.under_way()), (MOST_KEPT, 1));
        let Turn::Mine(_first) = f.join("0", now()).await else { panic!("the oldest goes") };
        let Turn::Theirs(_) = f.join("1", now()).await else { panic!("the others stay") };
    }

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
