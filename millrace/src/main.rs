//! The `millrace` command.

mod compatibility;
mod container;
#[cfg(feature = "demo")]
mod demo;
mod environment;
mod markdown;
mod options;
mod plugins;
mod worker;

use clap::{Parser, Subcommand, ValueEnum};
use connect_runtime::logging::Loggers;
use container::Container;
use inference_sink::InferenceService;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The version, and the commit and profile that it was built from (`build.rs`).
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("MILLRACE_BUILD"), ")");
/// Time that calls which do not answer have at the end.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Exit codes of Connect's own commands.
const RUN_FAILED: u8 = 2;
const START_FAILED: u8 = 3;

/// A Kafka Connect worker with global stores and model inference.
#[derive(Parser)]
#[command(name = "millrace", version = VERSION)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Form of the log.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a worker of a Connect cluster.
    #[command(alias = "connect-distributed")]
    Worker {
        /// The worker's properties, in the form of a Java worker's.
        properties: PathBuf,
    },
    /// Runs a worker as images of Kafka Connect are run: from variables of the environment (CONNECT_GROUP_ID for group.id), over
    /// a mounted properties file.
    #[command(alias = "start")]
    Container(container::ContainerArguments),
    /// Ends well if the worker of this container says that it is well.
    Healthcheck(container::HealthcheckArguments),
    /// Writes the pages of docs/options, and the tables of docs/COMPATIBILITY.md, from what the code declares.
    Options(options::OptionsArguments),
    /// Runs the whole product in one process, on a simulated year of grocery purchases.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let container = match &arguments.command {
        Command::Healthcheck(healthcheck) => return answer(container::healthcheck(healthcheck)),
        Command::Container(container) => match Container::of_environment(container) {
            Ok(container) => Some(container),
            Err(error) => {
                let _ = answer(Err(error));
                return ExitCode::from(START_FAILED);
            }
        },
        _ => None,
    };
    let level = container
        .as_ref()
        .map_or_else(|| arguments.command.log_level(), |container| container.level);
    let loggers = start_logging(arguments.log_format, level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "threads could not be started");
            return ExitCode::from(RUN_FAILED);
        }
    };
    let code = match arguments.command {
        Command::Worker { properties } => match worker::Properties::of_file(&properties) {
            Ok(properties) => run_worker(&runtime, &properties, loggers),
            Err(error) => {
                tracing::error!("the worker has failed: {error:#}");
                ExitCode::from(RUN_FAILED)
            }
        },
        Command::Container(_) => container.map_or(ExitCode::FAILURE, |container| {
            container.tell();
            run_worker(&runtime, &container.properties, loggers)
        }),
        Command::Healthcheck(_) => ExitCode::SUCCESS,
        Command::Options(options) => write_options(&options),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => run_demo(&runtime, demo, loggers),
    };
    runtime.shutdown_timeout(LAST_WAIT);
    code
}

/// What a command that logs nothing says at its end.
fn answer(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // nobody is left to be told if standard error is gone
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_worker(runtime: &tokio::runtime::Runtime, properties: &worker::Properties, loggers: Loggers) -> ExitCode {
    let inference = Arc::new(InferenceService::new());
    // the reasons stand in the message, not in a field: they may have a line each
    match runtime.block_on(worker::run(properties, plugins::all(&inference), loggers)) {
        Ok(worker::Outcome::Stopped) => ExitCode::SUCCESS,
        Ok(worker::Outcome::NotStarted(error)) => {
            tracing::error!("the worker could not be started: {error:#}");
            ExitCode::from(START_FAILED)
        }
        Err(error) => {
            tracing::error!("the worker has failed: {error:#}");
            ExitCode::from(RUN_FAILED)
        }
    }
}

fn write_options(arguments: &options::OptionsArguments) -> ExitCode {
    match options::run(arguments, &plugins::all(&Arc::new(InferenceService::new()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "option pages");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "demo")]
fn run_demo(runtime: &tokio::runtime::Runtime, arguments: demo::DemoArguments, loggers: Loggers) -> ExitCode {
    match runtime.block_on(demo::run(arguments, loggers)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the demo has failed");
            ExitCode::from(RUN_FAILED)
        }
    }
}

impl Command {
    /// The demo talks on its own; of the log it shows what goes wrong.
    fn log_level(&self) -> LevelFilter {
        match self {
            Command::Worker { .. } | Command::Container(_) | Command::Healthcheck(_) | Command::Options(_) => {
                LevelFilter::INFO
            }
            #[cfg(feature = "demo")]
            Command::Demo(_) => LevelFilter::WARN,
        }
    }
}

/// Logs to standard error; levels can be changed through REST.
fn start_logging(format: LogFormat, level: LevelFilter) -> Loggers {
    let (filter, handle) = reload::Layer::<_, Registry>::new(Targets::new().with_default(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
    Loggers::new(level, move |targets| {
        handle.reload(targets).map_err(|error| error.to_string())
    })
}
