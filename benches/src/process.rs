//! The measured process: a worker on a core of its own, with what it uses as the kernel counts it.

use crate::cores;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A worker that does not answer by then will not.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// `USER_HZ`, in which Linux counts CPU time for programs; the same on every common architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `kafka-run-class.sh` and `connect-distributed.sh` give a worker.
const JAVA_OPTIONS: [&str; 7] = [
    "-server",
    "-Xms256M",
    "-Xmx2G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// A worker process with its REST interface.
pub struct Worker {
    child: Child,
    http: reqwest::Client,
    url: String,
    /// from the start of the process to the first answer of `GET /`
    pub ready_after: Duration,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// seconds of CPU by the name of the thread
    pub threads: BTreeMap<String, f64>,
    /// seconds of CPU, ended threads among them
    pub cpu_seconds: f64,
    /// resident memory now, in bytes
    pub resident_bytes: f64,
    /// the most that it ever was
    pub peak_bytes: f64,
}

impl Worker {
    /// Starts a worker on its core against a broker, with its files below `directory`.
    pub async fn start(bootstrap: &str, directory: &Path, extra: &[(&str, &str)]) -> Result<Worker> {
        let core = cores::WORKER.to_string();
        Self::launch(&core, &millrace()?, bootstrap, directory, extra).await
    }

    /// As [`Self::start`], on both cores.
    pub async fn start_unbound(bootstrap: &str, directory: &Path, extra: &[(&str, &str)]) -> Result<Worker> {
        let both = format!("{},{}", cores::WORKER, cores::OTHERS);
        Self::launch(&both, &millrace()?, bootstrap, directory, extra).await
    }

    /// Starts a Java worker of Apache Kafka on the measured core, with the Java options that Kafka's own scripts give it.
    /// `plugins` is its plugin path.
    pub async fn start_java(
        bootstrap: &str,
        directory: &Path,
        plugins: &str,
        extra: &[(&str, &str)],
    ) -> Result<Worker> {
        let core = cores::WORKER.to_string();
        let classes = format!("{}/*", kafka_script("install")?);
        let main = "org.apache.kafka.connect.cli.ConnectDistributed";
        let command: Vec<OsString> = ["java"]
            .into_iter()
            .chain(JAVA_OPTIONS)
            .chain(["-cp", &classes, main])
            .map(OsString::from)
            .collect();
        let mut properties = vec![("plugin.path", plugins), ("plugin.discovery", "service_load")];
        properties.extend(extra);
        Self::launch(&core, &command, bootstrap, directory, &properties).await
    }

    async fn launch(
        cores: &str,
        command: &[OsString],
        bootstrap: &str,
        directory: &Path,
        extra: &[(&str, &str)],
    ) -> Result<Worker> {
        let port = free_port()?;
        let mut properties = format!(
            "bootstrap.servers={bootstrap}\ngroup.id=bench\nlisteners=http://127.0.0.1:{port}\n\
             config.storage.topic=bench-configs\noffset.storage.topic=bench-offsets\nstatus.storage.topic=bench-status\n\
             config.storage.replication.factor=1\noffset.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=false\n\
             inference.registry.replication.factor=1\ninference.artifact.allowed.prefixes=file://configs/demo/models/\n\
             state.dir={}\narchive.url=file://{}\n",
            directory.join("state").display(),
            directory.join("archive").display(),
        );
        for (name, value) in extra {
            let _ = writeln!(properties, "{name}={value}");
        }
        std::fs::create_dir_all(directory)?;
        let path = directory.join("worker.properties");
        std::fs::write(&path, properties)?;
        let log = directory.join("worker.log");
        let started = Instant::now();
        let child = Command::new("taskset")
            .args(["-c", cores])
            .args(command)
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("run taskset")?;
        let mut worker = Worker {
            child,
            http: reqwest::Client::new(),
            url: format!("http://127.0.0.1:{port}"),
            ready_after: Duration::ZERO,
            log,
        };
        while worker.http.get(&worker.url).send().await.is_err() {
            if let Some(status) = worker.child.try_wait()? {
                bail!("the worker ended with {status}: {}", worker.log_tail());
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("the worker does not answer: {}", worker.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        worker.ready_after = started.elapsed();
        Ok(worker)
    }

    /// A request that must succeed; JSON in, JSON out.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let method = reqwest::Method::from_bytes(method.as_bytes())?;
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            // Until the worker has read its topics it says so; that is no failure of the request.
            if matches!(status.as_u16(), 404 | 409 | 503) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            if !status.is_success() {
                bail!("{method} {path}: {status} {text}");
            }
            return Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)));
        }
    }

    /// The sum of a Prometheus family over its labels; 0 if there is none yet.
    pub async fn metric(&self, family: &str) -> Result<f64> {
        let text = self
            .http
            .get(format!("{}/metrics", self.url))
            .send()
            .await?
            .text()
            .await?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix(family))
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Waits until a family's sum is at least `value`; the instant at which it was seen.
    pub async fn wait_for(&mut self, family: &str, value: f64, patience: Duration) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let seen = self.metric(family).await?;
            if seen >= value {
                return Ok(Instant::now());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the worker ended with {status}: {}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "{family} is {seen}, not {value}, after {patience:?}: {}",
                    self.log_tail()
                );
            }
            // Looking costs the worker time that is measured.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a connector and all its tasks run.
    pub async fn until_running(&self, connector: &str) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let status = self
                .request("GET", &format!("/connectors/{connector}/status"), None)
                .await?;
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            if !tasks.is_empty() && tasks.iter().all(|task| task["state"] == "RUNNING") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{connector} does not run: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it as an operator would, and waits until it has ended.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(
            pid.context("the worker has a process id")?,
            rustix::process::Signal::TERM,
        )?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the worker ended with {status}: {}", self.log_tail());
        Ok(())
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.child.id())
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command beside this one.
fn millrace() -> Result<Vec<OsString>> {
    let binary = std::env::current_exe()?.with_file_name("millrace");
    ensure!(binary.exists(), "{} is built by `make build`", binary.display());
    Ok(vec![binary.into(), "worker".into()])
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

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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
