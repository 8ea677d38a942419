//! `millrace demo`: the whole product in one process, on simulated retail data.
//!
//! ```text
//!   dev-broker <-- worker (REST on 127.0.0.1:8083)
//!       ^             ^
//!       |             +-- requests: the files of configs/demo, put by REST as an operator would
//!       |             +-- progress: what the worker says of itself -> view (on a terminal) or a line now and then
//!       +-- accounting: reads the output topics as a subscriber would -> summary, exit code
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal: it talks there

mod accounting;
mod auc;
mod interrupt;
mod offline;
mod progress;
mod purchases;
mod requests;
mod summary;
mod terminal;
mod threads;
mod view;

use anyhow::{Context, Result, bail};
use connect_api::ConfigMap;
use connect_runtime::Worker;
use connect_runtime::config::properties::parse_latin1;
use connect_runtime::logging::Loggers;
use dev_broker::{DevBroker, DevBrokerConfig};
use inference_sink::InferenceService;
use requests::Operator;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs the whole product in one process, on a simulated year of grocery purchases.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// How many purchases to replay, or `all`
    #[arg(long, default_value = "all")]
    events: EventCount,
    /// Ends when every event is accounted for, with one JSON object as the last line
    #[arg(long)]
    exit: bool,
    /// Purchases per second; 0 is as fast as possible
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Where broker, state and archive live; started again on it, the demo goes on where it was
    #[arg(long, default_value = "demo-data/run")]
    directory: PathBuf,
    /// The configuration of the demo
    #[arg(long, default_value = "configs/demo")]
    configs: PathBuf,
    /// Where transactions.csv.gz and products.csv.gz are; by default below the configuration
    #[arg(long)]
    data: Option<PathBuf>,
    /// Port of the worker's REST interface on 127.0.0.1; 0 for any free one
    #[arg(long, default_value_t = 8083)]
    port: u16,
}

/// `all` or a number.
#[derive(Debug, Clone, Copy)]
struct EventCount(Option<usize>);

impl std::str::FromStr for EventCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(EventCount(None)),
            _ => text
                .parse()
                .map(|count| EventCount(Some(count)))
                .map_err(|_| "a number or `all`".to_owned()),
        }
    }
}

/// Runs the demo until it is done or Ctrl-C; true if it ended well.
///
/// Ctrl-C ends it in order wherever it is: the worker first, then the broker, each with everything in its files.
pub async fn run(arguments: DemoArguments, loggers: Loggers) -> Result<bool> {
    let mut interrupt = interrupt::Interrupt::listen()?;
    let data = arguments.data.clone().unwrap_or_else(|| arguments.configs.join("data"));
    let (directory, limit) = (data.clone(), arguments.events.0);
    let reading = tokio::task::spawn_blocking(move || purchases::Purchases::read(&directory, limit));
    let purchases = tokio::select! {
        purchases = reading => Arc::new(purchases.context("reading the purchases")??),
        () = interrupt.wait() => return Ok(true),
    };
    let broker = start_broker(&arguments.directory).await?;
    let service = Arc::new(InferenceService::new());
    let plugins = Arc::new(crate::plugins::all(&service));
    let worker = Worker::start(&worker_properties(&arguments, &broker)?, plugins, loggers)
        .await?
        .finish()
        .await?;
    let (url, bootstrap) = (format!("http://{}", worker.id()), broker.bootstrap());
    println!("broker  {bootstrap}   (for demos and tests, one node)");
    println!("worker  {url}");
    let mut threads = threads::Threads::default();
    let outcome = tokio::select! {
        outcome = replay(&arguments, &data, &purchases, &bootstrap, &url, service, &mut threads) => outcome,
        () = interrupt.wait() => Ok(true),
    };
    // Whoever talks to the broker ends before it: readers of topics, the worker, the broker.
    threads.give_up().await;
    worker.stop().await;
    broker.stop().await;
    outcome
}

async fn replay(
    arguments: &DemoArguments,
    data: &Path,
    purchases: &Arc<purchases::Purchases>,
    bootstrap: &str,
    worker: &str,
    service: Arc<InferenceService>,
    threads: &mut threads::Threads,
) -> Result<bool> {
    let operator = Operator::new(worker, &arguments.configs);
    wait_for_inference(&operator).await?;
    let started = configure(&operator, arguments, data).await?;
    let mut watch = progress::Watch::new(
        service,
        worker.to_owned(),
        bootstrap.to_owned(),
        purchases.rows,
        started,
    );
    if std::io::stdout().is_terminal() && !arguments.exit {
        return threads
            .run(move |given_up| terminal::run(&mut watch, given_up))
            .await
            .map(|()| true);
    }
    let ended = watch.until_settled(&operator).await?;
    let offline = match is_bundled(arguments, data) {
        true => offline::read(&arguments.configs.join("models/offline_predictions.csv.gz"))?,
        // the training script wrote down the bundled purchases only
        false => offline::OfflinePredictions::new(),
    };
    let summary = summary::summarise(&operator, bootstrap, purchases, &offline, &ended, threads).await?;
    for complaint in &summary.complaints {
        println!("not accounted for: {complaint}");
    }
    println!("{}", summary.line);
    if !arguments.exit {
        println!("everything was replayed; the worker goes on until Ctrl-C");
        std::future::pending::<()>().await;
    }
    Ok(summary.complaints.is_empty())
}

fn is_bundled(arguments: &DemoArguments, data: &Path) -> bool {
    data == arguments.configs.join("data")
}

/// Does what an operator would do; the instant at which the replay began.
async fn configure(operator: &Operator, arguments: &DemoArguments, data: &Path) -> Result<Instant> {
    let bundled = is_bundled(arguments, data);
    let file = |name: &str| ("file", data.join(name).display().to_string());
    println!("a catalog goes to a compacted topic, which fills the global store `products`:");
    operator
        .put_connector("catalog", &if bundled { vec![] } else { vec![file("products.csv.gz")] })
        .await?;
    wait_for_topic(operator).await?;
    operator.put_documents("stores").await?;
    println!("tenants subscribe their models:");
    operator.put_documents("feature-views").await?;
    operator.put_documents("tenants").await?;
    operator.put_documents("models").await?;
    wait_for_catalog(operator).await?;
    println!("purchases are replayed, and the inference sink takes them:");
    let mut changes = if bundled {
        vec![]
    } else {
        vec![file("transactions.csv.gz")]
    };
    if let Some(count) = arguments.events.0 {
        changes.push(("max.events", count.to_string()));
    }
    if arguments.rate > 0 {
        changes.push(("events.per.second", arguments.rate.to_string()));
    }
    operator.put_connector("purchases", &changes).await?;
    let started = Instant::now();
    operator.put_connector("inference", &[]).await?;
    Ok(started)
}

/// Waits until the worker takes resources: what it has of an earlier run is loaded first, beside the rest of it.
async fn wait_for_inference(operator: &Operator) -> Result<()> {
    wait_until("the worker to take documents", async || {
        Ok(operator.get("/inference/tenants").await.is_ok())
    })
    .await
}

/// Waits until the connector of the catalog has written to its topic: nobody can read a topic that is not there.
async fn wait_for_topic(operator: &Operator) -> Result<()> {
    wait_until("the topic catalog.products", async || {
        let topics = operator.get("/connectors/catalog/topics").await?;
        let topics = topics.pointer("/catalog/topics").and_then(serde_json::Value::as_array);
        Ok(topics.is_some_and(|topics| topics.iter().any(|topic| topic == "catalog.products")))
    })
    .await
}

/// Waits until the store `products` serves: a purchase that came before would find no product.
async fn wait_for_catalog(operator: &Operator) -> Result<()> {
    wait_until("the store `products` to fill", async || {
        let store = operator.get("/inference/stores/products/status").await?;
        let ready = store.get("ready").and_then(serde_json::Value::as_bool) == Some(true);
        Ok(ready && store.get("version").is_some_and(serde_json::Value::is_u64))
    })
    .await
}

/// Asks until `condition` holds, for two minutes; where that takes more than a second, it says what it waits for.
async fn wait_until(what: &str, condition: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    let mut said = false;
    while !condition().await? {
        if begun.elapsed() > Duration::from_secs(120) {
            bail!("waited two minutes for {what}: what it stands at is in the worker's log, above");
        }
        if !said && begun.elapsed() > Duration::from_secs(1) {
            said = true;
            println!("waiting for {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn start_broker(directory: &Path) -> Result<DevBroker> {
    let data_dir = directory.join("broker");
    std::fs::create_dir_all(&data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let config = DevBrokerConfig {
        data_dir: Some(data_dir),
        ..DevBrokerConfig::default()
    };
    DevBroker::start(config).context("the demo's broker did not start")
}

/// `configs/demo/worker.properties` with the broker and the directories of this run.
fn worker_properties(arguments: &DemoArguments, broker: &DevBroker) -> Result<ConfigMap> {
    let path = arguments.configs.join("worker.properties");
    let mut text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}: run the demo from the root of the repository, or give --configs",
            path.display()
        )
    })?;
    let directory = std::path::absolute(&arguments.directory)?;
    text.push_str(&format!(
        "\nbootstrap.servers={}\nlisteners=http://127.0.0.1:{}\nstate.dir={}\narchive.url=file://{}\n",
        broker.bootstrap(),
        arguments.port,
        directory.join("state").display(),
        directory.join("archive").display(),
    ));
    let entries =
        parse_latin1(text.as_bytes()).with_context(|| format!("{} is not a properties file", path.display()))?;
    Ok(entries.into_iter().map(|(name, value)| (name, Some(value))).collect())
}
