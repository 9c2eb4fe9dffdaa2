//! What a guard costs a call to a store that answers at once: nanoseconds and allocations, beside the bare call.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nearcast_domain::{Tenant, UserId, ports::ResponseCache};
use nearcast_stores::{
    cache::MokaCache,
    guard::{Guard, GuardConfig, GuardStates, Guarded, HedgePolicy},
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const CALLS: u32 = 200_000;

async fn measure(what: &str, cache: &dyn ResponseCache) {
    let (tenant, user) = (Tenant::default(), UserId::trusted("u1"));
    let mut best = (Duration::MAX, 0);
    for _ in 0..9 {
        let (begun, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
        for _ in 0..CALLS {
            cache.epoch(&tenant, &user).await.unwrap();
        }
        best = best.min((begun.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - before));
    }
    let (took, allocations) = best;
    let each = took.as_nanos() as f64 / f64::from(CALLS);
    println!("{what}: {each:.0} ns a call, {:.2} allocations", allocations as f64 / f64::from(CALLS));
}

#[tokio::main]
async fn main() {
    let bare: Arc<dyn ResponseCache> = Arc::new(MokaCache::default());
    let states = GuardStates::new();
    let guarded = Guarded::new(bare.clone(), Guard::new("cache", "", &GuardConfig::default(), &states));
    let plain = GuardConfig { hedge: HedgePolicy { share: 0.0, ..HedgePolicy::default() }, ..GuardConfig::default() };
    let unhedged = Guarded::new(bare.clone(), Guard::new("cache", "", &plain, &states));
    measure("bare", &*bare).await;
    measure("guarded", &unhedged).await;
    measure("guarded, reads hedged", &guarded).await;
}
