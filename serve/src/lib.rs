//! The HTTP API and the candidate pipeline: sources, filters, scorers, selector.
