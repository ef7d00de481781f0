//! Plays clips into virtual cameras.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// Reads the clip `name` that the host made: pictures, each with its length before it.
pub fn read(name: &str) -> Result<Vec<Vec<u8>>> {
    let path = Path::new("/host").join(name);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut rest = bytes.as_slice();
    let mut pictures = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let picture = after.get(..length).with_context(|| format!("{} is cut off", path.display()))?;
        pictures.push(picture.to_vec());
        rest = &after[length..];
    }
    Ok(pictures)
}

/// A thread that plays a clip over and over. Dropping it ends it.
pub struct Pump {
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Pump {
    /// Starts playing `clip`, `rate` pictures a second, with `write`.
    pub fn start(clip: Vec<Vec<u8>>, rate: f64, mut write: impl FnMut(&[u8]) -> Result<()> + Send + 'static) -> Self {
        let (stop, pause) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stopped, paused) = (stop.clone(), pause.clone());
        let play = move || {
            let begin = Instant::now();
            for (n, picture) in clip.iter().cycle().enumerate() {
                let due = begin + Duration::from_secs_f64(n as f64 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                if !paused.load(Ordering::SeqCst) {
                    write(picture)?;
                }
            }
            Ok(())
        };
        Self { stop, pause, thread: Some(std::thread::spawn(play)) }
    }

    /// Holds it, or lets it go on.
    pub fn pause(&self, pause: bool) {
        self.pause.store(pause, Ordering::SeqCst);
    }

    /// Ends it; an error if it ended before.
    pub fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).map_err(|_| anyhow!("the player panicked"))?.context("playing a clip")
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
