//! Sources, decoding, dead letters and the worker that carries events to ledger and projections.
