//! The whole path: topic, lookup, keyed state with changelog, models, outputs to topics; beside a Kafka Streams application that
//! does the same. Whose turn it is has one core, the broker the other; all events are there before it starts.
//!
//! ```text
//!   events, catalog --> millrace | Kafka Streams --> predictions, as a read_committed subscriber gets them
//!                                                       half of them committed: the clock starts     all: it stops
//! ```
//! By half of the events Java's compilers have had 10 seconds and more. All outputs are read back and counted on both sides; in
//! the first round the predictions themselves are compared.

use crate::contest::{self, Bench, Build, Contest, Figure, Side, Subjects, Terms, Together};
use crate::cores::Placement;
use crate::events;
use crate::job::{self, Job};
use crate::outputs::{Moment, Outputs};
use crate::predictions::{self, Decode, Predictions};
use crate::process::Program;
use crate::scratch::Scratch;
use crate::streams::Application;
use crate::worker::{Place, Worker};
use anyhow::{Context, Result};
use std::cell::{Cell, OnceCell};
use std::fmt::{self, Display};
use tests::kafka::KafkaBroker;

/// Topic of the events.
const INPUT: &str = "events.purchases";
/// Rounds of each case, and pairs of runs of two builds.
const ROUNDS: usize = 3;
const PAIRS: usize = 5;

/// The peer, in one of its modes.
#[derive(Clone, Copy, Debug)]
struct Mode {
    /// rows for which a model waits
    batch: usize,
}

impl Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kafka Streams + ONNX Runtime, ")?;
        match self.batch {
            1 => f.write_str("per event"),
            batch => write!(f, "in batches of {batch}"),
        }
    }
}

/// Measures with 1, 3 and 30 models, at least once and exactly once.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench {
        subjects,
        rounds,
        together,
        sizes,
        purchases,
        scratch,
        report,
    } = bench;
    let cases = [
        (3, "at_least_once", sizes.events),
        (3, "exactly_once_v2", sizes.events),
        (1, "at_least_once", sizes.events),
        (30, "at_least_once", sizes.events / 6),
    ];
    for (models, guarantee, events) in cases {
        let broker = KafkaBroker::start().await?;
        let bootstrap = broker.bootstrap();
        job::create_topics(&bootstrap, &[INPUT.to_owned()]).await?;
        let catalog_rows = job::create_catalog(&bootstrap).await?;
        events::send_events(&bootstrap, INPUT, purchases, events)?;
        let mut path = Path {
            bootstrap,
            scratch,
            models,
            guarantee,
            events,
            catalog_rows,
            runs: Cell::new(0),
            reference: OnceCell::new(),
        };
        let plural = if models == 1 { "" } else { "s" };
        let terms = Terms {
            name: format!("path, {models} model{plural}, {guarantee}"),
            cores: Placement::Own,
            peers: vec![Mode { batch: 64 }, Mode { batch: 1 }],
            rounds: ROUNDS,
            pairs: PAIRS,
        };
        match subjects {
            Subjects::TwoBuilds(before, after) if *together => {
                contest::hold_together(&mut path, &terms, [before, after], *rounds, report).await?;
            }
            _ => contest::hold(&mut path, &terms, subjects, *rounds, report).await?,
        }
    }
    Ok(())
}

struct Path<'a> {
    bootstrap: String,
    scratch: &'a Scratch,
    models: usize,
    guarantee: &'static str,
    events: usize,
    catalog_rows: usize,
    runs: Cell<usize>,
    /// what the first run has predicted
    reference: OnceCell<Predictions>,
}

impl Contest for Path<'_> {
    type Peer = Mode;

    async fn run(&mut self, side: &Side<Mode>, round: usize) -> Result<Vec<Figure>> {
        self.one(side, round).await
    }
}

impl Together for Path<'_> {
    async fn run_both(&mut self, builds: [&Build; 2], round: usize) -> Result<[Vec<Figure>; 2]> {
        let [before, after] = builds.map(|build| Side::Millrace(build.clone()));
        let (before, after) = tokio::try_join!(self.one(&before, round), self.one(&after, round))?;
        Ok([before, after])
    }
}

impl Path<'_> {
    async fn one(&self, side: &Side<Mode>, round: usize) -> Result<Vec<Figure>> {
        self.runs.set(self.runs.get() + 1);
        let job = Job {
            name: format!("run-{}", self.runs.get()),
            input: INPUT.to_owned(),
            models: self.models,
            guarantee: self.guarantee,
            options: Vec::new(),
            key: "event.household_id",
        };
        let directory = self.scratch.folder()?;
        let figures = match side {
            Side::Millrace(build) => {
                let topics = job.outputs();
                job::create_topics(&self.bootstrap, &topics).await?;
                let place = Place {
                    bootstrap: &self.bootstrap,
                    directory: directory.path(),
                    placement: Placement::Own,
                    group: &job.name,
                };
                let mut worker = Worker::start(&build.binary, place, &[("inference.cores", "1")]).await?;
                job::put_resources(&mut worker, &job, self.catalog_rows).await?;
                job::start(&worker, &job).await?;
                let (half, all) = self
                    .second_half(&mut worker.process, &topics, predictions::decode_millrace, round)
                    .await?;
                print_stages(&half, &all, self.models);
                let changes = print_sizes(&worker, &self.bootstrap, &job, self.events as f64).await?;
                worker.process.stop()?;
                let mut figures = figures(&half, &all, self.models);
                // Of everything that this process did: exactly once, outputs show a whole commit after the work for them, so that
                // what lies between two moments of theirs is less the longer a commit lasts.
                let cpu_seconds = all.usage.cpu_seconds / self.events as f64 * 1e6;
                figures.push(Figure::cost(
                    "CPU with the start",
                    "CPU-s per million events",
                    cpu_seconds,
                ));
                figures.push(Figure::cost("changelog records", "per event", changes));
                figures
            }
            Side::Peer(mode) => {
                let topic = job.output("all");
                job::create_topics(&self.bootstrap, std::slice::from_ref(&topic)).await?;
                let application = Application {
                    id: &job.name,
                    models: &job.models_of_streams(),
                    batch: mode.batch,
                    guarantee: self.guarantee,
                    events: INPUT,
                    products: events::CATALOG,
                    predictions: &topic,
                    table_in_memory: true,
                    more: &[],
                };
                let mut streams = application.start(&self.bootstrap, directory.path(), Placement::Own)?;
                let (half, all) = self
                    .second_half(&mut streams.process, &[topic], predictions::decode_streams, round)
                    .await?;
                figures(&half, &all, self.models)
            }
        };
        job::delete_topics(&self.bootstrap, &job.name).await?;
        Ok(figures)
    }

    /// From half of the outputs to all of them. In the first round the predictions are compared, too.
    async fn second_half(
        &self,
        program: &mut Program,
        topics: &[String],
        decode: Decode,
        round: usize,
    ) -> Result<(Moment, Moment)> {
        let expected = (self.events * self.models) as u64;
        let decode = (round == 0).then_some(decode);
        let outputs = Outputs::of(program, &self.bootstrap, topics, expected, decode).await?;
        let (half, all) = (outputs.reached(expected / 2)?, outputs.all()?);
        if round == 0 {
            self.compare(outputs.predictions)?;
        }
        Ok((half, all))
    }

    /// Every event was predicted once by every model, and as by who went first.
    fn compare(&self, predictions: Predictions) -> Result<()> {
        predictions.check_complete(self.events, self.models)?;
        match self.reference.get() {
            Some(reference) => {
                let difference = reference.check_same(&predictions);
                let difference = difference.context("the sides do not predict the same")?;
                println!("    predictions differ by {difference:e} at most");
            }
            None => drop(self.reference.set(predictions)),
        }
        Ok(())
    }
}

/// Of the events between two moments.
fn figures(half: &Moment, all: &Moment, models: usize) -> Vec<Figure> {
    let events = (all.outputs - half.outputs) as f64 / models as f64;
    let seconds = (all.at - half.at).as_secs_f64();
    let cpu_seconds = all.usage.cpu_seconds - half.usage.cpu_seconds;
    vec![
        Figure::rate("", "events/s", events / seconds),
        Figure::cost("CPU", "CPU-s per million events", cpu_seconds / events * 1e6),
        Figure::peak_memory(all.usage.peak_bytes),
    ]
}

/// What a stage may cost for three models, in microseconds of CPU per event (design: budgets), and the threads that do it.
const STAGES: [(&str, f64, &[&str]); 4] = [
    ("fetch", 0.3, &["rdk:broker"]),
    (
        "parse, match, features, state with its local copy",
        3.7,
        &["task-inference", "rocksdb"],
    ),
    ("models, outputs encoded", 2.5, &["inference"]),
    ("changelog and outputs to Kafka", 2.1, &["outputs", "commit"]),
];

/// Where the time goes: CPU microseconds per event by stage beside the stage's budget, and of each thread.
fn print_stages(half: &Moment, all: &Moment, models: usize) {
    let events = (all.outputs - half.outputs) as f64 / models as f64;
    let (before, after) = (&half.usage, &all.usage);
    let mut threads: Vec<(f64, &str)> = after
        .threads
        .iter()
        .map(|(name, seconds)| {
            let since = seconds - before.threads.get(name).copied().unwrap_or_default();
            (since / events * 1e6, name.as_str())
        })
        .filter(|(micros, _)| *micros >= 0.01)
        .collect();
    threads.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (stage, budget, of) in STAGES {
        let micros: f64 = threads
            .iter()
            .filter(|(_, name)| of.iter().any(|start| name.starts_with(start)))
            .map(|(micros, _)| micros)
            .sum();
        println!("    {stage:<50} {micros:>7.2} us CPU per event, budget {budget}");
    }
    for (micros, name) in threads {
        println!("        thread {name:<39} {micros:>7.2}");
    }
}

/// How large the work is: state, changelog, outputs. Returns the changelog's records per event: the longer a commit lasts, the
/// more changes of a key are one record, and the less there is to do for an event.
async fn print_sizes(worker: &Worker, bootstrap: &str, job: &Job, events: f64) -> Result<f64> {
    for (store, kind) in [
        ("household_state", "keyed"),
        ("basket_state", "keyed"),
        ("products", "global"),
    ] {
        let family = format!("millrace_inference_store_rows{{store=\"{store}\",kind=\"{kind}\"}}");
        println!(
            "    {:<50} {:>7}",
            format!("keys of {store}"),
            worker.metric(&family).await?
        );
    }
    let commits = worker.metric("millrace_inference_commits_total").await?;
    println!("    {:<50} {commits:>7}", "commits");
    let seconds = worker
        .metric("millrace_inference_stage_seconds_total{stage=\"commit\"}")
        .await?;
    println!("    {:<50} {:>7.0}", "ms of a commit", seconds / commits * 1e3);
    let changes = worker.metric("millrace_inference_state_changes_total").await?;
    println!("    {:<50} {:>7.2}", "changelog records per event", changes / events);
    let expired = worker.metric("millrace_inference_expired_total").await?;
    println!("    {:<50} {:>7.2}", "entries expired per event", expired / events);
    let bytes = events::mean_bytes(bootstrap, &job.output("gamma"))?;
    let per_event = bytes * job.models as f64;
    println!("    {:<50} {per_event:>7.0}", "bytes of output per event");
    Ok(changes / events)
}
