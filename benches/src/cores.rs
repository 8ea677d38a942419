//! Which core runs what: the measured worker has one for itself, broker and clients have the other.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The measured process's core.
pub const WORKER: usize = 0;
/// Everybody else's.
pub const OTHERS: usize = 1;

/// Binds this thread, and every thread and process that it starts from here on, to a core.
pub fn bind(core: usize) -> Result<()> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 && core > 0 {
        bail!("the benchmarks need two cores: one for what is measured, one for broker and clients");
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("bind to core {core}"))
}

/// Lets every thread of this process, and every process that it starts from here on, run on both cores.
pub fn unbind() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(WORKER);
    set.set(OTHERS);
    for thread in std::fs::read_dir("/proc/self/task")? {
        let name = thread?.file_name();
        let thread = name
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(thread) = thread {
            // A thread that has just ended needs none.
            let _ = sched_setaffinity(Some(thread), &set);
        }
    }
    Ok(())
}
