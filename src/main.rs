//! The `nearcast` binary.
fn main() {}
