//! Item neighbours: for each item, the items that the same people engaged with, normalised.

mod kernel;
mod matrix;

pub use kernel::{NeighbourRule, all_lists};
pub use matrix::{Fan, Matrix};
