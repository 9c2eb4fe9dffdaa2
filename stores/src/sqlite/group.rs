//! Group commit: calls that come while a transaction is being written share the next one.
//!
//! No task stands behind it: whoever gets the writer first carries out everything that waits. Should that caller be dropped
//! halfway, the others hand their requests in again; what they ask for must bear being done twice.

use std::sync::{Arc, Mutex, PoisonError};

use nearcast_domain::{StoreError, StoreResult};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use super::Database;

/// What is done for many callers at once.
pub(crate) trait Together: Sync {
    /// What one caller asks for.
    type Request: Send + Sync;
    /// What it gets.
    type Answer: Send;

    /// Does all requests in one transaction and answers each, in order.
    fn run(
        &self,
        writer: &mut SqliteConnection,
        requests: &[Arc<Self::Request>],
    ) -> impl Future<Output = StoreResult<Vec<Self::Answer>>> + Send;
}

struct Waiting<T: Together> {
    request: Arc<T::Request>,
    answer: oneshot::Sender<StoreResult<T::Answer>>,
}

/// Requests that wait for the writer of one file.
pub(crate) struct GroupCommit<T: Together> {
    waiting: Mutex<Vec<Waiting<T>>>,
}

impl<T: Together> Default for GroupCommit<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }
}

impl<T: Together> GroupCommit<T> {
    /// Has a request carried out, alone or with others.
    pub async fn submit(&self, database: &Database, how: &T, request: T::Request) -> StoreResult<T::Answer> {
        let request = Arc::new(request);
        loop {
            let mut answered = self.hand_in(request.clone());
            let mut writer = tokio::select! {
                biased;
                answer = &mut answered => match answer {
                    Ok(answer) => return answer,
                    Err(_) => continue,
                },
                writer = database.writer() => writer,
            };
            match answered.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            // What nobody waits for any more is not begun.
            let mut group = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            group.retain(|w| !w.answer.is_closed());
            let requests: Vec<_> = group.iter().map(|w| w.request.clone()).collect();
            match how.run(&mut writer, &requests).await {
                Ok(answers) => group.into_iter().zip(answers).for_each(|(w, a)| drop(w.answer.send(Ok(a)))),
                Err(e) => group.into_iter().for_each(|w| drop(w.answer.send(Err(StoreError::clone(&e))))),
            }
            drop(writer);
            if let Ok(answer) = answered.await {
                return answer;
            }
        }
    }

    fn hand_in(&self, request: Arc<T::Request>) -> oneshot::Receiver<StoreResult<T::Answer>> {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { request, answer });
        answered
    }
}
