//! A service as a process of its own: killed or stopped on request, and never left behind.
//!
//! ```text
//!  ServiceProcess::spawn -> a shell that watches over the service and says its process id
//!     the shell's input: "stop" ends the service cleanly, "kill" at once; when it closes (drop, or the test process
//!     died), the service is killed, and its folder removed where it has one
//! ```
//! A service that has ended by itself can be neither killed nor stopped: whoever disturbs it would take a crash of its own
//! making for the one that was asked for.
//!
//! What a service without a folder prints goes to `test-logs/BINARY/TEST-NAME.log` in the target directory and stays there until
//! the next run of the same test.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs "$@" in a process group of its own and watches over it; see the module's documentation. $1: the signal for "stop";
/// $2: where its output goes; $3: its folder, or nothing.
const WATCHDOG: &str = r#"
stop=$1; log=$2; folder=$3; shift 3
exec 3<&0
setsid "$@" </dev/null >>"$log" 2>&1 3<&- &
service=$!
# what ends the whole group that this is in (Ctrl-C, timeout) must not end who watches; the service has signals of its own
trap '' TERM INT HUP
echo $service
exec >/dev/null 2>&1
{
    how=; read -r how <&3
    case "$how" in
    stop) kill -$stop $service ;;
    kill) kill -KILL -$service ;;
    *) kill -KILL -$service; while kill -0 $service; do :; done; [ -z "$folder" ] || rm -rf "$folder" ;;
    esac
} &
wait $service
status=$?
exec 3<&-
exit $status
"#;
/// Between two looks at whether a process has ended.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// A process that has not ended by then, having been told to, never will.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Where services of tests listen: below what the system gives to connections (`net.ipv4.ip_local_port_range`).
const PORTS: Range<u16> = 22_000..32_000;
/// What a shell adds to the number of the signal that ended a process.
const BY_SIGNAL: i32 = 128;

/// How a service is watched over.
pub struct Watch<'a> {
    /// where its output goes, behind what is there
    pub log: &'a Path,
    /// removed when the service is dropped, or the test process died; not after a kill or stop on request
    pub folder: Option<&'a Path>,
    /// what ends it cleanly
    pub stop: Signal,
}

/// A running service.
pub struct ServiceProcess {
    name: String,
    log: PathBuf,
    pid: Pid,
    watchdog: Child,
}

impl ServiceProcess {
    /// Starts `program` in the test's own directory. `name` tells the services of one test apart. The log of an earlier
    /// process of that name in this test is continued.
    ///
    /// # Errors
    /// When there is no shell, or the log cannot be written.
    pub fn spawn<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> Result<ServiceProcess> {
        Self::spawn_in(Path::new("."), name, program, arguments, environment)
    }

    /// As [`Self::spawn`], in another directory.
    ///
    /// # Errors
    /// As [`Self::spawn`], and when there is no such directory.
    pub fn spawn_in<A: AsRef<OsStr>>(
        directory: &Path,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> Result<ServiceProcess> {
        let log = log_path(name)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(directory)
            .envs(environment.iter().copied());
        let watch = Watch {
            log: &log,
            folder: None,
            stop: Signal::TERM,
        };
        Self::watch(name, &command, &watch)
    }

    /// Starts `command`: its program, arguments, directory and the variables that it sets. `name` is for messages.
    ///
    /// # Errors
    /// When there is no shell, or the log cannot be written.
    pub fn watch(name: &str, command: &Command, watch: &Watch<'_>) -> Result<ServiceProcess> {
        let output = File::options().create(true).append(true).open(watch.log);
        let mut output = output.with_context(|| format!("write {}", watch.log.display()))?;
        writeln!(output, "--- {}", Path::new(command.get_program()).display())?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", WATCHDOG, "watchdog", &watch.stop.as_raw().to_string()])
            .args([watch.log, watch.folder.unwrap_or(Path::new(""))])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        let mut watchdog = shell.spawn().context("run sh")?;
        let mut said = String::new();
        if let Some(output) = watchdog.stdout.take() {
            BufReader::new(output).read_line(&mut said)?;
        }
        let pid = said.trim().parse().ok().and_then(Pid::from_raw);
        Ok(ServiceProcess {
            name: name.to_owned(),
            log: watch.log.to_owned(),
            pid: pid.with_context(|| format!("{name} has no process id: {said:?}"))?,
            watchdog,
        })
    }

    /// Kills it at once (SIGKILL). Returns when it is gone.
    ///
    /// # Errors
    /// When it had ended by itself, or does not end.
    pub fn kill(mut self) -> Result<()> {
        let status = self.end("kill\n")?;
        ensure!(
            is_killed(status),
            "{} ended by itself with {status} before it was killed; log {}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Asks it to stop. Returns its exit code when it is gone.
    ///
    /// # Errors
    /// When it had ended by itself, or does not end.
    pub fn stop(mut self) -> Result<i32> {
        let status = self.end("stop\n")?;
        Ok(status.code().unwrap_or(-1))
    }

    fn end(&mut self, how: &str) -> Result<ExitStatus> {
        self.expect_running()?;
        if let Some(input) = &mut self.watchdog.stdin {
            input.write_all(how.as_bytes()).context("tell the watchdog")?;
        }
        match self.wait(Instant::now() + END_TIMEOUT)? {
            Some(status) => Ok(status),
            None => bail!("{} did not end; see {}", self.name, self.log.display()),
        }
    }

    /// Fails unless it still runs.
    fn expect_running(&mut self) -> Result<()> {
        match self.watchdog.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} had ended by itself with {status}; log {}",
                self.name,
                self.log_tail()
            ),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.expect_running()?;
        Ok(kill_process(self.pid, signal)?)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The operating system's.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.watchdog.try_wait()?.is_none())
    }

    /// How it has ended. None: it still runs.
    ///
    /// # Errors
    /// The operating system's.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.watchdog.try_wait()?)
    }

    /// Waits for its end. None: it still runs at the deadline.
    ///
    /// # Errors
    /// The operating system's.
    pub fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.watchdog.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(PROBE_INTERVAL);
        }
    }

    /// Whether it has ended by SIGKILL; false while it runs.
    ///
    /// # Errors
    /// The operating system's.
    pub fn was_killed(&mut self) -> Result<bool> {
        Ok(self.watchdog.try_wait()?.is_some_and(is_killed))
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        format!("{}, its end:\n{}", self.log.display(), tail(&self.log, 40))
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        // Closing its input has the service killed.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// How a shell tells that a signal ended its child.
fn is_killed(status: ExitStatus) -> bool {
    status.code() == Some(BY_SIGNAL + Signal::KILL.as_raw())
}

/// The last lines of a file; nothing where there is none.
pub fn tail(log: &Path, count: usize) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(count)..)
        .unwrap_or_default()
        .join("\n")
}

/// The workspace whose tests are running: where the files lie that tests read. Asked of cargo as the test runs: what was
/// compiled in is another checkout's where two share a target directory.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = package.or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.unwrap_or(&start).to_owned()
}

/// `target/PROFILE`, where this test was built.
pub fn build_directory() -> Result<PathBuf> {
    let test = std::env::current_exe().context("find the test's own executable")?;
    // PROFILE/deps/TEST-HASH
    let directory = test.parent().and_then(Path::parent);
    Ok(directory.context("the test lies in no build directory")?.to_path_buf())
}

/// Everything that the services of the running test have logged.
///
/// # Errors
/// The disk's.
pub fn logs_of_this_test() -> Result<String> {
    let mut text = String::new();
    let prefix = format!("{}-", test_name());
    for entry in std::fs::read_dir(test_logs()?)? {
        let path = entry?.path();
        if path
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with(&prefix))
        {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path)?));
        }
    }
    Ok(text)
}

/// libtest names a test's thread after the test.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("test").replace("::", "-")
}

/// The log of a service in the running test; a log of an earlier run is removed at the first call of a test process.
fn log_path(name: &str) -> Result<PathBuf> {
    static CLEARED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let path = test_logs()?.canonicalize()?.join(format!("{}-{name}.log", test_name()));
    let mut cleared = CLEARED.lock().unwrap_or_else(PoisonError::into_inner);
    if cleared.insert(path.clone()) {
        let _ = std::fs::remove_file(&path);
    }
    Ok(path)
}

/// A folder of each test binary: several run at once, and have tests of one name.
fn test_logs() -> Result<PathBuf> {
    let test = std::env::current_exe().context("find the test's own executable")?;
    let binary = test
        .file_stem()
        .and_then(OsStr::to_str)
        .context("the test has no name")?;
    // NAME-HASH
    let binary = binary.rsplit_once('-').map_or(binary, |(name, _)| name);
    let folder = build_directory()?.join("../test-logs").join(binary);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A port that nobody listens on, and that no other test gets until this process ends: a service that is away for a moment
/// finds its port free. It is none of those that the system gives to connections.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    // An abstract socket has one owner in the whole machine, and ends with its process.
    static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let count = PORTS.end - PORTS.start;
    // Each process looks in a place of its own first.
    let first = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(count))?;
    for offset in 0..count {
        let port = PORTS.start + (first + offset) % count;
        let name = SocketAddr::from_abstract_name(format!("millrace-test-port-{port}"))?;
        let Ok(taken) = UnixListener::bind_addr(&name) else {
            continue;
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}
