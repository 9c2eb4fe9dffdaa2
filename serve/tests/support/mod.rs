//! A small world in memory behind every port, in which each store can be made to fail: for tests of serving that are about
//! what happens when a store is away.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::unimplemented)]

mod calls;
mod ports;
mod world;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nearcast_domain::{
    ErrorKind, StoreError, StoreResult,
    ports::{NoArtefacts, Unguarded},
    testing::embedder::WordEmbedder,
};
use nearcast_serve::{Memory, Stores};

#[allow(unused_imports, reason = "each test uses a part")]
pub use calls::{Answered, Caller};
#[allow(unused_imports, reason = "each test uses a part")]
pub use world::{World, item};

/// The stores that can fail, by name.
pub const STORES: [&str; 7] = ["ledger", "vectors", "graph", "engagement", "cache", "embedder", "log"];

/// How a store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// At once, with a text that must never reach a caller.
    Error,
    /// Never answers.
    Hang,
    /// Answers late.
    Slow(Duration),
    /// Fails after a while.
    After(Duration, ErrorKind),
}

/// What a failing store says: must not be seen outside.
pub const SECRET: &str = "postgres://admin:hunter2@10.0.0.7/prod refused";

/// The fakes behind all ports.
pub struct Fakes {
    pub world: Mutex<World>,
    faults: Mutex<HashMap<&'static str, Fault>>,
    embedder: WordEmbedder,
}

impl Fakes {
    pub fn new(world: World) -> Arc<Self> {
        Arc::new(Self { world: Mutex::new(world), faults: Mutex::default(), embedder: WordEmbedder::new(world::DIMENSION) })
    }

    /// Makes a store fail from now on.
    pub fn break_store(&self, store: &'static str, fault: Fault) {
        self.faults.lock().unwrap().insert(store, fault);
    }

    /// Makes all stores well again.
    pub fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// What every call to a store goes through.
    async fn call<T>(&self, store: &'static str, answer: impl FnOnce(&mut World) -> StoreResult<T>) -> StoreResult<T> {
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).get(store).copied();
        match fault {
            Some(Fault::Error) => return Err(StoreError::new(ErrorKind::Unavailable, store, SECRET)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::After(time, kind)) => {
                tokio::time::sleep(time).await;
                return Err(StoreError::new(kind, store, SECRET));
            }
            None => tokio::task::yield_now().await,
        }
        answer(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All ports of it.
    pub fn stores(self: &Arc<Self>, memory: Memory) -> Stores {
        Stores {
            ledger: self.clone(),
            vectors: self.clone(),
            graph: self.clone(),
            engagement: self.clone(),
            cache: self.clone(),
            embedder: self.clone(),
            sink: self.clone(),
            progress: self.clone(),
            dead_letters: self.clone(),
            artefacts: Arc::new(NoArtefacts),
            memory: Arc::new(memory),
            states: Arc::new(Unguarded),
        }
    }
}
