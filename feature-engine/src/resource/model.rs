//! `kind: model`: an ONNX model, what it subscribes to, its inputs, trigger and output.

use indexmap::IndexMap;
use serde::Serialize;

use super::fields::Fields;
use super::{TimeSpan, is_resource_name};

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its name within the tenant.
    pub name: String,
    /// Its version, from 1; absent: the last one plus 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Where the ONNX file is: a URL of scheme s3 or file.
    pub artifact: String,
    /// SHA-256 of the file in lower-case hexadecimal, verified if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The events it is run on.
    pub subscribe: Subscription,
    /// The feature views that it reads, one for each of its topics: `view: NAME`, or a list of names. Where it is left out,
    /// it is found when the model is put, and kept with it from then on.
    #[serde(
        rename = "view",
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "one_or_several"
    )]
    pub views: Vec<String>,
    /// Tensor name -> features in the order of the tensor's columns.
    pub inputs: IndexMap<String, Vec<String>>,
    /// When it is run.
    pub trigger: Trigger,
    /// What leaves it.
    pub output: Output,
    /// Scheduling order inside a tenant; a missed one is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<TimeSpan>,
    /// When to stop running a failing model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<Breaker>,
}

/// The events a model is run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subscription {
    /// Topics.
    pub topics: Vec<String>,
    /// Event types; empty: all of them.
    pub events: Vec<String>,
    /// Expression that gives an event's type, compared with `events`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Expression that must be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// When a model is run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// For every event; rows that already wait run as one batch.
    Each {},
    /// When a batch is full or its oldest row has waited long enough.
    Batch {
        /// Rows of a full batch.
        max_batch_size: u32,
        /// Longest wait of a row.
        max_queue_delay: TimeSpan,
    },
    /// One row per key and tumbling window, with the features as they are at closing.
    Window {
        /// Length of the window; windows are aligned to the epoch.
        tumbling: TimeSpan,
        /// How long late events are waited for, in event time.
        grace: TimeSpan,
        /// Expressions of the window's key.
        by: Vec<String>,
        /// On closing only, or on every event too.
        emit: Emit,
    },
}

/// When a window's row runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Once, when the window has closed.
    Final,
    /// With every event of the window.
    Update,
}

/// What leaves a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Topic; by default the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Expression of the output record's key; by default the event's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Field of the output value -> selector of a model output, such as `probabilities[1]`.
    pub fields: IndexMap<String, String>,
    /// Name of the store that keeps the latest output by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// Circuit breaker of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Breaker {
    /// Errors that open it.
    pub open_after: u32,
    /// Time in which they must happen. Default 1m.
    pub within: TimeSpan,
    /// Time after which a run is tried again. Default 30s.
    pub retry_after: TimeSpan,
}

impl Model {
    /// `tenant/name`
    pub fn identity(&self) -> String {
        format!("{}/{}", self.tenant, self.name)
    }

    /// The features that its inputs name, in order, with repetitions.
    pub fn input_features(&self) -> impl Iterator<Item = &str> {
        self.inputs.values().flatten().map(String::as_str)
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Model {
        for required in ["artifact", "subscribe", "inputs", "trigger", "output"] {
            fields.require(required);
        }
        fields.unsupported("response_cache", "");
        fields.object("rollout", |rollout| {
            rollout.unsupported("canary", "a new version takes over as a whole");
            rollout.unsupported("shadow", "put the version under another name and compare its outputs");
            Some(())
        });
        Model {
            tenant: fields.name("tenant"),
            name: fields.name("name"),
            version: fields.whole("version", 1..=i32::MAX as u64),
            artifact: fields
                .text("artifact")
                .inspect(|url| check_artifact(fields, url))
                .unwrap_or_default(),
            sha256: fields.text("sha256").inspect(|hash| check_sha256(fields, hash)),
            subscribe: fields
                .object("subscribe", read_subscription)
                .unwrap_or_else(|| Subscription {
                    topics: Vec::new(),
                    events: Vec::new(),
                    event_type: None,
                    filter: None,
                }),
            views: read_views(fields),
            inputs: fields.object("inputs", read_inputs).unwrap_or_default(),
            trigger: fields.object("trigger", read_trigger).unwrap_or(Trigger::Each {}),
            output: fields.object("output", read_output).unwrap_or_else(|| Output {
                topic: None,
                key: None,
                fields: IndexMap::new(),
                store: None,
            }),
            deadline: fields.positive_span("deadline"),
            on_error: fields.object("on_error", read_breaker),
        }
    }
}

/// One name as a text, several as a list.
fn one_or_several<S: serde::Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match names {
        [name] => serializer.serialize_str(name),
        names => serializer.collect_seq(names),
    }
}

fn read_views(fields: &Fields<'_>) -> Vec<String> {
    let mut views = fields.texts("view");
    for name in views.iter().filter(|name| !is_resource_name(name)) {
        fields.error(
            "view",
            format!("`{name}` is not a name; use 1 to 63 of a-z, 0-9, _ and -"),
        );
    }
    views.sort();
    views.dedup();
    views
}

fn check_artifact(fields: &Fields<'_>, url: &str) {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("s3" | "file") => {}
        Some(scheme @ ("gs" | "az" | "http" | "https")) => fields.error(
            "artifact",
            format!("`{scheme}://` is not supported yet; use s3:// or file://"),
        ),
        _ => fields.error("artifact", format!("`{url}` is not a URL with scheme s3 or file")),
    }
}

fn check_sha256(fields: &Fields<'_>, hash: &str) {
    if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        fields.error("sha256", "expected 64 lower-case hexadecimal digits");
    }
}

fn read_subscription(fields: &mut Fields<'_>) -> Option<Subscription> {
    fields.require("topics");
    let topics = fields.topics("topics");
    if fields.has("topics") && topics.is_empty() {
        fields.error("topics", "needs at least one topic");
    }
    let events = fields.texts("events");
    let event_type = fields.text("event_type");
    if !events.is_empty() && event_type.is_none() {
        fields.error(
            "event_type",
            "is required with `events`: the expression that gives an event's type, such as headers['type']",
        );
    }
    if events.is_empty() && event_type.is_some() {
        fields.error("events", "is required with `event_type`: the types to subscribe to");
    }
    Some(Subscription {
        topics,
        events,
        event_type,
        filter: fields.text("filter"),
    })
}

fn read_inputs(fields: &mut Fields<'_>) -> Option<IndexMap<String, Vec<String>>> {
    let mut inputs = IndexMap::new();
    for (tensor, _) in fields.entries() {
        let features = fields.texts(tensor);
        if features.is_empty() {
            fields.error(tensor, "needs at least one feature");
        }
        inputs.insert(tensor.clone(), features);
    }
    if inputs.is_empty() {
        fields.error("", "needs at least one tensor");
    }
    Some(inputs)
}

fn read_trigger(fields: &mut Fields<'_>) -> Option<Trigger> {
    fields.unsupported("interval", "use each, batch or window");
    let kinds: Vec<&str> = ["each", "batch", "window", "interval"]
        .into_iter()
        .filter(|k| fields.has(k))
        .collect();
    match kinds.as_slice() {
        [_] => {}
        [] => fields.error("", "needs one of each, batch or window"),
        several => fields.error("", format!("a model has one trigger, not {}", several.join(" and "))),
    }
    let each = fields.object("each", |_| Some(Trigger::Each {}));
    let batch = fields.object("batch", |batch| {
        batch.require("max_batch_size");
        batch.require("max_queue_delay");
        let size = batch.whole("max_batch_size", 1..=65_536);
        let delay = batch.span("max_queue_delay");
        Some(Trigger::Batch {
            max_batch_size: size? as u32,
            max_queue_delay: delay?,
        })
    });
    let window = fields.object("window", read_window);
    each.or(batch).or(window)
}

fn read_window(window: &mut Fields<'_>) -> Option<Trigger> {
    for other in ["hopping", "sliding", "session"] {
        window.unsupported(other, "use tumbling");
    }
    if !["hopping", "sliding", "session"].iter().any(|other| window.has(other)) {
        window.require("tumbling");
    }
    let tumbling = window.positive_span("tumbling");
    let grace = window.span("grace").unwrap_or(TimeSpan::from_millis(0));
    window.require("by");
    let by = window.texts("by");
    let emit = window
        .choice("emit", &[("final", Emit::Final), ("update", Emit::Update)])
        .unwrap_or(Emit::Final);
    Some(Trigger::Window {
        tumbling: tumbling?,
        grace,
        by,
        emit,
    })
}

fn read_output(fields: &mut Fields<'_>) -> Option<Output> {
    let format = fields.text("format");
    if let Some(format) = format.filter(|format| format != "json") {
        fields.not_supported("format", &format!("`{format}` values cannot be written; use json"));
    }
    fields.require("fields");
    let selectors = fields.object("fields", |selectors| {
        let mut outputs = IndexMap::new();
        for (name, _) in selectors.entries() {
            if name == "event_time" {
                selectors.error(name, "is added to every output value; use another name");
            }
            match selectors.text(name) {
                Some(selector) => outputs.insert(name.clone(), selector),
                None if !selectors.has(name) => {
                    selectors.error(name, "expected a model output such as probabilities[1]");
                    None
                }
                None => None,
            };
        }
        if outputs.is_empty() {
            selectors.error("", "needs at least one field");
        }
        Some(outputs)
    });
    let topic = fields.topic("topic");
    let (key, store) = (fields.text("key"), fields.optional_name("store"));
    Some(Output {
        topic,
        key,
        fields: selectors.unwrap_or_default(),
        store,
    })
}

fn read_breaker(fields: &mut Fields<'_>) -> Option<Breaker> {
    fields.require("open_after");
    let within = fields.positive_span("within").unwrap_or(TimeSpan::from_millis(60_000));
    let retry_after = fields
        .positive_span("retry_after")
        .unwrap_or(TimeSpan::from_millis(30_000));
    Some(Breaker {
        open_after: fields.whole("open_after", 1..=1_000_000)? as u32,
        within,
        retry_after,
    })
}
