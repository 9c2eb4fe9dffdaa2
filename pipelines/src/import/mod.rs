//! What others wrote, as events: exports of this program, MovieLens, Stack Exchange dumps, Gorse's dumps.
//!
//! Readers run on a thread of their own and give records in a fixed order, so that an import that was stopped goes on where it was, and
//! one that is repeated tells the same events again. Ids are the origin's own where it has some, and follow from the content elsewhere. A
//! line that is no fact becomes a dead letter that names file and line; a file that is damaged as a whole ends the import with both.

mod gorse;
mod gorse_dump;
mod html;
mod input;
mod known;
mod lined;
mod movielens;
mod sink;
mod source;
mod stack_exchange;

pub use input::{Input, Kind};
pub use known::Known;
pub use sink::{Fed, Sink};
pub use source::ReaderSource;

use std::path::Path;

use crate::transfer::TransferError;

/// Why reading ends early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something is wrong with a file as a whole: `file:line: what`.
    #[error("{0}")]
    Damaged(String),
    /// An export is not whole.
    #[error(transparent)]
    Export(#[from] TransferError),
    /// Nobody wants more.
    #[error("stopped")]
    Stopped,
}

impl ReadError {
    pub(crate) fn at(path: &Path, line: u64, what: impl std::fmt::Display) -> Self {
        match line {
            0 => Self::Damaged(format!("{}: {what}", path.display())),
            _ => Self::Damaged(format!("{}:{line}: {what}", path.display())),
        }
    }
}

/// Reads an input from its beginning to its end.
pub(crate) fn read(input: &Input, sink: &mut Sink) -> Result<(), ReadError> {
    match input.kind {
        Kind::Export => crate::transfer::feed(&input.path, sink),
        Kind::MovieLens => movielens::read(&input.files, sink),
        Kind::StackExchange => stack_exchange::read(&input.files, sink),
        Kind::Gorse => gorse::read(&input.files, sink),
        Kind::GorseDump => gorse_dump::read(&input.path, sink),
    }
}
