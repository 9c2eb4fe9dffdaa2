//! Guards around any port: a deadline, a breaker, a bulkhead, a second attempt at slow reads, and figures.
//!
//! A decorator ([`Guarded`]) implements the port that it wraps, so that no caller sees one. A guarded call ends within its
//! deadline whatever the store does; a store that fails or crawls is left alone for a while and then tried with a few
//! calls. A guard never repeats a write, and never looks into what a call asks or answers.

mod breaker;
mod bulkhead;
mod config;
mod core;
mod figures;
mod hedge;
mod ports;
mod replicas;
mod states;
mod window;

pub use self::{
    config::{BreakerPolicy, GuardConfig, HedgePolicy, StoreLimits},
    core::{Guard, Op},
    replicas::{
        Guarded, GuardedCache, GuardedDeadLetters, GuardedEmbedder, GuardedEngagement, GuardedGraph, GuardedLedger,
        GuardedProgress, GuardedSink, GuardedVectors,
    },
    states::GuardStates,
};
