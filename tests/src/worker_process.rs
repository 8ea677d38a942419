//! A worker as a process of its own: `millrace worker PROPERTIES`, or Java's `ConnectDistributed PROPERTIES`, which can be
//! stopped, killed, frozen and thawed.
//!
//! ```text
//!  WorkerProcess::start -> the command, built once -> a ServiceProcess, whose folder goes with it
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::process::{ServiceProcess, Watch, free_port, tail, workspace};

/// A worker that does not answer within this time will not come.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A worker that has not ended by then never will.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running worker.
pub struct WorkerProcess {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    folder: PathBuf,
    process: Mutex<ServiceProcess>,
    /// exit code of a clean stop
    stopped: i32,
}

impl WorkerProcess {
    /// Starts a worker with these properties, and `listeners` and `state.dir` of its own. Returns when REST answers.
    ///
    /// # Errors
    /// When the command cannot be built or the worker does not come up; the end of its log is in the error.
    pub async fn start(properties: &[(&str, String)]) -> Result<Self> {
        Self::launch(properties, millrace_worker).await
    }

    /// Starts a Java worker of Apache Kafka 4.3.1 with these properties, `listeners` of its own and the file connectors.
    ///
    /// # Errors
    /// When Kafka cannot be fetched or the worker does not come up; the end of its log is in the error.
    pub async fn start_java(properties: &[(&str, String)]) -> Result<Self> {
        Self::launch(properties, java_worker).await
    }

    /// A Java worker as [`Self::start_java`], whose only plugin is Debezium's connector for PostgreSQL.
    ///
    /// # Errors
    /// As [`Self::start_java`], for Debezium too.
    pub async fn start_debezium(properties: &[(&str, String)]) -> Result<Self> {
        Self::launch(properties, debezium_worker).await
    }

    async fn launch(
        properties: &[(&str, String)],
        command: fn(&mut Vec<(String, String)>) -> Result<Vec<OsString>>,
    ) -> Result<Self> {
        let properties: Vec<(String, String)> = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let worker = tokio::task::spawn_blocking(move || Self::spawn(properties, command)).await??;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let answer = reqwest::get(format!("{}/", worker.url)).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(worker);
            }
            let ended = worker.process().ended()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!(
                    "the worker does not answer ({ended:?}); the end of its log:\n{}",
                    worker.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn spawn(
        mut properties: Vec<(String, String)>,
        command: fn(&mut Vec<(String, String)>) -> Result<Vec<OsString>>,
    ) -> Result<Self> {
        let command = command(&mut properties)?;
        let folder = tempfile::Builder::new().prefix("millrace-worker-").tempdir()?.keep();
        let port = free_port()?;
        let mut text = format!(
            "listeners=http://127.0.0.1:{port}\nstate.dir={}\n",
            folder.join("state").display()
        );
        for (name, value) in &properties {
            text.push_str(&format!("{name}={value}\n"));
        }
        let path = folder.join("worker.properties");
        std::fs::write(&path, text)?;
        // A JVM that ends in order at SIGTERM says 143.
        let stopped = if command.first().is_some_and(|program| program == "java") {
            143
        } else {
            0
        };
        let mut command = command.iter();
        let mut worker = Command::new(command.next().context("a worker without a command")?);
        worker.args(command).arg(&path);
        let watch = Watch {
            log: &folder.join("worker.log"),
            folder: Some(&folder),
            stop: Signal::TERM,
        };
        Ok(Self {
            url: format!("http://127.0.0.1:{port}"),
            process: Mutex::new(ServiceProcess::watch("the worker", &worker, &watch)?),
            folder,
            stopped,
        })
    }

    fn process(&self) -> std::sync::MutexGuard<'_, ServiceProcess> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `host:port`, as statuses name this worker.
    pub fn id(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Stops the worker cleanly (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub async fn stop(&self) -> Result<()> {
        self.process().signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            let ended = self.process().ended()?;
            match ended {
                Some(status) => {
                    let in_order = status.code() == Some(self.stopped);
                    ensure!(in_order, "the worker ended with {status}:\n{}", self.log_tail());
                    return Ok(());
                }
                None if Instant::now() > deadline => bail!("the worker does not stop:\n{}", self.log_tail()),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Kills the worker at once (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.process().signal(Signal::KILL)
    }

    /// Freezes the worker (SIGSTOP): it holds its connections and does nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.process().signal(Signal::STOP)
    }

    /// Lets a frozen worker go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.process().signal(Signal::CONT)
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.join("worker.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        tail(&self.folder.join("worker.log"), 60)
    }
}

impl Drop for WorkerProcess {
    #[allow(clippy::print_stderr)] // what a failed test says
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut kept = std::env::temp_dir();
            kept.push(format!("millrace-worker-{}.log", self.id().replace(':', "-")));
            let copied = std::fs::copy(self.folder.join("worker.log"), &kept);
            eprintln!(
                "the log of worker {} is kept in {}: {copied:?}",
                self.id(),
                kept.display()
            );
        }
    }
}

fn millrace_worker(_: &mut Vec<(String, String)>) -> Result<Vec<OsString>> {
    Ok(vec![millrace()?.into(), "worker".into()])
}

fn java_worker(properties: &mut Vec<(String, String)>) -> Result<Vec<OsString>> {
    java_worker_with("connect-plugins", properties)
}

fn debezium_worker(properties: &mut Vec<(String, String)>) -> Result<Vec<OsString>> {
    java_worker_with("debezium", properties)
}

fn java_worker_with(plugins: &str, properties: &mut Vec<(String, String)>) -> Result<Vec<OsString>> {
    let libs = kafka_script("install")?;
    properties.push(("plugin.path".to_owned(), kafka_script(plugins)?));
    properties.push(("plugin.discovery".to_owned(), "service_load".to_owned()));
    let arguments = [
        "java",
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        &format!("{libs}/*"),
        "org.apache.kafka.connect.cli.ConnectDistributed",
    ];
    Ok(arguments.map(OsString::from).to_vec())
}

fn kafka_script(command: &str) -> Result<String> {
    let script = workspace().join("scripts/kafka.sh");
    let output = Command::new(&script).arg(command).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("run {}", script.display()))?;
    ensure!(
        output.status.success(),
        "scripts/kafka.sh {command} failed; see its output above"
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The command, built once for all tests of a binary, with the features that tests are built with: a test of the
/// command's own package brings it along.
fn millrace() -> Result<&'static Path> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match built {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

fn build() -> Result<PathBuf> {
    // target/PROFILE/deps/THIS
    let this = std::env::current_exe()?;
    let profile = this.parent().and_then(Path::parent).context("no target directory")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["test", "--no-run", "--workspace", "--test", "demo"])
        .current_dir(workspace());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let output = cargo.output().context("run cargo test --no-run")?;
    ensure!(
        output.status.success(),
        "building the millrace command failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(profile.join("millrace"))
}
