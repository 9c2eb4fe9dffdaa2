//! Batch jobs over the ports: item neighbours, trending fit, evaluation, digests.
