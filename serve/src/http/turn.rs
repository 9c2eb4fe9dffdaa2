//! Another model while requests come in: each request is answered by one recommender from its beginning to its end, and with it by one
//! embedder, one revision of the index, and answers that were cached under that revision.
//!
//! The next recommender is warm before it answers. It never mixes: vectors are read in a revision that is named, not in whichever is
//! current.

use std::sync::{Arc, PoisonError, RwLock};

use nearcast_domain::ports::{Embedder, VectorRead};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{Memory, Recommender, Stores};

/// What a turn brings.
#[derive(Clone)]
pub struct Turn {
    /// Texts of requests to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// The index, read in that model's revision.
    pub vectors: Arc<dyn VectorRead>,
    /// What this process remembers: another where what was found in the index is judged by age alone.
    pub memory: Arc<Memory>,
    /// Told when requests are answered with it.
    pub done: Arc<Notify>,
}

/// Who answers.
pub(super) struct Live(RwLock<Arc<Recommender>>);

impl Live {
    pub(super) fn new(recommender: Arc<Recommender>) -> Self {
        Self(RwLock::new(recommender))
    }

    pub(super) fn now(&self) -> Arc<Recommender> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps whoever answers warm, and lets the next one answer with each turn, until `stop`.
    pub(super) async fn keep(&self, mut turns: watch::Receiver<Option<Turn>>, stop: CancellationToken) {
        loop {
            let until = stop.child_token();
            let recommender = self.now();
            let warming = recommender.keep_warm(until.clone());
            let turned = async {
                tokio::select! {
                    // Without a sender there are no turns.
                    turn = turns.changed() => if turn.is_err() { until.cancelled().await },
                    () = until.cancelled() => {}
                }
                until.cancel();
            };
            tokio::join!(warming, turned);
            if stop.is_cancelled() {
                return;
            }
            let turn = turns.borrow_and_update().clone();
            if let Some(turn) = turn {
                self.turn(&recommender, turn).await;
            }
        }
    }

    async fn turn(&self, before: &Recommender, turn: Turn) {
        let stores = Stores { embedder: turn.embedder, vectors: turn.vectors, memory: turn.memory, ..before.stores.clone() };
        match before.with(stores) {
            Ok(next) => {
                next.warm().await;
                *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
                turn.done.notify_one();
            }
            Err(e) => tracing::error!(error = %e, "answers go on with the model before"),
        }
    }
}
