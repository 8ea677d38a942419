//! `make bench`: the product beside the programs it replaces.
//!
//! ```text
//! what is measured -> a worker process on core 0      broker, clients -> core 1
//!                          |                                |
//!                          '--- /proc, /metrics, topics ----'--> report: a table, bench-results.json
//! ```
// A program for a terminal; JSON values that have no such member give null.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing)]

mod catalog;
mod cores;
mod events;
mod fairness;
mod generator;
mod global_store;
mod idle_worker;
mod inference_path;
mod job;
mod latency;
mod paced;
mod process;
mod report;
mod sink;

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;

/// Measures, prints a table with ratios, and writes bench-results.json. Run it from the root of the repository.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    process: Option<Process>,
    /// What to measure; everything by default
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    /// Events of a run of the whole path
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// Records of a run of the sink
    #[arg(long, default_value_t = 10_000_000)]
    records: usize,
    /// Rows of the table of the catalog; three tenths of them are changed live
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Where the results go
    #[arg(long, default_value = "bench-results.json")]
    output: PathBuf,
}

/// Peers that are measured in a process of their own.
#[derive(clap::Subcommand)]
enum Process {
    #[command(hide = true)]
    BareConsumer(sink::BareLoop),
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Benchmark {
    /// events/s and CPU of the whole inference path on one core
    Path,
    /// event to prediction at a steady rate
    Latency,
    /// what tenants notice of neighbours that misbehave
    Neighbours,
    /// a compacted topic into a global store
    GlobalStore,
    /// a topic into a sink that does nothing
    Sink,
    /// a table of PostgreSQL into a topic, beside Debezium
    Catalog,
    /// start and idle memory of a worker
    Worker,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Process::BareConsumer(bare)) = &arguments.process {
        return bare.run();
    }
    cores::bind(cores::OTHERS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |benchmark| arguments.benchmarks.is_empty() || arguments.benchmarks.contains(&benchmark);
    let mut report = report::Report::default();
    let purchases = events::purchases()?;
    if wanted(Benchmark::Path) {
        inference_path::measure(&mut report, &purchases, arguments.events).await?;
    }
    if wanted(Benchmark::GlobalStore) {
        global_store::measure(&mut report).await?;
    }
    if wanted(Benchmark::Sink) {
        sink::measure(&mut report, arguments.records).await?;
    }
    if wanted(Benchmark::Catalog) {
        catalog::measure(&mut report, arguments.rows).await?;
    }
    if wanted(Benchmark::Worker) {
        idle_worker::measure(&mut report).await?;
    }
    if wanted(Benchmark::Neighbours) {
        fairness::measure(&mut report, &purchases).await?;
    }
    // From here on broker, worker and clients share both cores.
    cores::unbind()?;
    if wanted(Benchmark::Latency) {
        latency::measure(&mut report, &purchases).await?;
    }
    report.finish(&arguments.output)
}
