//! A measured process: where it runs, what it has used as the kernel counts it, how it ends.

use crate::cores::Placement;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `USER_HZ`, in which Linux counts CPU time for programs; the same on every common architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// Between two looks at whether a process has ended.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// A running program. It is killed when it is dropped, and by the kernel when this process has gone, however that ended.
pub struct Program {
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// seconds of CPU by the name of the thread
    pub threads: BTreeMap<String, f64>,
    /// threads now
    pub threads_now: f64,
    /// seconds of CPU, ended threads among them
    pub cpu_seconds: f64,
    /// resident memory now, in bytes
    pub resident_bytes: f64,
    /// the most that it ever was
    pub peak_bytes: f64,
}

impl Program {
    /// Starts a command. What it prints goes to a file.
    pub fn start(
        placement: Placement,
        command: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: PathBuf,
    ) -> Result<Program> {
        let output = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Both replace themselves with what they start: the process keeps its id. The kernel's signal comes when the thread
        // that starts it has ended: `main`'s, which lives as long as the process.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "--cpu-list", &placement.list()])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("run setpriv, of util-linux")?;
        Ok(Program { child, log })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the process ended with {status}: {}", self.log_tail());
        }
        Ok(())
    }

    /// Stops it as an operator would (SIGTERM), and waits until it has ended.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("the process has an id")?, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the process ended with {status}: {}", self.log_tail());
        Ok(())
    }

    /// Waits until it has ended, and returns what it has printed.
    pub async fn finish(mut self, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the process ended with {status}: {}", self.log_tail());
                return Ok(self.output());
            }
            ensure!(
                Instant::now() < deadline,
                "the process does not end: {}",
                self.log_tail()
            );
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.child.id())
    }

    /// Everything that it has printed.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    /// The end of it.
    pub fn log_tail(&self) -> String {
        let text = self.output();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `scripts/kafka.sh` prints.
pub fn kafka_script(command: &str) -> Result<String> {
    let output = Command::new("scripts/kafka.sh")
        .arg(command)
        .stderr(Stdio::inherit())
        .output()
        .context("scripts/kafka.sh: run from the root of the repository")?;
    ensure!(output.status.success(), "scripts/kafka.sh {command} failed; see above");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What a process has used, by `/proc`.
pub fn usage(pid: u32) -> Result<Usage> {
    let mut usage = Usage {
        cpu_seconds: cpu_seconds(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?),
        ..Usage::default()
    };
    for line in std::fs::read_to_string(format!("/proc/{pid}/status"))?.lines() {
        let bytes = || {
            line.split_whitespace()
                .nth(1)
                .and_then(|kilobytes| kilobytes.parse::<f64>().ok())
        };
        if line.starts_with("VmRSS:") {
            usage.resident_bytes = bytes().unwrap_or_default() * 1024.0;
        } else if line.starts_with("VmHWM:") {
            usage.peak_bytes = bytes().unwrap_or_default() * 1024.0;
        }
    }
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else {
            continue; // ended meanwhile
        };
        let name = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
            .map_or("", |(name, _)| name);
        usage.threads_now += 1.0;
        *usage.threads.entry(name.to_owned()).or_default() += cpu_seconds(&stat);
    }
    Ok(usage)
}

/// `utime` and `stime` of a `stat` file of proc(5), in seconds.
fn cpu_seconds(stat: &str) -> f64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / TICKS_PER_SECOND
}
