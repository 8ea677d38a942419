//! A job whose results are known to the last record, run by the real worker over real services and disturbed on the way.
//!
//! ```text
//!  events (pure) -> produce, batch by batch -> worker process: global store, keyed store with archive, two models
//!     predictions, windows (read_committed) | keyed state over REST | objects of the archive  -> Outcome
//!  Outcome of a disturbed run == what `events::expected` and an undisturbed run say
//! ```

#![allow(clippy::indexing_slicing)] // of JSON values: one that has no such member gives null

pub mod events;

use crate::inference::create_topics;
use crate::inference_scenarios::models;
use crate::s3::{ACCESS_KEY, REGION, S3Server, SECRET_KEY};
use crate::topics::set_options;
use crate::worker::{PATIENCE, WorkerProcess};
use anyhow::{Context, Result, bail, ensure};
use events::{BATCHES, Expected, Life, PARTITIONS};
use kafka_client::{
    Admin, ClientConfig, Consumer, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord, StartOffset,
    TopicPartition,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bucket that the job archives to.
pub const BUCKET: &str = "cold";
/// What a run has left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// the keyed store: by key, when it was touched last and its value
    pub state: BTreeMap<String, (i64, String)>,
    /// payloads of archived entries
    pub archived: BTreeMap<Life, Vec<u8>>,
}

/// A job on one broker, with a worker and topics of its own. Its connector has the job's name.
pub struct FaultJob {
    /// the worker
    pub worker: WorkerProcess,
    bootstrap: String,
    name: String,
    guarantee: &'static str,
    producer: Producer,
    predictions: Reader,
    batches: i64,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// every event so far has its prediction
    Predicted,
    /// the worker has died before
    Died,
}

impl FaultJob {
    /// Makes the job's topics and starts its worker, which has nothing to do yet. `bootstrap` is the address that the worker
    /// uses, `endpoint` that of its archive.
    ///
    /// # Errors
    /// When a service does not do what it should.
    pub async fn start(name: &str, bootstrap: &str, endpoint: &str, guarantee: &'static str) -> Result<FaultJob> {
        let topic = |what: &str| format!("{name}-{what}");
        create_topics(
            bootstrap,
            &[
                (&topic("events"), PARTITIONS),
                (&topic("predictions"), PARTITIONS),
                (&topic("windows"), PARTITIONS),
            ],
        )
        .await?;
        let catalog = NewTopic::new(topic("catalog"), 1, 1).with("cleanup.policy", "compact");
        for (_, result) in Admin::new(&ClientConfig::new(bootstrap))?
            .create_topics(&[catalog])
            .await?
        {
            result?;
        }
        let producer = Producer::new(&ClientConfig::new(bootstrap), Arc::new(Reported))?;
        for (key, value) in events::catalog() {
            send(&producer, &topic("catalog"), 0, &key, &value)?;
        }
        producer.flush(PATIENCE)?;
        let mut worker = WorkerProcess::new(bootstrap, name)?;
        for (option, value) in [
            ("inference.artifact.allowed.prefixes", models().display().to_string()),
            ("archive.url", format!("s3://{BUCKET}/{name}")),
            ("s3.endpoint", endpoint.to_owned()),
            ("s3.region", REGION.to_owned()),
            ("s3.access.key.id", ACCESS_KEY.to_owned()),
            ("s3.secret.access.key", SECRET_KEY.to_owned()),
        ] {
            worker.set(option, &value);
        }
        worker.start().await?;
        let job = FaultJob {
            worker,
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
            guarantee,
            producer,
            predictions: Reader::new(bootstrap, &topic("predictions"))?,
            batches: 0,
        };
        job.deploy().await?;
        Ok(job)
    }

    /// A second tenant with the same model, whose topic takes nothing: the topic.
    ///
    /// # Errors
    /// When a service does not do what it should.
    pub async fn add_refused(&self) -> Result<String> {
        let topic = self.topic("refused");
        let narrow = NewTopic::new(&*topic, PARTITIONS, 1).with("max.message.bytes", "10");
        let admin = Admin::new(&ClientConfig::new(&self.bootstrap))?;
        for (_, result) in admin.create_topics(&[narrow]).await? {
            result?;
        }
        let mut model = self.worker.get("/inference/models/shop/score").await?;
        let own = model.as_object_mut().context("the model's document")?;
        own.insert("tenant".to_owned(), "refused".into());
        own.remove("version");
        model["output"]["topic"] = topic.as_str().into();
        self.worker.put("/inference/tenants/refused", &json!({})).await?;
        self.worker.put("/inference/models/refused/score", &model).await?;
        Ok(topic)
    }

    /// From now on a topic takes everything.
    ///
    /// # Errors
    /// The broker's.
    pub async fn widen(&self, topic: &str) -> Result<()> {
        let admin = Admin::new(&ClientConfig::new(&self.bootstrap))?;
        set_options(&admin, topic, &[("max.message.bytes", "1048588")]).await
    }

    fn topic(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    async fn deploy(&self) -> Result<()> {
        let ttl = format!("{}m", events::TTL_MS / 60_000);
        let model = |output: &str, trigger: Value| {
            json!({
                "artifact": format!("file://{}/linear.onnx", models().display()),
                "subscribe": { "topics": [self.topic("events")] },
                "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": trigger,
                "output": { "topic": self.topic(output), "key": "event.household", "fields": { "score": "variable" } }
            })
        };
        let window = json!({ "window": {
            "tumbling": format!("{}m", events::WINDOW_MS / 60_000), "grace": format!("{}m", events::GRACE_MS / 60_000),
            "by": "event.household",
        } });
        let aggregate =
            |function: &str| json!({ "function": function, "by": ["event.household"], "store": "households" });
        let mut spent = aggregate("sum");
        spent["of"] = "event.amount".into();
        for (path, document) in [
            ("tenants/shop", json!({})),
            (
                "stores/products",
                json!({ "global": { "topic": self.topic("catalog") } }),
            ),
            (
                "stores/households",
                json!({ "keyed": { "by": "event.household" }, "ttl": { "after": ttl }, "archive": true }),
            ),
            (
                "feature-views/purchase",
                json!({
                    "source": self.topic("events"), "partitioned_by": "event.household", "event_time": "event.time",
                    "features": {
                        "product": { "lookup": { "store": "products", "key": "event.product" } },
                        "amount": { "expression": "event.amount + product.weight", "default": -1000.0 },
                        "spent": { "aggregate": spent },
                        "seen": { "aggregate": aggregate("count") },
                    }
                }),
            ),
            ("models/shop/score", model("predictions", json!({ "each": {} }))),
            ("models/shop/window", model("windows", window)),
        ] {
            self.worker.put(&format!("/inference/{path}"), &document).await?;
        }
        let connector = json!({
            "connector.class": "millrace.InferenceSink", "tasks.max": "2", "topics": self.topic("events"),
            "processing.guarantee": self.guarantee, "inference.commit.interval.ms": "10",
        });
        self.worker
            .put(&format!("/connectors/{}/config", self.name), &connector)
            .await?;
        self.running().await
    }

    /// Waits until both tasks run.
    ///
    /// # Errors
    /// When they do not.
    pub async fn running(&self) -> Result<()> {
        let path = format!("/connectors/{}/status", self.name);
        let running = |_, status: &Value| {
            let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
            tasks.len() == 2 && tasks.iter().all(|task| task["state"] == "RUNNING")
        };
        self.worker.until(&path, running).await.map(|_| ())
    }

    /// Sends the next batch. False: there was none any more.
    ///
    /// # Errors
    /// The broker's.
    pub fn send_batch(&mut self) -> Result<bool> {
        if self.batches > BATCHES {
            return Ok(false);
        }
        for event in events::batch(self.batches) {
            send(
                &self.producer,
                &self.topic("events"),
                event.partition,
                &event.household,
                &event.value(),
            )?;
        }
        self.producer.flush(PATIENCE)?;
        self.batches += 1;
        Ok(true)
    }

    fn sent(&self) -> usize {
        (0..self.batches).map(|number| events::batch(number).len()).sum()
    }

    /// Waits until every event sent so far has a committed prediction, or the worker has died.
    ///
    /// # Errors
    /// When neither happens in time.
    pub async fn predicted(&mut self) -> Result<Progress> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.predictions.read()?;
            if self.predictions.by_source.len() >= self.sent() {
                return Ok(Progress::Predicted);
            }
            if !self.worker.is_running()? {
                return Ok(Progress::Died);
            }
            ensure!(
                Instant::now() < deadline,
                "{} of {} predictions came; log {}",
                self.predictions.by_source.len(),
                self.sent(),
                self.worker.log_tail()
            );
        }
    }

    /// Sends what is left, lets the job run to its end, stops the worker, and takes stock: every promise is checked here that
    /// needs no other run to compare with.
    ///
    /// # Errors
    /// A broken promise, by name.
    pub async fn finish(&mut self, s3: &S3Server) -> Result<Outcome> {
        while self.send_batch()? {}
        ensure!(
            self.predicted().await? == Progress::Predicted,
            "the worker died: {}",
            self.worker.log_tail()
        );
        let expected = events::expected(&self.topic("events"));
        self.archived(&expected).await?;
        let state = self.state(&expected).await?;
        let code = self.worker.stop()?;
        ensure!(code == 0, "the worker ended with {code}");
        self.check_predictions(&expected)?;
        let archived = self.check_archive(s3, &expected)?;
        Ok(Outcome { state, archived })
    }

    /// Waits until all that expires can be read back by key.
    async fn archived(&self, expected: &Expected) -> Result<()> {
        let newest: BTreeMap<&str, i64> = expected
            .archived
            .iter()
            .map(|(name, ms)| (name.as_str(), *ms))
            .collect();
        for (household, touched_ms) in newest {
            let path = format!("/inference/stores/households/archive/{household}");
            let found = |status, body: &Value| status == 200 && body["entries"][0]["touched_ms"] == touched_ms;
            self.worker.until(&path, found).await?;
        }
        Ok(())
    }

    /// The keyed store, once it has the households that live and no other.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn state(&self, expected: &Expected) -> Result<BTreeMap<String, (i64, String)>> {
        let by_key = |body: &Value| -> BTreeMap<String, (i64, String)> {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let entries = body.as_array().into_iter().flatten();
            let keyed = entries.map(|entry| {
                let touched_ms = entry["touched_ms"].as_i64().unwrap_or_default();
                (text(&entry["key"]), (touched_ms, text(&entry["value"])))
            });
            keyed.collect()
        };
        let alive = |_, body: &Value| {
            let touched = by_key(body)
                .into_iter()
                .map(|(name, (touched_ms, _))| (name, touched_ms));
            touched.eq(expected.alive.clone())
        };
        let body = self
            .worker
            .until("/inference/stores/households/keys?limit=10000", alive)
            .await?;
        Ok(by_key(&body))
    }

    /// The state after a start with no local copy: it comes from the changelog.
    ///
    /// # Errors
    /// When the worker does not start, or its state is not what was expected.
    pub async fn state_restored(&mut self) -> Result<BTreeMap<String, (i64, String)>> {
        self.worker.wipe_state()?;
        self.worker.start().await?;
        let expected = events::expected(&self.topic("events"));
        let state = self.state(&expected).await?;
        self.archived(&expected).await?;
        let code = self.worker.stop()?;
        ensure!(code == 0, "the worker ended with {code}");
        Ok(state)
    }

    fn check_predictions(&self, expected: &Expected) -> Result<()> {
        for (what, topic, expected) in [
            ("prediction", "predictions", &expected.predictions),
            ("window", "windows", &expected.windows),
        ] {
            let by_source = Reader::read_all(&self.bootstrap, &self.topic(topic))?;
            for (source, score) in expected {
                let Some(found) = by_source.get(source) else {
                    bail!("no {what} for {source}: {} of {} came", by_source.len(), expected.len())
                };
                ensure!(
                    found.iter().all(|found| found == score),
                    "{what} for {source}: {found:?}, an undisturbed run gives {score}"
                );
                ensure!(
                    self.guarantee != "exactly_once_v2" || found.len() == 1,
                    "{} {what}s for {source}: {found:?}",
                    found.len()
                );
            }
            let unknown = by_source.keys().find(|source| !expected.contains_key(*source));
            ensure!(
                unknown.is_none(),
                "{what} for {unknown:?}, which an undisturbed run does not give"
            );
        }
        Ok(())
    }

    /// Everything that has expired is in exactly one object, once; nothing else is.
    fn check_archive(&self, s3: &S3Server, expected: &Expected) -> Result<BTreeMap<Life, Vec<u8>>> {
        let mut archived = BTreeMap::new();
        for (name, bytes) in s3.objects(BUCKET)? {
            if !name.starts_with(&format!("{}/", self.name)) {
                continue;
            }
            for entry in state_store::archive::entries(&name, bytes.into())? {
                // After eight bytes for the group of aggregates and five for a text's type and length.
                let household = String::from_utf8_lossy(entry.key.get(13..).unwrap_or_default()).into_owned();
                let life = (household, entry.version.touched_ms);
                ensure!(
                    archived.insert(life.clone(), entry.payload.to_vec()).is_none(),
                    "{life:?} was archived twice, the second time in {name}"
                );
            }
        }
        let found: BTreeSet<&Life> = archived.keys().collect();
        let wanted: BTreeSet<&Life> = expected.archived.iter().collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&wanted).collect();
        ensure!(
            missing.is_empty() && surplus.is_empty(),
            "archive: missing {missing:?}, not expired {surplus:?}"
        );
        Ok(archived)
    }

    /// The address that the job's clients use.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

struct Reported;

impl Deliveries for Reported {
    fn delivered(&self, _token: u64, _result: Result<(i32, i64), KafkaError>) {}
}

fn send(producer: &Producer, topic: &str, partition: i32, key: &str, value: &Value) -> Result<()> {
    let value = value.to_string();
    let record = ProducerRecord {
        topic,
        partition: Some(partition),
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        ..ProducerRecord::default()
    };
    producer.send_waiting(&record, 0, PATIENCE)?;
    Ok(())
}

/// Reads committed outputs of one topic.
struct Reader {
    consumer: Consumer,
    partitions: usize,
    ended: BTreeSet<i32>,
    /// scores by the header `millrace.source`, every one that came
    by_source: BTreeMap<String, Vec<f64>>,
}

impl Reader {
    fn new(bootstrap: &str, topic: &str) -> Result<Reader> {
        let mut config = ClientConfig::new(bootstrap);
        config
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest");
        let consumer = Consumer::new(&config)?;
        let all: Vec<_> = (0..PARTITIONS)
            .map(|partition| (TopicPartition::new(topic, partition), StartOffset::Beginning))
            .collect();
        consumer.assign(&all)?;
        Ok(Reader {
            consumer,
            partitions: all.len(),
            ended: BTreeSet::new(),
            by_source: BTreeMap::new(),
        })
    }

    /// What has come, after a short wait.
    fn read(&mut self) -> Result<()> {
        let fetched = tokio::task::block_in_place(|| self.consumer.fetch(1000, Duration::from_millis(20)))?;
        for message in &fetched.messages {
            self.ended.remove(&message.partition());
            let source = message.headers().find(|(name, _)| *name == "millrace.source");
            let source = source
                .and_then(|(_, value)| value)
                .context("an output has no millrace.source")?;
            let value: Value = serde_json::from_slice(message.value().unwrap_or_default())?;
            let score = value["score"]
                .as_f64()
                .with_context(|| format!("{value} has no score"))?;
            let source = String::from_utf8_lossy(source).into_owned();
            self.by_source.entry(source).or_default().push(score);
        }
        self.ended
            .extend(fetched.end_of_partition.iter().map(|partition| partition.partition));
        Ok(())
    }

    /// Everything that is committed now.
    fn read_all(bootstrap: &str, topic: &str) -> Result<BTreeMap<String, Vec<f64>>> {
        let mut reader = Self::new(bootstrap, topic)?;
        let deadline = Instant::now() + PATIENCE;
        while reader.ended.len() < reader.partitions {
            reader.read()?;
            ensure!(Instant::now() < deadline, "{topic} could not be read to its end");
        }
        Ok(reader.by_source)
    }
}
