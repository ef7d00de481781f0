//! What this process takes of the machine, as the system counts it (Linux): memory and processor time, of all its threads,
//! without the programs that it starts. Reads a small file each time.

use std::time::Duration;

/// Resident memory in MiB, where the system tells.
pub fn resident_mib() -> Option<f32> {
    memory_mib("VmRSS:")
}

/// The most resident memory that there was at any time, in MiB, where the system tells.
pub fn peak_resident_mib() -> Option<f32> {
    memory_mib("VmHWM:")
}

fn memory_mib(field: &str) -> Option<f32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f32 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Processor time since the start, in user mode and in the kernel, to a hundredth of a second, where the system tells.
pub fn processor_time() -> Option<Duration> {
    // The unit in which Linux reports to programs, on all processors that we build for.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything; `utime` is the 14th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn this_process_has_memory() {
        let now = resident_mib();
        assert!(now.is_some_and(|mib| mib > 0.5), "{now:?}");
        assert!(peak_resident_mib() >= now);
    }

    #[test]
    fn work_takes_processor_time() {
        let busy = Duration::from_millis(50);
        let begin = processor_time();
        let used = || processor_time().zip(begin).map(|(now, begin)| now.saturating_sub(begin));
        // As long as it takes, since others may use the processor, too.
        let deadline = Instant::now() + Duration::from_secs(60);
        while used() < Some(busy) && Instant::now() < deadline {}
        assert!(used() >= Some(busy), "{:?}", used());
    }
}
