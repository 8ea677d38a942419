//! A service as a process of its own: killed or stopped on request, and never left behind.
//!
//! ```text
//!  ServiceProcess::spawn -> a shell that watches over the service
//!     the shell's input: "stop" ends the service with SIGTERM, "kill" with SIGKILL; when it closes (drop, or the test
//!     process died), the service is killed
//! ```
//! What the service prints goes to `test-logs/TEST-NAME.log` in the target directory and stays there until the next run of
//! the same test.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs "$@" and watches over it; see the module's documentation.
const WATCHDOG: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
service=$!
{
    how=; read -r how <&3
    case "$how" in
    stop) kill -TERM $service ;;
    *) kill -KILL $service ;;
    esac
} 2>/dev/null &
wait $service
status=$?
exec 3<&-
exit $status
"#;
/// Between two looks at whether a process has ended.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// What a shell adds to the number of the signal that ended a process.
const BY_SIGNAL: i32 = 128;
const SIGKILL: i32 = 9;

/// A running service.
pub struct ServiceProcess {
    name: String,
    log: PathBuf,
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
        let output = File::options().create(true).append(true).open(&log);
        let mut output = output.with_context(|| format!("write {}", log.display()))?;
        writeln!(output, "--- {}", program.display())?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("run sh")?;
        Ok(ServiceProcess {
            name: name.to_owned(),
            log,
            watchdog,
        })
    }

    /// Kills it at once (SIGKILL). Returns when it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(self) -> Result<()> {
        self.end("kill\n").map(|_| ())
    }

    /// Asks it to stop (SIGTERM). Returns its exit code when it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(self) -> Result<i32> {
        self.end("stop\n")
    }

    fn end(mut self, how: &str) -> Result<i32> {
        if let Some(input) = &mut self.watchdog.stdin {
            // It may have ended by itself.
            let _ = input.write_all(how.as_bytes());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        match self.wait(deadline)? {
            Some(status) => Ok(status.code().unwrap_or(-1)),
            None => bail!("{} did not end; see {}", self.name, self.log.display()),
        }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The operating system's.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.watchdog.try_wait()?.is_none())
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
        Ok(self.watchdog.try_wait()?.and_then(|status| status.code()) == Some(BY_SIGNAL + SIGKILL))
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        format!("{}, its end:\n{}", self.log.display(), last.join("\n"))
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        // Closing its input has the service killed.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
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
    for entry in std::fs::read_dir(build_directory()?.join("../test-logs"))? {
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
    static CLEARED: std::sync::Mutex<std::collections::BTreeSet<PathBuf>> =
        std::sync::Mutex::new(std::collections::BTreeSet::new());
    let directory = build_directory()?.join("../test-logs");
    std::fs::create_dir_all(&directory)?;
    let path = directory.canonicalize()?.join(format!("{}-{name}.log", test_name()));
    let mut cleared = CLEARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if cleared.insert(path.clone()) {
        let _ = std::fs::remove_file(&path);
    }
    Ok(path)
}

/// A port that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
