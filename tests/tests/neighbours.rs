//! The law of neighbours, as a property: no document of tenant A changes any output of tenant B, nor what REST answers to it.
//!
//! Two worlds are run over the same events on the development broker: one in which B is alone, and one in which A has put
//! documents beside it, before B's and after them, and changes them while events come. What B's topic holds is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Context, Result, ensure};
use dev_broker::DevBroker;
use kafka_client::{Admin, ClientConfig, NewTopic};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::broker::OwnDevBroker;
use tests::broker_laws::unique;
use tests::inference::read;
use tests::inference_scenarios::{START_MS, Stage, artifact};

/// Cases of a run. They are always the same, so that a run says the same twice.
const CASES: u32 = 12;
/// Events that come between two changes of A's documents.
const CHUNK: usize = 40;

/// What A has put before the events come, and what it does after each of the first chunks of them.
#[derive(Clone, Debug)]
struct Neighbour {
    tenant: Value,
    store: Value,
    /// A's name, by which its documents are sorted: before B's or after them
    name: &'static str,
    view: Value,
    /// reads B's view too
    of_shared_view: Value,
    of_own_view: Value,
    /// bytes that its topic takes at once
    narrow: Option<&'static str>,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    Pause,
    Resume,
    Delete,
    /// the view with other expressions, under the same name
    View,
    /// another view with the features of B's
    Rival,
    /// the tenant without limits
    Tenant,
    /// another version
    Model,
    /// a version with its inputs in another order, while rows of the one before wait
    Inputs,
}

#[derive(Clone, Debug)]
struct Case {
    neighbour: Neighbour,
    /// of B's model
    trigger: Value,
    ttl: Option<&'static str>,
    guarantee: &'static str,
    events: Vec<Value>,
}

fn any_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn tenant() -> impl Strategy<Value = Value> {
    any_of(&[
        json!({}),
        json!({ "weight": 1000 }),
        json!({ "rate": { "events_per_second": 1, "burst": 10, "over": "shed" } }),
        json!({ "rate": { "events_per_second": 1, "burst": 10, "over": "wait" } }),
        json!({ "rate": { "events_per_second": 1, "burst": 70, "over": "sample" } }),
        json!({ "cpu": { "max_share": 0.000001 } }),
        json!({ "memory": "1MiB" }),
    ])
}

fn view() -> impl Strategy<Value = Value> {
    let event_time = any_of(&[
        Value::Null,
        json!("event.time"),
        json!("event.nowhere"),
        json!("event.other"),
        json!("event.amount"),
    ]);
    let store = any_of(&[Value::Null, json!("households"), json!("a-store")]);
    let amount = any_of(&[
        "event.amount",
        "0.0 - event.amount",
        "event.other",
        "1.0",
        "event.amount / 0.0",
    ]);
    let ttl = any_of(&[Value::Null, json!("1s"), json!("100d")]);
    let of = any_of(&["event.amount", "event.nowhere", "event.other"]);
    (event_time, store, amount, ttl, of).prop_map(|(event_time, store, amount, ttl, of)| {
        let aggregate = |function: &str, of: Value| {
            json!({ "aggregate": { "function": function, "of": of, "by": ["event.household"], "store": store, "ttl": ttl } })
        };
        json!({
            "partitioned_by": "event.household", "event_time": event_time,
            "features": {
                "amount": { "expression": amount, "default": 0 },
                "spent": aggregate("sum", json!(of)), "seen": aggregate("count", Value::Null),
                "text": { "expression": "event.household + event.household" },
                "longer": { "expression": "text + text + text + text + text + text + text + text" },
            }
        })
    })
}

fn trigger() -> impl Strategy<Value = Value> {
    any_of(&[
        json!({ "each": {} }),
        json!({ "batch": { "max_batch_size": 8, "max_queue_delay": "5ms" } }),
        json!({ "window": { "tumbling": "1s", "grace": "300ms", "by": "event.household" } }),
        json!({ "window": { "tumbling": "2s", "by": ["event.household", "event.nowhere"], "emit": "update" } }),
    ])
}

fn model() -> impl Strategy<Value = Value> {
    let file = any_of(&["linear.onnx", "linear.onnx", "logarithm.onnx"]);
    let filter = any_of(&[
        Value::Null,
        json!("event.amount > 3.0"),
        json!("headers['x'] == 'y'"),
        json!("spent > 10.0"),
    ]);
    let inputs = any_of(&[
        ["amount", "spent", "seen"],
        ["seen", "amount", "spent"],
        ["spent", "spent", "spent"],
    ]);
    let key = any_of(&[Value::Null, json!("event.household"), json!("event.nowhere")]);
    (file, filter, inputs, key, trigger()).prop_map(|(file, filter, inputs, key, trigger)| {
        let inputs = match file {
            "linear.onnx" => inputs.to_vec(),
            _ => inputs[..1].to_vec(),
        };
        json!({
            "artifact": artifact(file), "subscribe": { "filter": filter }, "inputs": { "features": inputs },
            "trigger": trigger, "output": { "key": key, "fields": { "score": "variable" } },
            "on_error": { "open_after": 3, "within": "1m", "retry_after": "50ms" },
        })
    })
}

fn neighbour() -> impl Strategy<Value = Neighbour> {
    let store = any_of(&[
        json!({ "keyed": { "by": "event.household" } }),
        json!({ "keyed": { "by": "event.household" }, "ttl": { "after": "1s" } }),
        json!({ "keyed": { "by": "event.household" }, "ttl": { "after": "1s", "since": "access" } }),
    ]);
    let change = any_of(&[
        Change::Nothing,
        Change::Pause,
        Change::Resume,
        Change::Delete,
        Change::View,
        Change::Rival,
        Change::Tenant,
        Change::Model,
        Change::Inputs,
    ]);
    let narrow = any_of(&[None, None, Some("10"), Some("400")]);
    let changes = prop::collection::vec(change, 3);
    (
        tenant(),
        store,
        any_of(&["a", "z"]),
        view(),
        model(),
        model(),
        narrow,
        changes,
    )
        .prop_map(
            |(tenant, store, name, view, of_shared_view, of_own_view, narrow, changes)| Neighbour {
                tenant,
                store,
                name,
                view,
                of_shared_view,
                of_own_view,
                narrow,
                changes,
            },
        )
}

/// Events of some seconds, some late, some without what views look for, and some that are none.
fn events() -> impl Strategy<Value = Vec<Value>> {
    let time = (0i64..6_000, prop_oneof![4 => Just(0i64), 1 => 0..1_500i64]);
    let amount = prop_oneof![6 => (1..8i64).prop_map(Value::from), 1 => Just(Value::Null), 1 => Just(json!("many"))];
    let other = prop_oneof![(-40..4_000_000i64).prop_map(Value::from), Just(Value::Null)];
    let event = (0..5u8, time, amount, other).prop_map(|(household, (time, late), amount, other)| {
        json!({ "household": format!("h{household}"), "amount": amount, "other": other, "time": time, "late": late })
    });
    let event = prop_oneof![30 => event, 1 => Just(json!([1]))];
    prop::collection::vec(event, CHUNK * 4).prop_map(|mut events| {
        events.sort_by_key(|event| event["time"].as_i64());
        for event in &mut events {
            if let Some(time) = event["time"].as_i64() {
                event["time"] = (START_MS + time - event["late"].as_i64().unwrap_or(0)).into();
            }
        }
        events
    })
}

fn case() -> impl Strategy<Value = Case> {
    let ttl = any_of(&[None, Some("1s")]);
    let guarantee = any_of(&["exactly_once_v2", "exactly_once_v2", "at_least_once"]);
    (neighbour(), trigger(), ttl, guarantee, events()).prop_map(|(neighbour, trigger, ttl, guarantee, events)| Case {
        neighbour,
        trigger,
        ttl,
        guarantee,
        events,
    })
}

/// B's outputs by key, in order, each with its source's partition and offset; and what REST said to B.
type Outcome = (BTreeMap<String, Vec<(String, Value)>>, Vec<(u16, Value)>);

/// A's documents in a world.
struct Hostile<'a> {
    neighbour: &'a Neighbour,
    topic: String,
}

impl Hostile<'_> {
    fn view_name(&self) -> String {
        format!("{}-view", self.neighbour.name)
    }

    async fn put(&self, stage: &Stage) -> Result<()> {
        let Neighbour { name, narrow, .. } = self.neighbour;
        let mut topic = NewTopic::new(&*self.topic, 2, 1);
        if let Some(bytes) = narrow {
            topic = topic.with("max.message.bytes", bytes);
        }
        for (_, result) in Admin::new(&ClientConfig::new(stage.bootstrap()))?
            .create_topics(&[topic])
            .await?
        {
            result?;
        }
        let mut tenant = self.neighbour.tenant.clone();
        tenant["outputs"] = json!({ "topic": self.topic, "shed": self.topic });
        stage.put(&format!("tenants/{name}"), &tenant).await?;
        stage.put("stores/a-store", &self.neighbour.store).await?;
        self.put_view(stage, &self.view_name()).await?;
        self.put_models(stage).await
    }

    async fn put_view(&self, stage: &Stage, name: &str) -> Result<()> {
        let mut view = self.neighbour.view.clone();
        view["source"] = stage.events.as_str().into();
        stage.put(&format!("feature-views/{name}"), &view).await?;
        Ok(())
    }

    async fn put_models(&self, stage: &Stage) -> Result<()> {
        let name = self.neighbour.name;
        let own = self.view_name();
        let models = [
            ("shared", &self.neighbour.of_shared_view, "purchase"),
            ("own", &self.neighbour.of_own_view, own.as_str()),
        ];
        for (model, document, view) in models {
            let mut document = document.clone();
            document["subscribe"]["topics"] = json!([stage.events]);
            document["view"] = view.into();
            stage.put(&format!("models/{name}/{model}"), &document).await?;
        }
        Ok(())
    }

    async fn change(&self, stage: &Stage, change: Change) -> Result<()> {
        let name = self.neighbour.name;
        let model = format!("models/{name}/shared");
        let post = async |action: &str| {
            // A model that was deleted is not there.
            stage
                .worker
                .request("POST", &format!("{model}/{action}"), &Value::Null)
                .await;
        };
        match change {
            Change::Nothing => {}
            Change::Pause => post("pause").await,
            Change::Resume => post("resume").await,
            Change::Delete => drop(stage.worker.request("DELETE", &model, &Value::Null).await),
            Change::View => {
                let mut view = self.neighbour.view.clone();
                view["source"] = stage.events.as_str().into();
                view["event_time"] = "event.time".into();
                view["features"]["amount"]["expression"] = "event.other".into();
                stage.put(&format!("feature-views/{}", self.view_name()), &view).await?;
            }
            Change::Rival => self.put_view(stage, &format!("{name}-rival")).await?,
            Change::Tenant => {
                let tenant = json!({ "outputs": { "topic": self.topic } });
                stage.put(&format!("tenants/{name}"), &tenant).await?;
            }
            Change::Model => {
                let mut document = self.neighbour.of_own_view.clone();
                document["subscribe"]["topics"] = json!([stage.events]);
                document["view"] = "purchase".into();
                stage.put(&format!("models/{name}/own"), &document).await?;
            }
            Change::Inputs => {
                let mut document = self.neighbour.of_shared_view.clone();
                if let Some(features) = document["inputs"]["features"].as_array_mut() {
                    features.reverse();
                }
                document["subscribe"]["topics"] = json!([stage.events]);
                document["view"] = "purchase".into();
                stage.put(&model, &document).await?;
            }
        }
        Ok(())
    }
}

async fn world(bootstrap: &str, case: &Case, with_neighbour: bool) -> Result<Outcome> {
    let stage = Stage::start(bootstrap).await?;
    let hostile = Hostile {
        neighbour: &case.neighbour,
        topic: unique("hostile"),
    };
    let mut said = Vec::new();
    let mut ask = async |method: &str, path: &str, body: &Value| -> Result<()> {
        let answer = stage.worker.request(method, path, body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let text = text
            .replace(&stage.events, "EVENTS")
            .replace(&stage.predictions, "PREDICTIONS");
        said.push((answer.status, serde_json::from_str(&text).unwrap_or(Value::Null)));
        Ok(())
    };
    if let Some(ttl) = case.ttl {
        let brief = json!({ "keyed": { "by": "event.household" }, "ttl": { "after": ttl } });
        ask("PUT", "stores/households", &brief).await?;
    }
    let mut document = stage.model("linear.onnx");
    document["trigger"] = case.trigger.clone();
    if with_neighbour {
        hostile.put(&stage).await?;
    }
    ask("PUT", "models/shop/score", &document).await?;
    let config = [
        ("inference.commit.interval.ms", "10"),
        ("processing.guarantee", case.guarantee),
        ("errors.tolerance", "all"),
    ];
    let task = stage.task(&config)?;
    let mut sent = 0;
    for (index, chunk) in case.events.chunks(CHUNK).enumerate() {
        let records = chunk.iter().map(|event| {
            let key = event["household"].as_str().unwrap_or("h0").to_owned();
            (key, event.to_string())
        });
        stage.produce(records)?;
        sent += i64::try_from(chunk.len())?;
        if let Some(change) = case.neighbour.changes.get(index).filter(|_| with_neighbour) {
            hostile.change(&stage, *change).await?;
        }
        ask("PUT", "models/shop/score", &document).await?;
    }
    stage.until_committed(sent).await?;
    stage.wait_for_mode("in step").await?;
    task.stop()?;
    ask("GET", "models/shop/score", &Value::Null).await?;
    ask("GET", "feature-views/purchase", &Value::Null).await?;
    let mut outputs: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for output in read(stage.bootstrap(), &stage.predictions, 0).await? {
        let model = output.header("millrace.model");
        ensure!(model.starts_with("shop/score@"), "{model} wrote to B's topic");
        let source = output.header("millrace.source").replace(&stage.events, "");
        let key = output.key.clone().context("an output without a key")?;
        outputs.entry(key).or_default().push((source, output.value));
    }
    stage.worker.stop().await;
    Ok((outputs, said))
}

#[test]
fn no_document_of_one_tenant_changes_an_output_of_another() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let broker = runtime
        .block_on(async { DevBroker::start(OwnDevBroker::quick()) })
        .unwrap();
    let bootstrap = broker.bootstrap();
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..Config::default()
    };
    let seed = [7; 32];
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mut outputs = 0;
    let checked = std::cell::RefCell::new(&mut outputs);
    let result = runner.run(&case(), |case| {
        let (alone, beside) = runtime
            .block_on(async {
                let alone = world(&bootstrap, &case, false).await.context("B alone")?;
                let beside = world(&bootstrap, &case, true).await.context("A beside B")?;
                anyhow::Ok((alone, beside))
            })
            .map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        **checked.borrow_mut() += alone.0.values().map(Vec::len).sum::<usize>();
        prop_assert_eq!(&alone.0, &beside.0, "outputs");
        prop_assert_eq!(&alone.1, &beside.1, "what REST says");
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(outputs > 500, "{outputs} outputs were compared");
}
