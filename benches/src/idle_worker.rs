//! The worker by itself, beside Java's: how soon it answers, and what it takes when it has nothing to do. Each has one core, the
//! broker the other; each has a group of its own, whose topics are there from the first start on.

use crate::contest::{self, Bench, Contest, Figure, Side, Terms};
use crate::cores::Placement;
use crate::process;
use crate::report::median;
use crate::scratch::Scratch;
use crate::worker::{Place, Worker};
use anyhow::Result;
use std::fmt::{self, Display};
use std::time::Duration;
use tests::kafka::KafkaBroker;

/// Time after which it counts as idle, and for how long it is then watched.
const IDLE: Duration = Duration::from_secs(60);
const WATCHED: Duration = Duration::from_secs(30);
const STARTS: usize = 5;

/// A worker of Kafka Connect 4.3.1 with the file connectors, which finds its plugins in the faster of its ways.
#[derive(Clone, Copy, Debug)]
struct JavaWorker;

impl Display for JavaWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Java Connect worker, plugin.discovery=service_load")
    }
}

/// Measures starts, and one idle minute.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench {
        subjects,
        rounds,
        scratch,
        report,
        ..
    } = bench;
    let broker = KafkaBroker::start().await?;
    let mut alone = Alone {
        bootstrap: broker.bootstrap(),
        scratch,
    };
    let terms = Terms {
        name: "worker".to_owned(),
        cores: Placement::Own,
        peers: vec![JavaWorker],
        rounds: 1,
        pairs: 1,
    };
    contest::hold(&mut alone, &terms, subjects, *rounds, report).await
}

struct Alone<'a> {
    bootstrap: String,
    scratch: &'a Scratch,
}

impl Contest for Alone<'_> {
    type Peer = JavaWorker;

    async fn run(&mut self, side: &Side<JavaWorker>, _round: usize) -> Result<Vec<Figure>> {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(self.start(side).await?.ready_after.as_secs_f64());
        }
        let worker = self.start(side).await?;
        tokio::time::sleep(IDLE).await;
        let idle = worker.process.usage()?;
        tokio::time::sleep(WATCHED).await;
        let after = worker.process.usage()?;
        let of_a_core = (after.cpu_seconds - idle.cpu_seconds) / WATCHED.as_secs_f64() * 100.0;
        Ok(vec![
            Figure::cost(
                format!("start to the first 200 of GET /, median of {STARTS}"),
                "s",
                median(starts.into_iter()),
            ),
            Figure::cost("idle for 60 s, resident memory", "MB", idle.resident_bytes / 1e6),
            Figure::cost("idle, CPU", "% of a core", of_a_core),
            Figure::cost("idle, threads", "threads", idle.threads_now),
            Figure::peak_memory(after.peak_bytes),
        ])
    }
}

impl Alone<'_> {
    async fn start(&self, side: &Side<JavaWorker>) -> Result<Worker> {
        let directory = self.scratch.folder()?;
        let group = side.to_string().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let place = Place {
            bootstrap: &self.bootstrap,
            directory: directory.path(),
            placement: Placement::Own,
            group: &group,
        };
        match side {
            Side::Millrace(build) => Worker::start(&build.binary, place, &[]).await,
            Side::Peer(JavaWorker) => Worker::start_java(&process::kafka_script("connect-plugins")?, place).await,
        }
    }
}
