//! How good recommendations are, measured on what people really chose next.

mod figures;
mod holdout;

pub use figures::{Figures, Judge, Shelf};
pub use holdout::{Holdout, HoldoutError, read_holdout};
