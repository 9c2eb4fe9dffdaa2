//! Where records come from: files, standard input. (The embedded log and Kafka are stores and live with them.)

mod file;
mod lines;

pub use file::{FileSource, SourceError};
