//! The real worker as a process: the built `millrace` command on a properties file, driven over REST.
//!
//! ```text
//!  WorkerProcess::new(bootstrap, group) -> set properties -> start (spawn, wait for REST and extensions)
//!     put, get, until: REST          start_to_crash: as start, with a crash point armed
//!     kill, stop, wait_until_killed -> wipe_state -> start again: same port, same directories
//! ```
//! Its log is kept (see [`crate::process`]).

use crate::process::{ServiceProcess, build_directory, free_port, workspace};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A condition that does not hold by then never will.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// A worker with its properties and directories; at most one process at a time.
pub struct WorkerProcess {
    /// tells the workers of one test apart
    name: String,
    directory: tempfile::TempDir,
    /// which directory it runs in
    runs_in: PathBuf,
    properties: BTreeMap<String, String>,
    port: u16,
    http: reqwest::Client,
    process: Option<ServiceProcess>,
}

impl WorkerProcess {
    /// A worker of a group of its own, not started. Internal topics have one replica, and a member that has died is given up
    /// as soon as Kafka allows.
    ///
    /// # Errors
    /// When there is no port or no temporary directory.
    pub fn new(bootstrap: &str, group: &str) -> Result<WorkerProcess> {
        let mut properties = BTreeMap::new();
        for (name, value) in [
            ("bootstrap.servers", bootstrap),
            ("group.id", group),
            ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
            ("value.converter.schemas.enable", "false"),
            ("config.storage.topic", &format!("{group}-configs")),
            ("offset.storage.topic", &format!("{group}-offsets")),
            ("status.storage.topic", &format!("{group}-status")),
            ("config.storage.replication.factor", "1"),
            ("offset.storage.replication.factor", "1"),
            ("status.storage.replication.factor", "1"),
            ("offset.storage.partitions", "1"),
            ("status.storage.partitions", "1"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "1000"),
            ("scheduled.rebalance.max.delay.ms", "0"),
            ("inference.registry.replication.factor", "1"),
            ("inference.cores", "2"),
        ] {
            properties.insert(name.to_owned(), value.to_owned());
        }
        Self::with_properties(group, properties, Path::new("."))
    }

    /// A worker with exactly these properties but for `listeners` and `state.dir`, which are its own. Not started. `name`
    /// tells the workers of one test apart; relative paths in its properties are below `runs_in`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_properties(
        name: &str,
        mut properties: BTreeMap<String, String>,
        runs_in: &Path,
    ) -> Result<WorkerProcess> {
        let directory = tempfile::Builder::new().prefix("millrace-worker-").tempdir()?;
        let port = free_port()?;
        let state = directory.path().join("state").display().to_string();
        properties.insert("listeners".to_owned(), format!("http://127.0.0.1:{port}"));
        properties.insert("state.dir".to_owned(), state);
        Ok(WorkerProcess {
            name: name.to_owned(),
            directory,
            runs_in: runs_in.to_owned(),
            properties,
            port,
            http: reqwest::Client::builder().timeout(PATIENCE).build()?,
            process: None,
        })
    }

    /// Sets a property for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.properties.insert(name.to_owned(), value.to_owned());
    }

    /// `host:port`, as statuses name this worker.
    pub fn id(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory of this worker alone: `state.dir` is `state` below it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the process and waits until it answers and its extensions have started.
    ///
    /// # Errors
    /// When it cannot be built or does not get so far; the end of its log is in the error.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn(&[]).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let healthy = self.request("GET", "/health", None).await;
            let extended = self.request("GET", "/inference", None).await;
            if let (Ok((200, _)), Ok((200, _))) = (&healthy, &extended) {
                return Ok(());
            }
            if !self.is_running()? || Instant::now() > deadline {
                bail!(
                    "the worker did not start ({healthy:?}, {extended:?}); log {}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Starts the process and returns at once.
    ///
    /// # Errors
    /// When it cannot be built or spawned.
    pub async fn start_without_waiting(&mut self) -> Result<()> {
        self.spawn(&[]).await
    }

    /// Starts a process that dies by SIGKILL at a place of `crash_point`: `NAME`, or `NAME@N` for its Nth pass. It is not
    /// waited for.
    ///
    /// # Errors
    /// When it cannot be built or spawned.
    pub async fn start_to_crash(&mut self, crash_point: &str) -> Result<()> {
        self.spawn(&[(crash_point::VARIABLE, crash_point)]).await
    }

    async fn spawn(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let binary = binary()?;
        let file = self.directory.path().join("worker.properties");
        let text: String = self
            .properties
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        std::fs::write(&file, text)?;
        let arguments = [Path::new("worker"), &file];
        self.process = None;
        let spawned = ServiceProcess::spawn_in(&self.runs_in, &self.name, &binary, arguments, environment);
        self.process = Some(spawned?);
        Ok(())
    }

    /// Kills the process at once (SIGKILL). Returns when it is gone.
    ///
    /// # Errors
    /// When none runs, or it had ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the worker does not run")?.kill()
    }

    /// Stops the process (SIGTERM). Returns its exit code when it is gone.
    ///
    /// # Errors
    /// When none runs, or it had ended by itself.
    pub fn stop(&mut self) -> Result<i32> {
        self.process.take().context("the worker does not run")?.stop()
    }

    /// Whether the process runs.
    ///
    /// # Errors
    /// The operating system's.
    pub fn is_running(&mut self) -> Result<bool> {
        self.process.as_mut().map_or(Ok(false), ServiceProcess::is_running)
    }

    /// Whether the process has ended by SIGKILL, at a crash point for instance.
    ///
    /// # Errors
    /// The operating system's.
    pub fn was_killed(&mut self) -> Result<bool> {
        self.process.as_mut().map_or(Ok(false), ServiceProcess::was_killed)
    }

    /// Deletes the local copies of all stores; only while no process runs.
    ///
    /// # Errors
    /// When a process runs, or the disk's.
    pub fn wipe_state(&mut self) -> Result<()> {
        if self.is_running()? {
            bail!("the worker runs: kill or stop it before its state is wiped");
        }
        let state = self.properties.get("state.dir").map(PathBuf::from).unwrap_or_default();
        match std::fs::remove_dir_all(&state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("wipe the state"),
            _ => Ok(()),
        }
    }

    /// A request: status and body (JSON, or its text as a string).
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Puts a document: a connector's configuration at `/connectors/NAME/config`, a resource below `/inference`.
    ///
    /// # Errors
    /// When the answer is no success; it is in the error.
    pub async fn put(&self, path: &str, document: &Value) -> Result<Value> {
        self.success("PUT", path, Some(document)).await
    }

    /// Puts a document that is text: YAML, or JSON as it stands in a file.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_text(&self, path: &str, content_type: &str, text: String) -> Result<()> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = self.http.put(&url).header("content-type", content_type).body(text);
        let response = request.send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!("PUT {path}: {status} {}", response.text().await?);
        }
        Ok(())
    }

    /// The answer to `GET path`.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.success("GET", path, None).await
    }

    /// A request whose answer must be a success.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn success(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.request(method, path, body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }

    /// Waits until `condition` holds of the answer to `GET path`, and returns it. Answers that do not come are waited out.
    ///
    /// # Errors
    /// When it does not hold in time; the last answer and the end of the log are in the error.
    pub async fn until(&self, path: &str, condition: impl Fn(u16, &Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.request("GET", path, None).await;
            match answer {
                Ok((status, body)) if condition(status, &body) => return Ok(body),
                _ if Instant::now() > deadline => {
                    bail!(
                        "GET {path} never became what it should: {answer:?}; log {}",
                        self.log_tail()
                    )
                }
                _ => tokio::time::sleep(PROBE_INTERVAL).await,
            }
        }
    }

    /// The log of all its processes so far.
    pub fn log(&self) -> String {
        let log = self.process.as_ref().map(|process| std::fs::read(process.log()));
        String::from_utf8_lossy(&log.and_then(Result::ok).unwrap_or_default()).into_owned()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map(ServiceProcess::log_tail).unwrap_or_default()
    }
}

/// The `millrace` command beside the test's own executable, with the features of the whole workspace: crash points are armed.
/// `cargo test --workspace` builds it before it runs any test. One that is older than the code is refused.
fn binary() -> Result<PathBuf> {
    const BUILD: &str = "build it with `make build`";
    let binary = build_directory()?.join("millrace");
    let built = std::fs::metadata(&binary).and_then(|file| file.modified());
    let built = built.with_context(|| format!("{} is not there: {BUILD}", binary.display()))?;
    let mut open: Vec<PathBuf> = std::fs::read_dir(workspace())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // Those two use the command, and are no part of it.
    let is_part = |directory: &PathBuf| !directory.ends_with("tests") && !directory.ends_with("benches");
    open.retain(|directory| directory.join("Cargo.toml").is_file() && is_part(directory));
    open.iter_mut().for_each(|directory| directory.push("src"));
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if std::fs::metadata(&path)?.modified()? > built {
                bail!("{} is older than {}: {BUILD}", binary.display(), path.display());
            }
        }
    }
    Ok(binary)
}
