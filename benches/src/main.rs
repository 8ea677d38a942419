//! `make bench`: the product beside the programs it replaces. `make bench-compare`: one build of it beside another.
//!
//! ```text
//! whose turn it is -> a process on core 0             broker, clients -> core 1
//!                          |                                |
//!                          '--- /proc, /metrics, topics ----'--> report: a table, bench-results.json
//! ```
// A program for a terminal; JSON values that have no such member give null.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing)]

mod catalog;
mod contest;
mod cores;
mod events;
mod generator;
mod global_store;
mod idle_worker;
mod inference_path;
mod job;
mod latency;
mod neighbours;
mod outputs;
mod paced;
mod predictions;
mod process;
mod report;
mod scratch;
mod sink;
mod streams;
mod worker;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use contest::{Bench, Build, Sizes, Subjects};
use std::path::PathBuf;

/// Measures the product beside its peers, prints a table with ratios, and writes bench-results.json. Run it from the root of the
/// repository.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The command `millrace` to be measured; by default the one beside this
    #[arg(long, env = "MILLRACE_BENCH_BINARY")]
    binary: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

#[derive(clap::Args)]
struct What {
    /// What to measure; everything by default
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    #[command(flatten)]
    sizes: Sizes,
    /// Rounds in which all sides take turns; by default each benchmark has its own number
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the results go
    #[arg(long, default_value = "bench-results.json")]
    output: PathBuf,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Measures two builds in turns, and prints their ratios
    Compare {
        /// The command `millrace` as it was
        #[arg(long)]
        before: PathBuf,
        /// The command `millrace` as it is
        #[arg(long)]
        after: PathBuf,
        /// Has both run at the same time, with the cores of one: what else the machine does takes from both alike. Only for
        /// `path`
        #[arg(long)]
        together: bool,
        #[command(flatten)]
        what: What,
    },
    /// A peer that is measured in a process of its own
    #[command(hide = true)]
    BareConsumer(sink::BareLoop),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Benchmark {
    /// events/s, CPU and memory of the whole inference path on one core, beside Kafka Streams
    Path,
    /// event to prediction at a steady rate, beside Kafka Streams
    Latency,
    /// what tenants notice of neighbours that misbehave
    Neighbours,
    /// a compacted topic into a global store, beside a GlobalKTable
    GlobalStore,
    /// a topic into a sink that does nothing, beside librdkafka
    Sink,
    /// a table of PostgreSQL into a topic, beside Debezium
    Catalog,
    /// start and idle memory of a worker, beside Java's
    Worker,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (subjects, together, what) = match arguments.command {
        Some(Command::BareConsumer(bare)) => return bare.run(),
        Some(Command::Compare {
            before,
            after,
            together,
            what,
        }) => {
            ensure!(
                !together || what.benchmarks == [Benchmark::Path],
                "--together is for `path` alone"
            );
            let build = |name, binary: PathBuf| -> Result<Build> {
                let binary = binary.canonicalize().with_context(|| format!("{}", binary.display()))?;
                Ok(Build { name, binary })
            };
            (
                Subjects::TwoBuilds(build("before", before)?, build("after", after)?),
                together,
                what,
            )
        }
        None => {
            let beside = std::env::current_exe()?.with_file_name("millrace");
            let binary = arguments.binary.unwrap_or(beside);
            (
                Subjects::BesidePeers(Build {
                    name: "millrace",
                    binary,
                }),
                false,
                arguments.what,
            )
        }
    };
    cores::bind()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // On this thread: programs that it starts end with it.
    runtime.block_on(run(subjects, together, what))
}

async fn run(subjects: Subjects, together: bool, what: What) -> Result<()> {
    let mut bench = Bench {
        report: report::Report::new(&subjects),
        subjects,
        rounds: what.rounds,
        together,
        sizes: what.sizes,
        purchases: events::purchases()?,
        scratch: scratch::Scratch::new()?,
    };
    let wanted = |benchmark| what.benchmarks.is_empty() || what.benchmarks.contains(&benchmark);
    if wanted(Benchmark::Path) {
        inference_path::measure(&mut bench).await?;
    }
    if wanted(Benchmark::GlobalStore) {
        global_store::measure(&mut bench).await?;
    }
    if wanted(Benchmark::Sink) {
        sink::measure(&mut bench).await?;
    }
    if wanted(Benchmark::Catalog) {
        catalog::measure(&mut bench).await?;
    }
    if wanted(Benchmark::Worker) {
        idle_worker::measure(&mut bench).await?;
    }
    if wanted(Benchmark::Neighbours) {
        neighbours::measure(&mut bench).await?;
    }
    // From here on broker, clients and what is measured share both cores.
    cores::unbind()?;
    if wanted(Benchmark::Latency) {
        latency::measure(&mut bench).await?;
    }
    bench.report.finish(&bench.subjects, &what.output)
}
