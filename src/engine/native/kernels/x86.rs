//! Kernels for x86-64. Intrinsics are inlined into functions that enable what they need.

use std::arch::x86_64::*;
use std::convert::identity;

use super::conv::{Table, Tabled};
use super::lanes::{Float, Int8, Lanes, Rescale, Residual, Span};
use super::plain;
use super::tile::{self, Kernel, Steps, Task, rows};
use super::{Kernels, amx};

pub(super) fn runs(kernels: Kernels) -> bool {
    let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match kernels {
        Kernels::Reference => true,
        Kernels::Avx2 => avx2(),
        Kernels::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
        Kernels::Avx512Vnni => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
        Kernels::AmxInt8 => runs(Kernels::Avx512Vnni) && amx::permitted(),
    }
}

/// A function of kernels for tiles of one vector of up to so many positions, and of two vectors.
macro_rules! kernels {
    ($name:ident, $arithmetic:ty, $lanes:ty, $features:literal, [$($one:literal)*], [$($two:literal)*]) => {
        fn $name(positions: usize, vectors: usize) -> Option<Kernel<$arithmetic>> {
            #[target_feature(enable = $features)]
            unsafe fn kernel<const P: usize, const Q: usize>(task: &Task<'_, $arithmetic>) {
                // SAFETY: the caller's.
                unsafe { rows::<$arithmetic, $lanes, P, Q>(task) }
            }
            match (positions, vectors) {
                $(($one, 1) => Some(kernel::<$one, 1>),)*
                $(($two, 2) => Some(kernel::<$two, 2>),)*
                _ => None,
            }
        }
    };
}

kernels!(avx2_int8, Int8, Avx2, "avx2,fma", [1 2 3 4 5 6], [1 2 3]);
kernels!(avx2_float, Float, Avx2, "avx2,fma", [1 2 3 4 5 6 7 8 9 10 11 12], [1 2 3 4 5 6]);
kernels!(avx_vnni_int8, Int8, AvxVnni, "avx2,fma,avxvnni", [1 2 3 4 5 6 7 8 9 10 11 12], [1 2 3 4 5 6]);
kernels!(
    avx512_vnni_int8, Int8, Avx512, "avx512f,avx512bw,avx512vl,avx512vnni",
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
);
kernels!(
    avx512_float, Float, Avx512, "avx512f,avx512bw,avx512vl",
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
);

impl Tabled for Int8 {
    fn table(kernels: Kernels) -> Table<Self> {
        match kernels {
            Kernels::Reference => plain::table(),
            Kernels::Avx2 => Table { lanes: 8, groups: identity, positions: [6, 3], kernel: avx2_int8 },
            Kernels::AvxVnni => Table { lanes: 8, groups: identity, positions: [12, 6], kernel: avx_vnni_int8 },
            Kernels::Avx512Vnni => Table { lanes: 16, groups: identity, positions: [28, 14], kernel: avx512_vnni_int8 },
            Kernels::AmxInt8 => Table { lanes: 16, groups: amx::groups, positions: [16, 16], kernel: amx::kernel },
        }
    }
}

impl Tabled for Float {
    fn table(kernels: Kernels) -> Table<Self> {
        match kernels {
            Kernels::Reference => plain::table(),
            Kernels::Avx2 | Kernels::AvxVnni => {
                Table { lanes: 8, groups: identity, positions: [12, 6], kernel: avx2_float }
            }
            Kernels::Avx512Vnni | Kernels::AmxInt8 => {
                Table { lanes: 16, groups: identity, positions: [28, 14], kernel: avx512_float }
            }
        }
    }
}

struct Avx2;
struct AvxVnni;
pub(super) struct Avx512;

/// Four bytes in every lane.
#[inline(always)]
unsafe fn spread(from: *const u8) -> i32 {
    // SAFETY: the caller's.
    unsafe { from.cast::<i32>().read_unaligned() }
}

/// Even and odd bytes of weights as 16-bit numbers.
#[derive(Clone, Copy)]
struct Halves(__m256i, __m256i);

// SAFETY: AVX2 and FMA.
unsafe impl Lanes<Int8> for Avx2 {
    const LANES: usize = 8;
    type Sum = __m256i;
    type Weights = Halves;
    type Input = Halves;

    #[inline(always)]
    unsafe fn begin(from: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn keep(sum: __m256i, to: *mut i32) {
        unsafe { _mm256_storeu_si256(to.cast(), sum) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Halves {
        unsafe {
            let all = _mm256_loadu_si256(from.cast());
            Halves(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(all)), _mm256_srai_epi16::<8>(all))
        }
    }

    #[inline(always)]
    unsafe fn input(from: *const u8) -> Halves {
        unsafe {
            let all = _mm256_set1_epi32(spread(from));
            Halves(_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(all))
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256i, input: Halves, weights: Halves) -> __m256i {
        // Two products of 9 and 8 bits in 16-bit factors: their 32-bit sum cannot overflow.
        unsafe {
            let (even, odd) = (_mm256_madd_epi16(input.0, weights.0), _mm256_madd_epi16(input.1, weights.1));
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        }
    }

    #[inline(always)]
    unsafe fn finish(sum: __m256i, finish: &Rescale, channel: usize, valid: usize, residual: *const u8, to: *mut u8) {
        unsafe { finish_256(sum, finish, channel, valid, residual, to) }
    }
}

// SAFETY: AVX2, FMA and AVX-VNNI.
unsafe impl Lanes<Int8> for AvxVnni {
    const LANES: usize = 8;
    type Sum = __m256i;
    type Weights = __m256i;
    type Input = __m256i;

    #[inline(always)]
    unsafe fn begin(from: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn keep(sum: __m256i, to: *mut i32) {
        unsafe { _mm256_storeu_si256(to.cast(), sum) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn input(from: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(spread(from)) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256i, input: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sum, input, weights) }
    }

    #[inline(always)]
    unsafe fn finish(sum: __m256i, finish: &Rescale, channel: usize, valid: usize, residual: *const u8, to: *mut u8) {
        unsafe { finish_256(sum, finish, channel, valid, residual, to) }
    }
}

/// `clamp(round(x), span)` without the zero point.
#[inline(always)]
unsafe fn round_256(x: __m256, span: &Span) -> __m256i {
    unsafe {
        let x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(span.low)), _mm256_set1_ps(span.high));
        _mm256_cvtps_epi32(x)
    }
}

#[inline(always)]
unsafe fn finish_256(sum: __m256i, finish: &Rescale, channel: usize, valid: usize, residual: *const u8, to: *mut u8) {
    unsafe {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(finish.scale.as_ptr().add(channel)));
        let mut y = round_256(scaled, &finish.span);
        let mut zero = finish.span.zero;
        if let Some(add) = &finish.residual {
            let bytes = if valid == 8 {
                _mm_loadl_epi64(residual.cast())
            } else {
                let mut bytes = [0_u8; 8];
                std::ptr::copy_nonoverlapping(residual, bytes.as_mut_ptr(), valid);
                _mm_loadl_epi64(bytes.as_ptr().cast())
            };
            let other = _mm256_cvtepu8_epi32(bytes);
            let other = _mm256_cvtepi32_ps(_mm256_sub_epi32(other, _mm256_set1_epi32(add.other_zero)));
            let other = _mm256_cvtps_epi32(_mm256_mul_ps(other, _mm256_set1_ps(add.other)));
            let own = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(y), _mm256_set1_ps(add.own)));
            let (low, high) = (add.span.low as i32, add.span.high as i32);
            y = _mm256_max_epi32(_mm256_add_epi32(own, other), _mm256_set1_epi32(low));
            y = _mm256_min_epi32(y, _mm256_set1_epi32(high));
            zero = add.span.zero;
        }
        y = _mm256_add_epi32(y, _mm256_set1_epi32(zero));
        let words = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256::<1>(y));
        let bytes = _mm_packus_epi16(words, words);
        if valid == 8 {
            _mm_storel_epi64(to.cast(), bytes);
        } else {
            let bytes = _mm_cvtsi128_si64(bytes).to_le_bytes();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, valid);
        }
    }
}

// SAFETY: AVX2 and FMA.
unsafe impl Lanes<Float> for Avx2 {
    const LANES: usize = 8;
    type Sum = __m256;
    type Weights = __m256;
    type Input = __m256;

    #[inline(always)]
    unsafe fn begin(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn keep(sum: __m256, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, sum) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn input(from: *const f32) -> __m256 {
        unsafe { _mm256_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256, input: __m256, weights: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(input, weights, sum) }
    }

    #[inline(always)]
    unsafe fn finish(
        sum: __m256,
        &(low, high): &(f32, f32),
        _: usize,
        valid: usize,
        residual: *const f32,
        to: *mut f32,
    ) {
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(valid as i32), lanes);
            let mut y = sum;
            if !residual.is_null() {
                y = _mm256_add_ps(y, _mm256_maskload_ps(residual, mask));
            }
            y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(low)), _mm256_set1_ps(high));
            _mm256_maskstore_ps(to, mask, y);
        }
    }
}

// SAFETY: AVX-512 F, BW, VL, VNNI.
unsafe impl Lanes<Int8> for Avx512 {
    const LANES: usize = 16;
    type Sum = __m512i;
    type Weights = __m512i;
    type Input = __m512i;

    #[inline(always)]
    unsafe fn begin(from: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn keep(sum: __m512i, to: *mut i32) {
        unsafe { _mm512_storeu_si512(to.cast(), sum) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn input(from: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(spread(from)) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, input: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, input, weights) }
    }

    #[inline(always)]
    unsafe fn finish(sum: __m512i, finish: &Rescale, channel: usize, valid: usize, residual: *const u8, to: *mut u8) {
        unsafe {
            let mask = (0xffff_u32 >> (16 - valid)) as __mmask16;
            let Span { low, high, mut zero } = finish.span;
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(finish.scale.as_ptr().add(channel)));
            let scaled = _mm512_min_ps(_mm512_max_ps(scaled, _mm512_set1_ps(low)), _mm512_set1_ps(high));
            let mut y = _mm512_cvtps_epi32(scaled);
            if let Some(add) = &finish.residual {
                let (low, high) = (add.span.low as i32, add.span.high as i32);
                y = add_512(y, _mm_maskz_loadu_epi8(mask, residual.cast()), add);
                y = _mm512_max_epi32(y, _mm512_set1_epi32(low));
                y = _mm512_min_epi32(y, _mm512_set1_epi32(high));
                zero = add.span.zero;
            }
            y = _mm512_add_epi32(y, _mm512_set1_epi32(zero));
            _mm_mask_storeu_epi8(to.cast(), mask, _mm512_cvtepi32_epi8(y));
        }
    }

    #[inline(always)]
    unsafe fn finish_tile<const Q: usize>(
        left: *const i32,
        positions: usize,
        task: &Task<'_, Int8>,
        y: usize,
        x: usize,
    ) {
        unsafe {
            let Some(ending) = Ending::<Q>::new(task).filter(|_| positions * Q >= FOUR) else {
                return tile::finish::<Int8, Self, Q>(left, positions, task, (y, x));
            };
            let mut row = Unfinished::new(left, positions, task, (y, x));
            while row.vectors > 0 {
                row.finish::<false>(&ending);
            }
        }
    }
}

/// Vectors that are finished at a time.
pub(super) const FOUR: usize = 4;

/// What sums of a tile become where the results may be all of 0..=255: packing saturates, so they need no clamp but one against
/// an overflow above. (Below, the conversion gives the least i32, which saturates to 0 as well.)
pub(super) struct Ending<const Q: usize> {
    /// What is added to sums that begin with zero.
    begin: [__m512i; Q],
    scale: [__m512; Q],
    low: __m512,
    high: __m512,
    zero: __m512i,
    residual: Option<Residual>,
    /// Puts what packing leaves in order.
    order: __m512i,
}

impl<const Q: usize> Ending<Q> {
    /// `None` for other results, and where the last vector is not whole.
    ///
    /// # Safety
    /// As for [`tile::rows`].
    #[inline(always)]
    pub unsafe fn new(task: &Task<'_, Int8>) -> Option<Self> {
        let own = &task.finish.span;
        let last = task.finish.residual.as_ref().map_or(own, |add| &add.span);
        let (low, high) = (last.low as i32 + last.zero, last.high as i32 + last.zero);
        if task.valid < Q * 16 || (low, high) != (0, 255) {
            return None;
        }
        unsafe {
            let (mut begin, mut scale) = ([_mm512_setzero_si512(); Q], [_mm512_setzero_ps(); Q]);
            for q in 0..Q {
                begin[q] = _mm512_loadu_si512(task.begin.add(q * 16).cast());
                scale[q] = _mm512_loadu_ps(task.finish.scale.as_ptr().add(task.channel + q * 16));
            }
            Some(Self {
                begin,
                scale,
                low: _mm512_set1_ps(own.low),
                high: _mm512_set1_ps(own.high),
                zero: _mm512_set1_epi16(last.zero as i16),
                residual: task.finish.residual,
                order: _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
            })
        }
    }
}

/// Sums of positions of a row that are to be finished: at least four vectors.
pub(super) struct Unfinished<const Q: usize> {
    left: *const i32,
    /// How many vectors are left.
    pub vectors: usize,
    to: *mut u8,
    column: usize,
    residual: *const u8,
    other: usize,
}

impl<const Q: usize> Unfinished<Q> {
    /// Those of `positions` from `y`, `x` on.
    #[inline(always)]
    pub fn new(left: *const i32, positions: usize, task: &Task<'_, Int8>, (y, x): (usize, usize)) -> Self {
        let at = |steps: Steps| y * steps.row + x * steps.column;
        Self {
            left,
            vectors: positions * Q,
            to: task.to.wrapping_add(at(task.output)),
            column: task.output.column,
            residual: task.residual.wrapping_add(at(task.other)),
            other: task.other.column,
        }
    }

    /// Finishes the next four vectors. If there are fewer, some before them once more. The sums began with zero or with the
    /// bias.
    ///
    /// # Safety
    /// As for [`tile::rows`].
    #[inline(always)]
    pub unsafe fn finish<const FROM_ZERO: bool>(&mut self, ending: &Ending<Q>) {
        // Positions that four vectors are.
        let step = FOUR / Q;
        let again = FOUR.saturating_sub(self.vectors) / Q;
        if again > 0 {
            self.left = self.left.wrapping_sub(again * Q * 16);
            self.to = self.to.wrapping_sub(again * self.column);
            self.residual = self.residual.wrapping_sub(again * self.other);
        }
        unsafe {
            let mut vectors = [_mm512_setzero_si512(); FOUR];
            for (k, vector) in vectors.iter_mut().enumerate() {
                let mut sum = _mm512_load_si512(self.left.add(k * 16).cast());
                if FROM_ZERO {
                    sum = _mm512_add_epi32(sum, ending.begin[k % Q]);
                }
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), ending.scale[k % Q]);
                let scaled = _mm512_min_ps(scaled, ending.high);
                *vector = match &ending.residual {
                    None => _mm512_cvtps_epi32(scaled),
                    Some(add) => {
                        let own = _mm512_cvtps_epi32(_mm512_max_ps(scaled, ending.low));
                        let other = _mm_loadu_si128(self.residual.add(k / Q * self.other + k % Q * 16).cast());
                        add_512(own, other, add)
                    }
                };
            }
            let (a, b) = (_mm512_packs_epi32(vectors[0], vectors[1]), _mm512_packs_epi32(vectors[2], vectors[3]));
            let (a, b) = (_mm512_adds_epi16(a, ending.zero), _mm512_adds_epi16(b, ending.zero));
            let bytes = _mm512_permutexvar_epi32(ending.order, _mm512_packus_epi16(a, b));
            let to = |position: usize| self.to.add(position * self.column);
            if self.column == Q * 16 {
                _mm512_storeu_si512(to(0).cast(), bytes);
            } else if Q == 2 {
                _mm256_storeu_si256(to(0).cast(), _mm512_castsi512_si256(bytes));
                _mm256_storeu_si256(to(1).cast(), _mm512_extracti64x4_epi64::<1>(bytes));
            } else {
                _mm_storeu_si128(to(0).cast(), _mm512_castsi512_si128(bytes));
                _mm_storeu_si128(to(1).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                _mm_storeu_si128(to(2).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                _mm_storeu_si128(to(3).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
            }
        }
        self.vectors = self.vectors.saturating_sub(FOUR);
        self.left = self.left.wrapping_add(FOUR * 16);
        self.to = self.to.wrapping_add(step * self.column);
        self.residual = self.residual.wrapping_add(step * self.other);
    }
}

/// A residual sum without its clamp and zero point: `round(a * own) + round((b - z_b) * other)`.
#[inline(always)]
unsafe fn add_512(a: __m512i, b: __m128i, add: &Residual) -> __m512i {
    unsafe {
        let b = _mm512_sub_epi32(_mm512_cvtepu8_epi32(b), _mm512_set1_epi32(add.other_zero));
        let other = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(b), _mm512_set1_ps(add.other)));
        let own = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_set1_ps(add.own)));
        _mm512_add_epi32(own, other)
    }
}

// SAFETY: AVX-512 F, BW, VL.
unsafe impl Lanes<Float> for Avx512 {
    const LANES: usize = 16;
    type Sum = __m512;
    type Weights = __m512;
    type Input = __m512;

    #[inline(always)]
    unsafe fn begin(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn keep(sum: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, sum) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn input(from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512, input: __m512, weights: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(input, weights, sum) }
    }

    #[inline(always)]
    unsafe fn finish(
        sum: __m512,
        &(low, high): &(f32, f32),
        _: usize,
        valid: usize,
        residual: *const f32,
        to: *mut f32,
    ) {
        unsafe {
            let mask = (0xffff_u32 >> (16 - valid)) as __mmask16;
            let mut y = sum;
            if !residual.is_null() {
                y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, residual));
            }
            y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(low)), _mm512_set1_ps(high));
            _mm512_mask_storeu_ps(to, mask, y);
        }
    }
}
