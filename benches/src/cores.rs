//! Which core runs what: what is measured has one for itself, broker and clients have the other.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What is measured.
const MEASURED: usize = 0;
/// Everybody else.
const OTHERS: usize = 1;

/// Where a measured process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// on a core of its own
    Own,
    /// on both cores, with everybody else
    Both,
}

impl Placement {
    /// As `taskset --cpu-list` has it.
    pub fn list(self) -> String {
        match self {
            Placement::Own => MEASURED.to_string(),
            Placement::Both => format!("{MEASURED},{OTHERS}"),
        }
    }

    /// How many cores these are.
    pub fn count(self) -> usize {
        match self {
            Placement::Own => 1,
            Placement::Both => 2,
        }
    }
}

/// Keeps this thread, and every thread and process that it starts from here on, off the measured core.
pub fn bind() -> Result<()> {
    let ours = sched_getaffinity(None).context("ask which cores there are")?;
    if !ours.is_set(MEASURED) || !ours.is_set(OTHERS) {
        bail!("the benchmarks need two cores: one for what is measured, one for broker and clients");
    }
    let mut set = CpuSet::new();
    set.set(OTHERS);
    sched_setaffinity(None, &set).with_context(|| format!("bind to core {OTHERS}"))
}

/// Lets every thread of this process, and every process that it starts from here on, run on both cores.
pub fn unbind() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(MEASURED);
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
