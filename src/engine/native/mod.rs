//! The engine `native`: our own integer and float kernels, on windows and on streams.

#![expect(dead_code, reason = "for a moment")]
mod aligned;
mod frames;
mod kernels;
mod pool;
