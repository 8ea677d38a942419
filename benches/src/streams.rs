//! The Kafka Streams application of benches/streams-peer: the same features, state, models and outputs, as a Java team would write
//! them with ONNX Runtime.

use crate::cores::Placement;
use crate::process::{self, Program};
use anyhow::{Result, bail};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// What has not started by then will not.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// Heap and collector of whoever runs it for throughput; what it logs about itself is left out.
const JAVA_OPTIONS: [&str; 4] = [
    "-Xms512m",
    "-Xmx1g",
    "-XX:+UseParallelGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

/// How it is run.
#[derive(Clone, Debug)]
pub struct Application<'a> {
    /// `application.id`, which also names its changelog
    pub id: &'a str,
    /// its models, as the application's `models` has it
    pub models: &'a str,
    /// rows for which a model waits; with 1 it runs at each event
    pub batch: usize,
    /// `processing.guarantee`
    pub guarantee: &'a str,
    /// topic of the events
    pub events: &'a str,
    /// topic of the catalog, for its GlobalKTable
    pub products: &'a str,
    /// topic of the predictions
    pub predictions: &'a str,
    /// its GlobalKTable is in memory, not in RocksDB
    pub table_in_memory: bool,
    /// more of its arguments
    pub more: &'a [(&'a str, &'a str)],
}

/// A running application.
pub struct Streams {
    /// the process
    pub process: Program,
}

impl Application<'_> {
    /// Starts it; its state goes below `directory`.
    pub fn start(&self, bootstrap: &str, directory: &Path, placement: Placement) -> Result<Streams> {
        std::fs::create_dir_all(directory)?;
        let state = directory.join("state").display().to_string();
        let batch = self.batch.to_string();
        let exactly_once = (self.guarantee == "exactly_once_v2").to_string();
        let arguments = [
            ("bootstrap", bootstrap),
            ("id", self.id),
            ("state_dir", &state),
            ("models_dir", "configs/demo/models"),
            ("models", self.models),
            ("batch", &batch),
            ("eos", &exactly_once),
            ("global", if self.table_in_memory { "mem" } else { "rocksdb" }),
            ("events", self.events),
            ("products", self.products),
            ("predictions", self.predictions),
        ];
        let arguments = arguments.iter().chain(self.more);
        let mut command: Vec<OsString> = vec!["java".into()];
        command.extend(JAVA_OPTIONS.map(OsString::from));
        command.extend([
            "-cp".into(),
            process::kafka_script("streams-peer")?.into(),
            "StreamsPeer".into(),
        ]);
        command.extend(arguments.map(|(name, value)| format!("{name}={value}").into()));
        Ok(Streams {
            process: Program::start(placement, command, directory.join("streams.log"))?,
        })
    }
}

impl Streams {
    /// Waits for a line of its output that contains a text, and returns the line.
    pub async fn says(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(line) = self.process.output().lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            self.process.check()?;
            if Instant::now() > deadline {
                bail!("the application does not say {text:?}: {}", self.process.log_tail());
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Waits until it processes.
    pub async fn until_running(&mut self) -> Result<()> {
        self.says("\"state\":\"RUNNING\"").await.map(drop)
    }
}
