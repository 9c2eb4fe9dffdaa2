//! A model that is told vectors it would make: those that come along with an export are not made again, and stay the same to the bit.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Vector,
    ports::{Embedder, ModelInfo, Priority},
};

/// Texts that are remembered: more than an import has under way.
const MOST: usize = 24 * 1024;

#[derive(Default)]
struct Held {
    vectors: HashMap<Arc<str>, Vector>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
}

/// See the module.
pub struct Known {
    inner: Arc<dyn Embedder>,
    held: Mutex<Held>,
    spared: AtomicU64,
}

impl Known {
    /// Before a model.
    pub fn new(inner: Arc<dyn Embedder>) -> Self {
        Self { inner, held: Mutex::default(), spared: AtomicU64::new(0) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of which revision vectors must be.
    pub fn revision(&self) -> &str {
        &self.inner.model().revision
    }

    /// How many texts were asked for that need not be embedded.
    pub fn spared(&self) -> u64 {
        self.spared.load(Ordering::Relaxed)
    }

    /// Tells the vector of a text. One of another length than the model's is passed over.
    pub fn put(&self, text: Arc<str>, vector: Vector) {
        if vector.len() != self.inner.model().dimension {
            return;
        }
        let mut held = self.held();
        if held.vectors.insert(text.clone(), vector).is_none() {
            held.order.push_back(text);
        }
        while held.order.len() > MOST {
            if let Some(oldest) = held.order.pop_front() {
                held.vectors.remove(&oldest);
            }
        }
    }
}

#[async_trait]
impl Embedder for Known {
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>> {
        let mut found: Vec<Option<Vector>> = {
            let held = self.held();
            texts.iter().map(|t| held.vectors.get(t).cloned()).collect()
        };
        let missing: Vec<Arc<str>> = texts.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(t, _)| t.clone()).collect();
        self.spared.fetch_add((texts.len() - missing.len()) as u64, Ordering::Relaxed);
        if !missing.is_empty() {
            let mut made = self.inner.embed(&missing, priority).await?.into_iter();
            found.iter_mut().filter(|f| f.is_none()).for_each(|f| *f = made.next());
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn model(&self) -> &ModelInfo {
        self.inner.model()
    }
}
