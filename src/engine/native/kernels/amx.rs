//! Kernels for x86-64 with AMX: tiles of 16 positions by 64 bytes of input are multiplied with tiles of 64 bytes by 16 output
//! channels. A row of an input tile is a piece of a tap's run where it lies in memory, and weights are packed as for vectors,
//! so nothing is rearranged. The sums go through memory into the AVX-512 epilogue.
//!
//! Tiles have no stable intrinsics: their instructions are written as assembly. Input tiles are `tmm4`, `tmm5`, weights
//! `tmm6`, `tmm7`, sums the first four.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

use super::lanes::Int8;
use super::tile::{self, Kernel, Task};
use super::x86::{Avx512, Ending, FOUR, Unfinished};

/// Rows of a tile: positions of an input and a sum, groups of weights.
const ROWS: usize = 16;
/// Bytes of a tile's row.
const BYTES: usize = 64;
/// Output channels of a vector.
const LANES: usize = 16;
/// Tiles of sums.
const SUMS: usize = 4;

/// Whether the processor has the instructions and this process may use them.
pub(super) fn permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| {
        let has = |bit: u32| __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx >> bit & 1 == 1;
        let (tiles, int8) = (24, 25);
        has(tiles) && has(int8) && permission()
    })
}

/// Linux lets a process have the tiles' state, 8 KiB for each thread, when it asks for it.
#[cfg(target_os = "linux")]
fn permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: takes two numbers and changes nothing but this permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permission() -> bool {
    false
}

/// Steps in which `groups` groups are multiplied, and the groups of each: all are of the same size, as tiles are.
fn chunks(groups: usize) -> (usize, usize) {
    let chunks = groups.div_ceil(ROWS);
    (chunks, groups.div_ceil(chunks))
}

/// Groups that are multiplied for a run of so many.
pub(super) fn groups(run: usize) -> usize {
    let (chunks, groups) = chunks(run);
    chunks * groups
}

/// The kernel for tiles of so many vectors.
pub(super) fn kernel(_: usize, vectors: usize) -> Option<Kernel<Int8>> {
    match vectors {
        1 => Some(rows::<1>),
        2 => Some(rows::<2>),
        _ => None,
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Sums in memory, `[strip][position][Q][LANES]`.
#[repr(align(64))]
struct Left(MaybeUninit<[i32; SUMS * ROWS * LANES]>);

/// How positions are dealt out to tiles: a strip is a run of positions of a row or, where rows are short, of several with the
/// border between them, which is computed for nothing.
struct Strips {
    /// Positions of a strip.
    positions: usize,
    /// Rows that it covers.
    rows: usize,
    /// Outputs that it has of each row.
    width: usize,
    /// Positions from a row's first to that of the next one.
    pitch: usize,
    /// Strips side by side.
    columns: usize,
    count: usize,
}

impl Strips {
    fn new(task: &Task<'_, Int8>) -> Self {
        let (height, pitch) = (task.rows.len(), task.input.row / task.input.column);
        let whole = pitch * task.input.column == task.input.row;
        let rows = if whole && task.width < ROWS { ((ROWS - task.width) / pitch + 1).min(height) } else { 1 };
        let columns = task.width.div_ceil(ROWS);
        let width = task.width.div_ceil(columns);
        Self {
            positions: (rows - 1) * pitch + width,
            rows,
            width,
            pitch,
            columns,
            count: height.div_ceil(rows) * columns,
        }
    }

    /// Row and column where strip `n` begins. The last ones begin early enough to end with the frame.
    fn at(&self, n: usize, task: &Task<'_, Int8>) -> (usize, usize) {
        let (row, column) = (n / self.columns * self.rows, n % self.columns * self.width);
        (task.rows.start + row.min(task.rows.len() - self.rows), column.min(task.width - self.width))
    }
}

/// Strips whose sums are to be finished.
struct Finishing<'a, const Q: usize> {
    task: &'a Task<'a, Int8>,
    strips: &'a Strips,
    ending: &'a Option<Ending<Q>>,
    /// The row at which this is.
    now: Unfinished<Q>,
    /// Rows to come: the next strip and the last, the next row, and the sums of the strip.
    next: Range<usize>,
    row: usize,
    left: *const i32,
    /// How many times four vectors are finished after each step.
    at_a_time: usize,
}

impl<const Q: usize> Finishing<'_, Q> {
    /// Finishes the next `pieces` times four vectors, if there are so many.
    ///
    /// # Safety
    /// As for [`rows`].
    #[inline(always)]
    unsafe fn finish(&mut self, pieces: usize) {
        let Some(ending) = self.ending else { return };
        for _ in 0..pieces {
            if self.now.vectors == 0 && !self.next_row() {
                return;
            }
            // SAFETY: the caller's.
            unsafe { self.now.finish::<true>(ending) };
        }
    }

    /// Goes to the next row, if there is one.
    #[inline(always)]
    fn next_row(&mut self) -> bool {
        if self.next.is_empty() {
            return false;
        }
        let (y, x) = self.strips.at(self.next.start, self.task);
        let left = self.left.wrapping_add(self.row * self.strips.pitch * Q * LANES);
        self.now = Unfinished::new(left, self.strips.width, self.task, (y + self.row, x));
        self.row += 1;
        if self.row == self.strips.rows {
            (self.row, self.next.start) = (0, self.next.start + 1);
            self.left = self.left.wrapping_add(ROWS * Q * LANES);
        }
        true
    }
}

/// Computes `task`, `Q` vectors of channels at a time.
///
/// # Safety
/// As for [`super::tile::rows`]; the processor has AMX and AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn rows<const Q: usize>(task: &Task<'_, Int8>) {
    if task.rows.is_empty() {
        return;
    }
    let strips = Strips::new(task);
    let (_, groups) = chunks(task.groups);
    let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
    config.bytes[..8].copy_from_slice(&[64, 64, 64, 64, 4 * groups as u16, 4 * groups as u16, 64, 64]);
    config.rows[..6].fill(strips.positions as u8);
    config.rows[6..8].fill(groups as u8);
    // SAFETY: the caller's; the configuration is that of the tiles used below.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &config, options(readonly, nostack, preserves_flags));
        // The sums of a block are finished bit by bit between the products of the next one, so that the processor has both to
        // do at any time: a block's products are too many for it to look past.
        let mut left = [const { Left(MaybeUninit::uninit()) }; 2];
        let most = SUMS / Q;
        let ending = Ending::<Q>::new(task).filter(|_| strips.width * Q >= FOUR);
        let pieces = most * strips.rows * (strips.width * Q).div_ceil(FOUR);
        let mut before = Finishing {
            task,
            strips: &strips,
            ending: &ending,
            now: Unfinished::new(std::ptr::null(), 0, task, (0, 0)),
            next: 0..0,
            row: 0,
            left: std::ptr::null(),
            at_a_time: pieces.div_ceil(task.taps.len() * chunks(task.groups).0),
        };
        for n in 0..strips.count.div_ceil(most) {
            let block = n * most..((n + 1) * most).min(strips.count);
            let to = left[n % 2].0.as_mut_ptr().cast::<i32>();
            match block.len() {
                1 => products::<1, Q>(task, &strips, block.start, to, &mut before),
                2 => products::<2, Q>(task, &strips, block.start, to, &mut before),
                3 => products::<3, Q>(task, &strips, block.start, to, &mut before),
                _ => products::<4, Q>(task, &strips, block.start, to, &mut before),
            }
            if ending.is_some() {
                (before.next, before.left) = (block, to);
                continue;
            }
            for (strip, n) in block.enumerate() {
                let (y, x) = strips.at(n, task);
                for row in 0..strips.rows {
                    let from = to.add((strip * ROWS + row * strips.pitch) * Q * LANES);
                    tile::finish::<Int8, Avx512, Q>(from, strips.width, task, (y + row, x));
                }
            }
        }
        before.finish(pieces);
        // Tiles in use make switching threads dearer.
        asm!("tilerelease", options(nomem, nostack, preserves_flags));
    }
}

/// Loads a tile, a row every `step` bytes.
macro_rules! load {
    ($tile:literal, $from:expr, $step:expr) => {
        asm!(concat!("tileloadd ", $tile, ", [{from} + {step}*1]"), from = in(reg) $from, step = in(reg) $step,
            options(readonly, nostack, preserves_flags))
    };
}

/// Writes a tile, a row every `step` bytes.
macro_rules! store {
    ($tile:literal, $to:expr, $step:expr) => {
        asm!(concat!("tilestored [{to} + {step}*1], ", $tile), to = in(reg) $to, step = in(reg) $step,
            options(nostack, preserves_flags))
    };
}

/// Fills a tile with zeros.
macro_rules! zero {
    ($tile:literal) => {
        asm!(concat!("tilezero ", $tile), options(nomem, nostack, preserves_flags))
    };
}

/// Adds the products of a tile of inputs and one of weights to a tile of sums.
macro_rules! dot {
    ($sum:literal, $input:literal, $weights:literal) => {
        asm!(concat!("tdpbusd ", $sum, ", ", $input, ", ", $weights), options(nomem, nostack, preserves_flags))
    };
}

/// Computes the sums of `M` strips from number `n` on; those of strip `m` and vector `q` are tile `m * Q + q`. After each
/// step some of the sums `before` are finished.
#[inline(always)]
unsafe fn products<const M: usize, const Q: usize>(
    task: &Task<'_, Int8>,
    strips: &Strips,
    n: usize,
    to: *mut i32,
    before: &mut Finishing<'_, Q>,
) {
    // SAFETY: the caller's.
    unsafe {
        for sum in 0..M * Q {
            // The same bias in all rows, or none yet: zeros cost nothing.
            let (from, step) = (task.begin.add(sum % Q * LANES), 0_usize);
            match (before.ending.is_some(), sum) {
                (true, 0) => zero!("tmm0"),
                (true, 1) => zero!("tmm1"),
                (true, 2) => zero!("tmm2"),
                (true, _) => zero!("tmm3"),
                (false, 0) => load!("tmm0", from, step),
                (false, 1) => load!("tmm1", from, step),
                (false, 2) => load!("tmm2", from, step),
                (false, _) => load!("tmm3", from, step),
            }
        }
        let at: [_; M] = std::array::from_fn(|m| {
            let (y, x) = strips.at(n + m, task);
            y * task.input.row + x * task.input.column
        });
        let (step, row) = (task.input.column, Q * BYTES);
        let (count, groups) = chunks(task.groups);
        let mut weights = task.weights;
        for tap in task.taps {
            let mut from = *tap;
            for _ in 0..count {
                load!("tmm6", weights, row);
                if Q == 2 {
                    load!("tmm7", weights.add(BYTES), row);
                }
                for (m, at) in at.into_iter().enumerate() {
                    match m % 2 {
                        0 => load!("tmm4", from.wrapping_add(at), step),
                        _ => load!("tmm5", from.wrapping_add(at), step),
                    }
                    match (Q, m) {
                        (2, 0) => {
                            dot!("tmm0", "tmm4", "tmm6");
                            dot!("tmm1", "tmm4", "tmm7");
                        }
                        (2, _) => {
                            dot!("tmm2", "tmm5", "tmm6");
                            dot!("tmm3", "tmm5", "tmm7");
                        }
                        (_, 0) => dot!("tmm0", "tmm4", "tmm6"),
                        (_, 1) => dot!("tmm1", "tmm5", "tmm6"),
                        (_, 2) => dot!("tmm2", "tmm4", "tmm6"),
                        _ => dot!("tmm3", "tmm5", "tmm6"),
                    }
                }
                before.finish(before.at_a_time);
                weights = weights.add(groups * row);
                from = from.wrapping_add(4 * groups);
            }
        }
        for sum in 0..M * Q {
            let to = to.add((sum / Q * ROWS * Q + sum % Q) * LANES);
            match sum {
                0 => store!("tmm0", to, row),
                1 => store!("tmm1", to, row),
                2 => store!("tmm2", to, row),
                _ => store!("tmm3", to, row),
            }
        }
    }
}
