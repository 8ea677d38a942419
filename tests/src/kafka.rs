//! An Apache Kafka broker for a test: one node, its own folder and ports, gone with the test.
//!
//! ```text
//!  KafkaBroker::start -> scripts/kafka.sh install (once per machine) -> format -> the JVM as a ServiceProcess, whose folder
//!     goes with it
//! ```

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kafka_client::{ClientConfig, Consumer, IsolationLevel, LogRecord, RawConnection, StartOffset, TopicPartition};
use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::process::{ServiceProcess, Watch, free_port, tail, workspace};

/// A broker that does not answer within this time will not come.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// Between two looks at whether it answers.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// Options of the JVM under a broker. C1 alone compiles in both: C2 is at it for minutes, on the cores that are tested and
/// measured.
#[derive(Clone, Copy, Debug)]
enum Jvm {
    /// up soon, and small
    Test,
    /// as Kafka's documentation has it for production; the small one collects twice a second, for 10 to 100 ms each time
    Measuring,
}

impl Jvm {
    fn options(self) -> &'static [&'static str] {
        match self {
            Jvm::Test => &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
            Jvm::Measuring => &[
                "-Xms6g",
                "-Xmx6g",
                "-XX:+AlwaysPreTouch",
                "-XX:MetaspaceSize=96m",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:G1HeapRegionSize=16M",
                "-XX:MinMetaspaceFreeRatio=50",
                "-XX:MaxMetaspaceFreeRatio=80",
            ],
        }
    }
}

/// A running broker of Apache Kafka 4.3.1.
pub struct KafkaBroker {
    folder: PathBuf,
    libs: PathBuf,
    port: u16,
    jvm: Jvm,
    process: Mutex<Option<ServiceProcess>>,
}

/// One broker for all tests of a binary.
static SHARED: OnceCell<KafkaBroker> = OnceCell::const_new();

impl KafkaBroker {
    /// The broker that tests of this binary share; it ends with the process. Use topics of your own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(Self::start).await
    }

    /// A broker of one's own.
    ///
    /// # Errors
    /// When Kafka cannot be fetched or does not start; the end of its log is in the error.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`Self::start`], with more (or other) broker properties. `{port}` in a value becomes the broker's port.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_with(properties: &[(&str, &str)]) -> Result<Self> {
        let properties: Vec<(String, String)> = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::start_on(Jvm::Test, properties).await
    }

    /// A broker of one's own with memory as in production, to measure against.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_for_measuring() -> Result<Self> {
        Self::start_on(Jvm::Measuring, Vec::new()).await
    }

    async fn start_on(jvm: Jvm, properties: Vec<(String, String)>) -> Result<Self> {
        let broker = tokio::task::spawn_blocking(move || Self::prepare(jvm, &properties)).await??;
        broker.run().await?;
        Ok(broker)
    }

    fn prepare(jvm: Jvm, properties: &[(String, String)]) -> Result<Self> {
        let script = workspace().join("scripts/kafka.sh");
        let installed = Command::new(&script).arg("install").stderr(Stdio::inherit()).output();
        let installed = installed.with_context(|| format!("run {}", script.display()))?;
        if !installed.status.success() {
            bail!("scripts/kafka.sh install failed; see its output above");
        }
        let libs = PathBuf::from(String::from_utf8(installed.stdout)?.trim());
        let folder = tempfile::Builder::new().prefix("millrace-kafka-").tempdir()?.keep();
        let (port, controller_port) = (free_port()?, free_port()?);
        let broker = Self {
            folder,
            libs,
            port,
            jvm,
            process: Mutex::new(None),
        };
        broker.write_properties(controller_port, properties)?;
        broker.format()?;
        Ok(broker)
    }

    fn write_properties(&self, controller_port: u16, overrides: &[(String, String)]) -> Result<()> {
        let port = self.port;
        let mut properties: Vec<(String, String)> = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            (
                "listeners",
                format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
            ),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller_port}")),
            ("log.dirs", self.folder.join("data").display().to_string()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("offsets.topic.num.partitions", "4".to_owned()),
            ("transaction.state.log.replication.factor", "1".to_owned()),
            ("transaction.state.log.min.isr", "1".to_owned()),
            ("transaction.state.log.num.partitions", "4".to_owned()),
            ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
            ("share.coordinator.state.topic.min.isr", "1".to_owned()),
            ("share.coordinator.state.topic.num.partitions", "1".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            ("log.cleaner.backoff.ms", "100".to_owned()),
            // A broker that was killed may come back once its last session is over.
            ("broker.session.timeout.ms", "3000".to_owned()),
            ("broker.heartbeat.interval.ms", "500".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (name, value) in overrides {
            let value = value
                .replace("{port}", &port.to_string())
                .replace("{controller}", &controller_port.to_string());
            properties.retain(|(known, _)| known != name);
            properties.push((name.clone(), value));
        }
        let mut text = String::new();
        for (name, value) in properties {
            writeln!(text, "{name}={value}")?;
        }
        std::fs::write(self.folder.join("server.properties"), text)?;
        Ok(())
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command
            .args(self.jvm.options())
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true");
        command.arg("-cp").arg(self.libs.join("*")).arg(class);
        command
    }

    fn format(&self) -> Result<()> {
        let formatted = self
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "bWlsbHJhY2UtdGVzdHMtMQ", "-c"])
            .arg(self.folder.join("server.properties"))
            .output()
            .context("run java")?;
        if !formatted.status.success() {
            bail!(
                "formatting Kafka's storage failed: {}",
                String::from_utf8_lossy(&formatted.stderr)
            );
        }
        Ok(())
    }

    /// Starts the JVM and waits until the broker answers.
    async fn run(&self) -> Result<()> {
        let mut java = self.java("kafka.Kafka");
        java.arg(self.folder.join("server.properties"));
        let watch = Watch {
            log: &self.log(),
            folder: Some(&self.folder),
            stop: Signal::TERM,
        };
        *self.process() = Some(ServiceProcess::watch("Kafka", &java, &watch)?);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = RawConnection::connect(&self.bootstrap()).await else {
                return Ok(());
            };
            let ended = match self.process().as_mut() {
                Some(process) => process.ended()?,
                None => bail!("the broker was stopped while it started"),
            };
            if let Some(status) = ended {
                bail!(
                    "Kafka ended with {status} while it started; the end of its log:\n{}",
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "Kafka did not answer ({error}); the end of its log:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<ServiceProcess>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// `host:port` for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client configuration that names this broker.
    pub fn config(&self) -> ClientConfig {
        ClientConfig::new(&self.bootstrap())
    }

    /// Kills the broker at once (SIGKILL); its data stays. Returns when it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process().take().context("the broker does not run")?;
        tokio::task::spawn_blocking(move || process.kill()).await?
    }

    /// Stops the broker cleanly (SIGTERM); its data stays. Returns when it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process().take().context("the broker does not run")?;
        tokio::task::spawn_blocking(move || process.stop().map(|_| ())).await?
    }

    /// Starts the broker again after `kill` or `stop`, on the same port with the same data; kills it first if it runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self) -> Result<()> {
        let runs = self.process().is_some();
        if runs {
            self.kill().await?;
        }
        self.run().await
    }

    /// Freezes the broker (SIGSTOP): it holds its connections and answers nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<()> {
        let mut process = self.process();
        process
            .as_mut()
            .context("the broker does not run")?
            .signal(Signal::STOP)
    }

    /// Lets a frozen broker go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<()> {
        let mut process = self.process();
        process
            .as_mut()
            .context("the broker does not run")?
            .signal(Signal::CONT)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// The last lines of the broker's log.
    pub fn log_tail(&self) -> String {
        tail(&self.log(), 40)
    }

    /// Everything in a topic as it is now, by partition and offset.
    ///
    /// # Errors
    /// When the topic is not there or cannot be read.
    pub async fn dump(&self, topic: &str, isolation: IsolationLevel) -> Result<Vec<LogRecord>> {
        let mut config = self.config();
        config.set(
            "isolation.level",
            match isolation {
                IsolationLevel::ReadUncommitted => "read_uncommitted",
                IsolationLevel::ReadCommitted => "read_committed",
            },
        );
        let described = kafka_client::Admin::new(&config)?.topic(topic).await?;
        let described = described.with_context(|| format!("topic {topic} is not there"))?;
        let partitions: Vec<_> = described
            .partitions
            .iter()
            .map(|p| (TopicPartition::new(topic, p.partition), StartOffset::Beginning))
            .collect();
        tokio::task::spawn_blocking(move || read_all(&config, &partitions)).await?
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        // A process takes the folder with it.
        if self.process().take().is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn read_all(config: &ClientConfig, partitions: &[(TopicPartition, StartOffset)]) -> Result<Vec<LogRecord>> {
    let consumer = Consumer::new(config)?;
    consumer.assign(partitions)?;
    let mut open: Vec<&TopicPartition> = partitions.iter().map(|(partition, _)| partition).collect();
    let mut records = Vec::new();
    while !open.is_empty() {
        let fetched = consumer.fetch(1000, Duration::from_secs(30))?;
        if fetched.is_empty() {
            bail!("nothing came from {open:?} for 30 s");
        }
        if let Some(error) = fetched.errors.into_iter().find(|error| !error.is_retriable()) {
            return Err(error.into());
        }
        open.retain(|partition| !fetched.end_of_partition.contains(partition));
        records.extend(fetched.messages.iter().map(|message| {
            LogRecord {
                topic: message.topic().into(),
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp_ms(),
                key: message.key_bytes(),
                value: message.value_bytes(),
                headers: message
                    .headers()
                    .map(|(name, value)| (name.to_owned(), value.map(bytes::Bytes::copy_from_slice)))
                    .collect(),
            }
        }));
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}
