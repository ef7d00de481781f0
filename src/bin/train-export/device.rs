//! Where tensors live, and how the process is set up for them.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::PathBuf;

use anyhow::Result;
use kinora::engine::Kernels;
use kinora::{Error, ErrorKind};
use tch::Device;

use crate::interpreter::Precision;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// CUDA where there is a device, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

/// The device that `choice` means here, with the process set up for it; `threads` (0: one a processor) compute on the
/// CPU.
///
/// # Errors
/// `Engine` when CUDA is asked for and cannot be used.
pub fn open(choice: Choice, threads: usize) -> Result<Device> {
    if threads > 0 {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    if choice != Choice::Cpu {
        let missing = load_cuda();
        if tch::Cuda::is_available() {
            tch::Cuda::cudnn_set_benchmark(true);
            return Ok(Device::Cuda(0));
        }
        if choice == Choice::Cuda {
            let why = missing.unwrap_or_else(|| "no CUDA device was found".into());
            let remedy = "build and run with LIBTORCH naming a libtorch 2.11.0 with CUDA, or use --device cpu";
            return Err(Error::new(ErrorKind::Engine, format_args!("--device cuda: {why}; {remedy}")).into());
        }
    }
    keep_memory();
    Ok(Device::Cpu)
}

/// The fastest precision to train in: bf16 where the hardware multiplies tiles of it. (Processors with tiles of bytes have
/// those of bf16, too; with AVX-512's products of bf16 alone a step was found to take a tenth longer than in f32.)
pub fn precision(device: Device) -> Precision {
    if device.is_cuda() || Kernels::AmxInt8.is_available() { Precision::Bf16 } else { Precision::F32 }
}

/// Loads the CUDA part of libtorch, which the program is not linked with so that it also starts where there is none.
/// Returns why it cannot be loaded.
fn load_cuda() -> Option<String> {
    const NAME: &str = "libtorch_cuda.so";
    let named = std::env::var_os("LIBTORCH").map(|root| PathBuf::from(root).join("lib").join(NAME));
    // The bare name is looked for where libtorch_cpu was found: in LD_LIBRARY_PATH and in the program's run path.
    let places = named.filter(|path| path.exists()).into_iter().chain([PathBuf::from(NAME)]);
    let mut why = None;
    for place in places {
        let Ok(name) = CString::new(place.into_os_string().into_encoded_bytes()) else { continue };
        // SAFETY: `name` ends in a zero byte; the library's initialisers only register kernels with libtorch.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if !handle.is_null() {
            return None;
        }
        // SAFETY: after a failed dlopen on this thread, dlerror is null or a message valid until the next call.
        let message = unsafe { libc::dlerror() };
        if !message.is_null() {
            // SAFETY: not null, so a string that ends in a zero byte; copied at once.
            why = Some(unsafe { std::ffi::CStr::from_ptr(message) }.to_string_lossy().into_owned());
        }
    }
    why
}

/// Keeps freed memory in the process. A training step allocates and frees activations of many megabytes; handing them
/// back to the kernel each time costs more, in page faults, than the arithmetic.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets two numbers of the allocator, which takes its own lock.
        let taken = unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30) == 1 && libc::mallopt(libc::M_TRIM_THRESHOLD, -1) == 1
        };
        if !taken {
            log::debug!("the allocator does not keep large blocks: training will be slower");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn cuda_is_used_or_refused_with_the_reason() {
        match open(Choice::Cuda, 0) {
            Ok(device) => assert_eq!(device, Device::Cuda(0)),
            Err(error) => {
                let error = error.downcast_ref::<Error>().unwrap();
                assert_eq!(error.kind(), ErrorKind::Engine);
                assert!(error.to_string().contains("--device cuda: "), "{error}");
                assert_eq!(open(Choice::Auto, 0).unwrap(), Device::Cpu);
            }
        }
    }
}
