//! Benchmarks, load scenarios and side-by-side runs. Never depended on.
