//! The tensors of a `model.safetensors`, by their BERT names, as plain `f32`.
//!
//! The file is mapped while it is read and let go afterwards, so that nothing depends on it once the model is in memory.

use std::path::Path;

use candle_core::{DType, Device, safetensors::MmapedSafetensors};

use super::tensor::prefix_of;
use crate::EmbedError;

/// An open file of weights.
pub struct Weights {
    file: MmapedSafetensors,
    prefix: String,
}

impl Weights {
    /// Opens and checks the header; a truncated file is refused here.
    pub fn open(path: &Path) -> Result<Self, EmbedError> {
        // SAFETY: files of the registry are never written in place (they are replaced by renaming), and the map is let go as
        // soon as the weights were copied.
        let file = unsafe { MmapedSafetensors::new(path) }
            .map_err(|e| EmbedError::Unsupported(format!("{} cannot be read: {e}", path.display())))?;
        let prefix = prefix_of(file.tensors().iter().map(|(name, _)| name.as_str()));
        Ok(Self { file, prefix })
    }

    /// One tensor, which must have exactly this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let full = format!("{}{name}", self.prefix);
        let view = self.file.get(&full)?;
        if view.shape() != shape {
            let message = format!("{full} has the shape {:?}, config.json asks for {shape:?}", view.shape());
            return Err(EmbedError::Unsupported(message));
        }
        if DType::try_from(view.dtype()).is_ok_and(|t| t == DType::F32) {
            return Ok(view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect());
        }
        Ok(self.file.load(&full, &Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}
