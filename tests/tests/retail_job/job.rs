//! The running job: its workers, what they share, and how far it is.

use crate::outputs::Outputs;
use crate::purchases::Purchases;
use crate::site::{Catalog, SECRETS, Site};
use anyhow::{Context, Result, bail, ensure};
use kafka_client::IsolationLevel;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests::worker::{PATIENCE, WorkerProcess};

/// The topic of purchases.
pub const EVENTS: &str = "events.purchases";
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);
/// Status of the global store.
const PRODUCTS: &str = "/inference/stores/products/status";
/// Everything that runs: connectors and their tasks.
const EVERYTHING: [&str; 7] = [
    "catalog",
    "catalog-0",
    "inference",
    "inference-0",
    "inference-1",
    "purchases",
    "purchases-0",
];

/// The job.
pub struct Job {
    /// Kafka and S3
    pub site: Site,
    /// PostgreSQL
    pub catalog: Catalog,
    /// what is replayed
    pub purchases: Purchases,
    /// workers that run
    pub workers: Vec<WorkerProcess>,
    /// what has come so far
    pub outputs: Outputs,
    _folder: tempfile::TempDir,
}

impl Job {
    /// Starts services and two workers, and does what the README says; `purchases` of them are replayed.
    pub async fn start(purchases: usize) -> Result<Job> {
        let (site, catalog) = tokio::try_join!(Site::start(), Catalog::start())?;
        let folder = tempfile::tempdir()?;
        let outputs = Outputs::follow(&site.broker.bootstrap())?;
        let mut job = Job {
            purchases: Purchases::write(&folder.path().join("purchases.csv"), purchases)?,
            workers: vec![site.worker("first")?, site.worker("second")?],
            site,
            catalog,
            outputs,
            _folder: folder,
        };
        for worker in &mut job.workers {
            worker.start().await?;
        }
        let worker = job.worker();
        job.site.post(worker, "catalog", &job.catalog.addresses()).await?;
        job.site.put_documents(worker).await?;
        job.until_catalog_is_whole().await?;
        // Any worker takes any request.
        for (worker, (name, changes)) in job.workers.iter().zip([
            ("inference", vec![]),
            ("purchases", vec![("file", job.purchases.file.display().to_string())]),
        ]) {
            job.site.post(worker, name, &changes).await?;
        }
        Ok(job)
    }

    /// Any worker.
    pub fn worker(&self) -> &WorkerProcess {
        self.workers.first().expect("the job has a worker")
    }

    /// Waits until every worker has every product.
    pub async fn until_catalog_is_whole(&self) -> Result<()> {
        for worker in &self.workers {
            let whole = |_, status: &Value| status["ready"] == true && status["rows"] == self.catalog.rows;
            worker.until(PRODUCTS, whole).await?;
        }
        Ok(())
    }

    /// Waits until everything runs, and every worker has a part of it: where.
    pub async fn until_shared(&self) -> Result<BTreeMap<String, String>> {
        let everything: BTreeSet<&str> = EVERYTHING.into();
        let workers: BTreeSet<String> = self.workers.iter().map(WorkerProcess::id).collect();
        eventually("everything runs, on all workers", async || {
            let statuses = self.worker().get("/connectors?expand=status").await?;
            let places = running(&statuses);
            let what: BTreeSet<&str> = places.keys().map(String::as_str).collect();
            let at: BTreeSet<String> = places.values().cloned().collect();
            match what == everything && at == workers {
                true => Ok(places),
                false => bail!("{places:?}, wanted on {workers:?}; {statuses}"),
            }
        })
        .await
    }

    /// Waits until each of the four partitions of the input is open on exactly one worker; how many each worker has.
    pub async fn until_partitions_are_open(&self) -> Result<Vec<usize>> {
        const HOUSEHOLDS: &str = "/inference/stores/household_state/status";
        eventually("every partition has one owner", async || {
            let (mut owned, mut all) = (Vec::new(), Vec::new());
            for worker in &self.workers {
                let status = worker.get(HOUSEHOLDS).await?;
                let partitions = status["partitions"].as_array().cloned().unwrap_or_default();
                owned.push(partitions.len());
                all.extend(
                    partitions
                        .iter()
                        .filter_map(|partition| partition["partition"].as_i64()),
                );
            }
            all.sort_unstable();
            ensure!(all == [0, 1, 2, 3], "{owned:?}: {all:?}");
            Ok(owned)
        })
        .await
    }

    /// The worker that runs a task.
    pub async fn place_of(&self, task: &str) -> Result<usize> {
        let places = self.until_shared().await?;
        let place = self
            .workers
            .iter()
            .position(|worker| Some(&worker.id()) == places.get(task));
        place.with_context(|| format!("{task} runs nowhere: {places:?}"))
    }

    /// Purchases that have been replayed and acknowledged.
    pub async fn replayed(&self) -> Result<usize> {
        let offsets = self.worker().get("/connectors/purchases/offsets").await?;
        let position = offsets["offsets"][0]["offset"]["position"].as_u64();
        Ok(usize::try_from(position.unwrap_or(0))?)
    }

    /// Fails if a password is in a log, or in what REST tells of the connectors.
    pub async fn check_secrets(&self) -> Result<()> {
        let shown = self
            .worker()
            .get("/connectors?expand=info&expand=status")
            .await?
            .to_string();
        // Those of workers that were killed among them.
        let logs = tests::process::logs_of_this_test()?;
        ensure!(
            logs.contains("Kafka Connect started"),
            "the logs of the workers are not where they were looked for"
        );
        for text in [logs, shown] {
            let told = SECRETS.iter().any(|secret| text.contains(secret));
            ensure!(!told, "a password is told");
        }
        let config = self.worker().get("/connectors/catalog/config").await?;
        let reference = config["database.password"].as_str().unwrap_or_default();
        ensure!(reference.starts_with("${file:"), "{config}");
        Ok(())
    }

    /// Stops the replay. Returns how many events there are: purchases, some sent again by a source that was killed, and probes.
    pub async fn end_of_replay(&self) -> Result<usize> {
        self.worker().success("PUT", "/connectors/purchases/stop", None).await?;
        let stopped = |_, status: &Value| status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
        self.worker().until("/connectors/purchases/status", stopped).await?;
        let (events, replayed) = (
            self.site.broker.dump(EVENTS, IsolationLevel::ReadCommitted).await?,
            self.replayed().await?,
        );
        let rows: BTreeSet<i64> = events
            .iter()
            .filter_map(|event| serde_json::from_slice::<Value>(event.value.as_deref()?).ok()?["row"].as_i64())
            .collect();
        ensure!(
            rows.len() >= replayed,
            "{} of {replayed} purchases are in {EVENTS}",
            rows.len()
        );
        ensure!(
            rows.iter().zip(0..).all(|(row, number)| *row == number),
            "a purchase is missing"
        );
        Ok(events.len())
    }

    /// Fails if there is nothing left to replay: whatever comes next would not meet the job under load.
    pub async fn check_under_load(&self) -> Result<()> {
        let replayed = self.replayed().await?;
        let count = self.purchases.count;
        ensure!(
            replayed < count,
            "all {count} purchases are replayed already: more of them are needed"
        );
        Ok(())
    }

    /// Waits until there are so many more predictions than there are now.
    pub fn progress(&mut self, more: usize) -> Result<()> {
        const TOPIC: &str = "predictions.personalization";
        self.outputs.read()?;
        let wanted = self.outputs.sources(TOPIC) + more;
        let deadline = Instant::now() + PATIENCE;
        while self.outputs.sources(TOPIC) < wanted {
            self.outputs.read()?;
            if Instant::now() > deadline {
                let logs: Vec<String> = self.workers.iter().map(WorkerProcess::log_tail).collect();
                bail!("predictions do not go on; {}", logs.join("\n"));
            }
        }
        Ok(())
    }
}

/// Connectors and tasks that are RUNNING, and where.
fn running(statuses: &Value) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    for (name, connector) in statuses.as_object().into_iter().flatten() {
        let status = &connector["status"];
        let mut place = |what: String, status: &Value| {
            if status["state"] == "RUNNING" {
                let worker = status["worker_id"].as_str().unwrap_or_default();
                places.insert(what, worker.to_owned());
            }
        };
        place(name.clone(), &status["connector"]);
        for task in status["tasks"].as_array().into_iter().flatten() {
            place(format!("{name}-{}", task["id"]), task);
        }
    }
    places
}

/// Waits until `look` finds what it looks for; errors are what there is instead.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(instead) if Instant::now() > deadline => return Err(instead.context(what.to_owned())),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
