//! Texts to unit vectors: tokenizing, batching, candle models, the model registry.
