//! Kernels: the inner loops of convolutions, chosen at run time. A dense layer is a convolution of 1x1x1.
//!
//! The reference kernels are plain Rust, and `reference` (in tests) is the definition; every other set of kernels computes
//! the same integers, to the last bit.
//! `tile` is the way all of them go through memory, `lanes` what a vector of an instruction set can do, `x86` the
//! instruction sets. Another architecture is another module beside `x86` with its own lanes.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod conv;
mod lanes;
mod pair;
mod plain;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use crate::{Error, ErrorKind, Result};

pub use conv::{Conv, Extents, Geometry};
pub use lanes::{Arithmetic, Float, Int8, Rescale, Residual, Span};
pub use pair::Pair;

/// A set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernels {
    /// Plain Rust: the definition, on any processor.
    Reference,
    /// x86-64 with AVX2 and FMA: 16-bit products, as its 8-bit ones saturate.
    Avx2,
    /// x86-64 with AVX-VNNI: 8-bit dot products in vectors of 256 bits.
    AvxVnni,
    /// x86-64 with AVX-512 VNNI: 8-bit dot products in vectors of 512 bits.
    Avx512Vnni,
    /// x86-64 with AMX: 8-bit products of tiles, the rest as AVX-512 VNNI.
    AmxInt8,
}

impl Kernels {
    /// All that this build knows, the best last.
    const ALL: [Self; 5] = [Self::Reference, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni, Self::AmxInt8];

    /// Those that this processor runs, the best last.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernels| kernels.is_available())
    }

    /// The best that this processor runs.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::Reference)
    }

    /// Whether this processor runs them.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            x86::runs(self)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Reference
        }
    }

    /// Refuses kernels that this processor does not run. Whoever calls them must have asked.
    ///
    /// # Errors
    /// `Engine`, naming the kernels.
    pub(super) fn require(self) -> Result<()> {
        match self.is_available() {
            true => Ok(()),
            false => {
                let why = format_args!("kernels {self}: this processor does not run them: leave --kernels out");
                Err(Error::new(ErrorKind::Engine, why))
            }
        }
    }

    /// The name that `--kernels` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::AmxInt8 => "amx-int8",
        }
    }
}

/// Functions of plain loops, compiled for the instructions of the kernels that are their first argument: the compiler makes
/// vectors of those loops. (A closure would not do: it is only compiled for what its caller has if it happens to be inlined.)
macro_rules! compiled_for {
    ($($(#[$doc:meta])* pub(super) fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code)]
        pub(super) fn $name(kernels: Kernels, $($argument: $type),*) {
            #[inline(always)]
            fn plain($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) {
                plain($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn avx512($($argument: $type),*) {
                plain($($argument),*);
            }
            match kernels {
                // SAFETY: kernels are only chosen on processors that run them: see `Kernels::require`.
                #[cfg(target_arch = "x86_64")]
                Kernels::Avx2 | Kernels::AvxVnni => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Kernels::Avx512Vnni | Kernels::AmxInt8 => unsafe { avx512($($argument),*) },
                _ => plain($($argument),*),
            }
        }
    )*};
}
pub(super) use compiled_for;

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
