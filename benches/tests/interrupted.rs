//! A benchmark that is killed leaves nothing behind: no process, no folder.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Says that it has started, and does nothing: the benchmark waits for its answer.
const WORKER: &str = "#!/bin/sh\necho $$ >\"$TMPDIR/worker.pid\"\nexec sleep 600\n";
const PATIENCE: Duration = Duration::from_secs(120);

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line names a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let command = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(folder).then_some(command)
        })
        .collect()
}

#[test]
fn a_killed_benchmark_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let worker = folder.path().join("millrace");
    std::fs::write(&worker, WORKER).unwrap();
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_millrace-bench"))
        .arg("worker")
        .current_dir(Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join(".."))
        .env("MILLRACE_BENCH_BINARY", &worker)
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = temporary.join("worker.pid");
    let mut pid = None;
    wait_until("the worker has started", || {
        assert!(bench.try_wait().unwrap().is_none(), "the benchmark has ended");
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        pid = text.trim().parse::<u32>().ok();
        pid.is_some()
    });
    assert!(
        processes_in(&temporary)
            .iter()
            .any(|command| command.contains("kafka.Kafka")),
        "the broker runs"
    );

    bench.kill().unwrap();
    bench.wait().unwrap();

    let worker = format!("/proc/{}", pid.unwrap());
    wait_until("the worker has ended", || !Path::new(&worker).exists());
    wait_until("the broker and those that watch have ended", || {
        processes_in(&temporary).is_empty()
    });
    std::fs::remove_file(&pid_file).unwrap();
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
