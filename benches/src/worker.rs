//! A worker of Kafka Connect, ours or Java's, with its REST interface.

use crate::cores::Placement;
use crate::process::{self, Program};
use ::tests::process::free_port;
use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A worker that does not answer by then will not.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at whether a worker answers.
const PROBE_INTERVAL: Duration = Duration::from_millis(2);

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
    /// the process
    pub process: Program,
    http: reqwest::Client,
    url: String,
    /// from the start of the process to the first answer of `GET /` that is a 200
    pub ready_after: Duration,
}

/// What is needed to start a worker, but for its command.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// of the broker
    pub bootstrap: &'a str,
    /// for its files
    pub directory: &'a Path,
    /// where it runs
    pub placement: Placement,
    /// `group.id`, which also names its internal topics
    pub group: &'a str,
}

impl Worker {
    /// Starts a worker of millrace, with more (or other) properties.
    pub async fn start(binary: &Path, place: Place<'_>, properties: &[(&str, &str)]) -> Result<Worker> {
        ensure!(
            binary.exists(),
            "there is no {}: `make build` builds the command",
            binary.display()
        );
        let command = [binary.as_os_str().to_owned(), "worker".into()];
        Self::launch(&command, place, properties).await
    }

    /// Starts a Java worker of Apache Kafka, with the Java options that Kafka's own scripts give it. `plugins` is its plugin
    /// path.
    pub async fn start_java(plugins: &str, place: Place<'_>) -> Result<Worker> {
        let classes = format!("{}/*", process::kafka_script("install")?);
        let command: Vec<OsString> = ["java"]
            .into_iter()
            .chain(JAVA_OPTIONS)
            .chain(["-cp", &classes, "org.apache.kafka.connect.cli.ConnectDistributed"])
            .map(OsString::from)
            .collect();
        let properties = [("plugin.path", plugins), ("plugin.discovery", "service_load")];
        Self::launch(&command, place, &properties).await
    }

    async fn launch(command: &[OsString], place: Place<'_>, more: &[(&str, &str)]) -> Result<Worker> {
        let port = free_port()?;
        let Place {
            bootstrap,
            directory,
            group,
            ..
        } = place;
        let mut properties = format!(
            "bootstrap.servers={bootstrap}\ngroup.id={group}\nlisteners=http://127.0.0.1:{port}\n\
             config.storage.topic={group}-configs\noffset.storage.topic={group}-offsets\nstatus.storage.topic={group}-status\n\
             config.storage.replication.factor=1\noffset.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=false\n\
             inference.registry.replication.factor=1\ninference.artifact.allowed.prefixes=file://configs/demo/models/\n\
             state.dir={}\narchive.url=file://{}\n",
            directory.join("state").display(),
            directory.join("archive").display(),
        );
        for (name, value) in more {
            let _ = writeln!(properties, "{name}={value}");
        }
        std::fs::create_dir_all(directory)?;
        let path = directory.join("worker.properties");
        std::fs::write(&path, properties)?;
        let started = Instant::now();
        let command = command.iter().cloned().chain([path.into_os_string()]);
        let mut worker = Worker {
            process: Program::start(place.placement, command, directory.join("worker.log"))?,
            http: reqwest::Client::new(),
            url: format!("http://127.0.0.1:{port}"),
            ready_after: Duration::ZERO,
        };
        while !answers(&worker.http, &worker.url).await {
            worker.process.check()?;
            if started.elapsed() > START_TIMEOUT {
                bail!("the worker does not answer: {}", worker.process.log_tail());
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
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
            self.process.check()?;
            if Instant::now() > deadline {
                bail!(
                    "{family} is {seen}, not {value}, after {patience:?}: {}",
                    self.process.log_tail()
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
}

/// Whether it is ready: before, a worker refuses the connection, or answers that it is starting.
async fn answers(http: &reqwest::Client, url: &str) -> bool {
    let answer = http.get(url).send().await;
    answer.is_ok_and(|answer| answer.status() == reqwest::StatusCode::OK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    /// Answers one request after the other with these status lines.
    fn server(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                lines
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .for_each(drop);
                write!(
                    stream,
                    "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                .unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn a_worker_is_ready_when_it_answers_200() {
        let http = reqwest::Client::new();
        let url = server(&["404 Not Found", "503 Service Unavailable", "200 OK"]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(answers(&http, &url).await);
        }
        assert_eq!(seen, [false, false, true]);
        assert!(!answers(&http, "http://127.0.0.1:1").await, "nobody is there");
    }
}
