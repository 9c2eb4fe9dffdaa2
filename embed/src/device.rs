//! Which processor a model runs on: this machine's own, or an accelerator where the program was built for one.
//!
//! Where the accelerator that is asked for cannot be had, the model runs on the CPU and a warning says why: vectors are the same
//! to within 16-bit rounding (cosine at least 0.9999), so a process on either may write to the same collections.

use candle_core::Device;
use serde::{Deserialize, Serialize};

/// A kind of processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The engine made for CPUs.
    #[default]
    Cpu,
    /// The first NVIDIA GPU, in programs built with the feature `cuda`.
    Cuda,
    /// The GPU of an Apple computer, in programs built with the feature `metal`.
    Metal,
}

impl DeviceKind {
    /// As configured.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// Whether this program was built for it.
    pub const fn compiled(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }

    /// The device, where one is asked for and can be had. A warning says what cannot.
    pub(crate) fn open(self) -> Option<Device> {
        let device = match self {
            Self::Cpu => return None,
            _ if !self.compiled() => {
                tracing::warn!(
                    "model.device is {0}, but this program was built without it (cargo build --release --features {0}); the model \
                     runs on the CPU",
                    self.name()
                );
                return None;
            }
            Self::Cuda => Device::new_cuda(0),
            Self::Metal => Device::new_metal(0),
        };
        match device {
            Ok(device) => {
                tracing::info!(device = self.name(), "the model runs on an accelerator");
                Some(device)
            }
            Err(e) => {
                tracing::warn!(error = %e, "model.device is {}, but no such device answers; the model runs on the CPU", self.name());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_the_cpu() {
        assert!(DeviceKind::Cpu.open().is_none());
        for kind in [DeviceKind::Cuda, DeviceKind::Metal] {
            if !kind.compiled() {
                assert!(kind.open().is_none());
            }
        }
        assert_eq!(serde_json::from_str::<DeviceKind>("\"cuda\"").unwrap(), DeviceKind::Cuda);
    }
}
