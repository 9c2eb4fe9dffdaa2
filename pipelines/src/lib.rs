//! Batch jobs over the ports: item neighbours, the half-life of trending, evaluation, digests.
//!
//! Every job reads and writes through ports, runs beside live traffic, may be stopped at any moment, and gives the same
//! result for the same facts.

pub mod aggregate;
pub mod evaluate;
pub mod import;
pub mod neighbours;
pub mod reconcile;
pub mod reembed;
pub mod schedule;
pub mod train;
pub mod transfer;
pub mod trending;
pub mod upkeep;
pub mod verify;

pub use train::{TrainConfig, Trainer};
pub use upkeep::{Upkeep, UpkeepConfig, UpkeepReport};
