//! Once its working memory has grown, the forward allocates nothing.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use nearcast_embed::{
    bert::{BertConfig, CpuBert, Forward},
    kernels::Level,
    registry::Pooling,
};
use support::minilm;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to the system's allocator and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn no_allocation_in_the_steady_state() {
    let Some(local) = minilm() else { return };
    let config = BertConfig::read(&local.dir.join("config.json")).unwrap();
    for &level in Level::available() {
        let model = CpuBert::load(&local.dir.join("model.safetensors"), config.clone(), Pooling::Mean, level).unwrap();
        let mut forward = Forward::new(Arc::new(model));
        let mut out = Vec::new();
        let long = [7_u32; 100];
        let batches: [&[&[u32]]; 3] = [&[&long, &long[..30]], &[&long[..5]], &[&long[..60], &long[..60], &long[..10]]];
        batches.iter().for_each(|b| forward.run(b, &mut out).unwrap());
        let before = ALLOCATIONS.get();
        batches.iter().for_each(|b| forward.run(b, &mut out).unwrap());
        assert_eq!(ALLOCATIONS.get() - before, 0, "{}", level.name());
    }
}
