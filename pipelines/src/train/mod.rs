//! Training: weights between items and a blend of all sources, learned from a tenant's own history, and taken into service only where
//! people's later choices show that they are better.
//!
//! Everything here is a function of the history alone: the same facts give the same artefact, bit for bit, on the same kind of machine.

mod blend;
mod bootstrap;
mod compute;
mod config;
mod diversity;
mod fit;
mod job;
mod next;
mod slices;
mod sources;
mod watch;
mod world;

pub use bootstrap::{Difference, compare, interval};
pub use compute::{Figures, Rules, SourceFigure, Verdict};
pub use config::TrainConfig;
pub use job::{Report, Trainer};
