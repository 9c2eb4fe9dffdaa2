//! Work that goes on when its request no longer waits: a late answer of a store warms the memory for the next request.
//!
//! Bounded in number and in time, so that a store that never answers leaves nothing behind.

use std::{sync::Arc, task::Poll, time::Duration};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::recommend::budget::by;

/// Calls that may go on at once.
const MOST: usize = 512;
/// How long one may go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub struct Late {
    tasks: TaskTracker,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    _ends_tasks: DropGuard,
}

impl Late {
    /// Nothing goes on yet.
    pub fn new() -> Self {
        let stop = CancellationToken::new();
        Self { tasks: TaskTracker::new(), room: Arc::new(Semaphore::new(MOST)), _ends_tasks: stop.clone().drop_guard(), stop }
    }

    /// How many calls go on.
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Begins work that nobody waits for, if there is room.
    pub fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(place) = self.room.clone().try_acquire_owned() {
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = timeout(2 * PATIENCE, work) => {}
                }
            });
        }
    }

    /// The result, if it is there by `deadline`; the work goes on either way. What is there at once costs no task.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        what: &'static str,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let late = || StoreError::new(ErrorKind::Timeout, what, "no answer within the request's budget");
        let mut work = Box::pin(work);
        if let Poll::Ready(done) = futures_util::poll!(work.as_mut()) {
            return done;
        }
        let Ok(place) = self.room.clone().try_acquire_owned() else { return by(deadline, what, work).await };
        let stop = self.stop.clone();
        let task = self.tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => Err(StoreError::new(ErrorKind::Unavailable, what, "the program is about to stop")),
                done = timeout(PATIENCE, work) => {
                    done.unwrap_or_else(|_| Err(StoreError::new(ErrorKind::Timeout, what, "no answer, even late")))
                }
            }
        });
        match timeout_at(deadline, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(StoreError::new(ErrorKind::Unavailable, what, "the call did not end")),
            Err(_) => Err(late()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn late_work_ends_and_its_number_is_bounded() {
        let late = Late::new();
        let soon = || Instant::now() + Duration::from_millis(10);
        assert_eq!(late.run(soon(), "graph", async { Ok(1) }).await.unwrap(), 1);
        let seen = Arc::new(AtomicBool::new(false));
        let mark = seen.clone();
        let slow = async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            mark.store(true, Ordering::Relaxed);
            Ok(2)
        };
        assert_eq!(late.run(soon(), "graph", slow).await.unwrap_err().kind, ErrorKind::Timeout);
        assert_eq!((late.under_way(), seen.load(Ordering::Relaxed)), (1, false));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!((late.under_way(), seen.load(Ordering::Relaxed)), (0, true));
        let asks = (0..2 * MOST).map(|_| late.run(soon(), "graph", std::future::pending::<StoreResult<()>>()));
        let answers = futures_util::future::join_all(asks).await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!(late.under_way(), MOST);
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(late.under_way(), 0);
    }
}
