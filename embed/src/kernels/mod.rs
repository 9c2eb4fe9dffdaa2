//! The arithmetic of a CPU: products of packed matrices, and everything between them a row at a time.
//!
//! Each kernel is written once, in plain Rust over fixed blocks of sixteen numbers, and compiled for every level of processor
//! ([`at_level`]); which one runs is decided when the program starts, never when it is built. Only the 16-bit product needs
//! instructions that plain Rust does not reach. Nothing here allocates.

pub mod attention;
pub mod gemm_f32;
pub mod gemm_i16;
pub mod math;
pub mod rows;

/// What the processor can do. Made by [`Level::detect`] and [`Level::available`] only, so a level that exists may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 and FMA: eight numbers at a time.
    Avx2,
    /// AVX-512: sixteen.
    Avx512,
    /// AVX-512 with products of 16-bit numbers (VNNI).
    Vnni,
}

impl Level {
    /// The best this processor has.
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self(Kind::Portable))
    }

    /// All it has, the best last.
    pub fn available() -> &'static [Self] {
        static FOUND: std::sync::OnceLock<Vec<Level>> = std::sync::OnceLock::new();
        FOUND.get_or_init(|| {
            let mut found = vec![Self(Kind::Portable)];
            #[cfg(target_arch = "x86_64")]
            {
                let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                let avx512 = avx2
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl");
                let vnni = avx512 && is_x86_feature_detected!("avx512vnni");
                for (has, kind) in [(avx2, Kind::Avx2), (avx512, Kind::Avx512), (vnni, Kind::Vnni)] {
                    if has {
                        found.push(Self(kind));
                    }
                }
            }
            found
        })
    }

    pub(crate) const fn kind(self) -> Kind {
        self.0
    }

    /// Whether products are taken in 16-bit numbers.
    pub fn has_i16(self) -> bool {
        self.0 == Kind::Vnni
    }

    /// As reports show it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            Kind::Avx2 => "avx2",
            Kind::Avx512 => "avx512",
            Kind::Vnni => "avx512-vnni",
        }
    }
}

/// Makes a function that runs one body compiled for the level it is given. The body takes a constant that says whether the
/// processor fuses multiply and add (where it does not, `mul_add` would be a call into the C library).
macro_rules! at_level {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name(level: $crate::kernels::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) {
                    $body::<true>($($arg),*);
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) {
                    $body::<true>($($arg),*);
                }
                match level.kind() {
                    // SAFETY: a level exists only where the processor has what it stands for.
                    $crate::kernels::Kind::Vnni | $crate::kernels::Kind::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the same.
                    $crate::kernels::Kind::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::Kind::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = level;
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*);
        }
    };
}
pub(crate) use at_level;

/// The block in which every kernel walks.
pub(crate) const LANES: usize = 16;

/// The next multiple of [`LANES`].
pub(crate) const fn padded(n: usize) -> usize {
    n.div_ceil(LANES) * LANES
}
