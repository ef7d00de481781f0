//! Kernel modules: loading with what they need, unloading.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

/// Loads `name` with `parameters`, and before it the modules it needs.
pub fn load(name: &str, parameters: &str) -> Result<()> {
    let order = fs::read_to_string("/modules/order")?;
    let files = order.lines().filter_map(|line| line.split_once(' ')).filter(|(top, _)| *top == name);
    for (_, file) in files {
        let parameters = if file.strip_suffix(".ko") == Some(name) { parameters } else { "" };
        insert(file, parameters).with_context(|| format!("loading {file} {parameters}"))?;
    }
    Ok(())
}

fn insert(file: &str, parameters: &str) -> Result<()> {
    let module = File::open(format!("/modules/{file}"))?;
    let parameters = CString::new(parameters)?;
    // SAFETY: a file descriptor and a string that live until the call returns, as finit_module(2) wants them.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), parameters.as_ptr(), 0) };
    match io::Error::last_os_error() {
        _ if done == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        error => Err(error.into()),
    }
}

/// Unloads `name`; an error while it is in use.
pub fn unload(name: &str) -> Result<()> {
    let name = CString::new(name)?;
    // SAFETY: a string that lives until the call returns, as delete_module(2) wants it.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).with_context(|| format!("unloading {name:?}")) }
}
