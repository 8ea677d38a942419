//! `kind: feature_view`: features of one topic's events, declared once and shared by models.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::TimeSpan;
use super::fields::Fields;
use crate::number::Number;

/// Names that expressions use for the event itself; a feature cannot have one of them.
pub(crate) const EVENT_VARIABLES: [&str; 8] = [
    "event",
    "key",
    "headers",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "event_time",
];

/// Words of CEL that cannot name a variable.
const CEL_WORDS: [&str; 22] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "has",
];

/// A feature view.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureView {
    /// Its name, also that of its own store, where aggregates are kept that name no other.
    pub name: String,
    /// The topic whose events it reads.
    pub source: String,
    /// What the rows are about; for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The expression that the topic is partitioned by. Required as soon as there is an aggregate, and a part of every
    /// aggregate's `by`: an aggregate over several partitions would be a silent partial sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitioned_by: Option<String>,
    /// Event time: a number of epoch milliseconds, or RFC 3339 text. Default: the record's timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<String>,
    /// The features, in the order of the document.
    pub features: IndexMap<String, Feature>,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feature {
    /// How it is computed.
    #[serde(flatten)]
    pub definition: FeatureDefinition,
    /// Its value where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Default>,
}

/// How a feature is computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureDefinition {
    /// A row of a global store; its fields are `feature.field` in expressions.
    Lookup {
        /// Name of the store.
        store: String,
        /// Expression that gives the key.
        key: String,
    },
    /// A CEL expression.
    Expression(String),
    /// State by key over the events so far.
    Aggregate(AggregateSpec),
}

/// An aggregate over the events with the same key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AggregateSpec {
    /// What is computed.
    pub function: Function,
    /// Expression that is aggregated; an event where it is missing does not count. `count` and `time_since_last` need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Expressions of the key.
    pub by: Vec<String>,
    /// The keyed store it is kept in; by default the view's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Its own time to live since the last write; by default the store's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<TimeSpan>,
    /// Unit of `time_since_last`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<TimeUnit>,
    /// Half-life of `decayed_sum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_life: Option<TimeSpan>,
    /// Whether the value includes the event itself. Default: as it was before the event.
    pub including_this: bool,
}

/// What an aggregate computes. All of them accumulate in `f64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Number of events, of those where `of` is not missing when it is given. 0 for a key never seen.
    Count,
    /// Sum; 0 for a key never seen.
    Sum,
    /// Arithmetic mean; missing for a key never seen.
    Mean,
    /// Least value; missing for a key never seen.
    Min,
    /// Greatest value; missing for a key never seen.
    Max,
    /// Value of the first event in the order of the partition.
    First,
    /// Value of the last event in the order of the partition.
    Last,
    /// Event time minus the greatest earlier event time of the key, never below 0; missing for a key never seen.
    TimeSinceLast,
    /// Sum in which a value halves with every `half_life` of event time; 0 for a key never seen.
    DecayedSum,
}

/// Unit of a time span that becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Milliseconds.
    Ms,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Days of 24 hours.
    Days,
}

impl TimeUnit {
    /// Milliseconds of one unit.
    pub fn millis(self) -> f64 {
        match self {
            TimeUnit::Ms => 1.0,
            TimeUnit::Seconds => 1_000.0,
            TimeUnit::Minutes => 60_000.0,
            TimeUnit::Hours => 3_600_000.0,
            TimeUnit::Days => 86_400_000.0,
        }
    }
}

/// A feature's value where it is missing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Default {
    /// A number.
    Number(f64),
    /// An integer beyond 2^53 on either side, which a double would round.
    Signed(i64),
    /// An integer beyond 2^63.
    Unsigned(u64),
    /// True or false, as numbers 1 and 0.
    Bool(bool),
    /// Text, for a feature that only keys or other expressions use.
    Text(String),
}

impl FeatureView {
    pub(super) fn read(fields: &mut Fields<'_>) -> FeatureView {
        let name = fields.name("name");
        fields.require("source");
        let source = fields.topic("source").unwrap_or_default();
        let entity = fields.text("entity");
        let partitioned_by = fields.text("partitioned_by");
        let event_time = fields.text("event_time");
        fields.require("features");
        let features = fields
            .object("features", |features| Some(read_features(features)))
            .unwrap_or_default();
        let aggregated = features
            .values()
            .any(|f| matches!(f.definition, FeatureDefinition::Aggregate(_)));
        if aggregated && !fields.has("partitioned_by") {
            fields.error(
                "partitioned_by",
                "is required where a feature is an aggregate: the expression that the topic is partitioned by",
            );
        }
        FeatureView {
            name,
            source,
            entity,
            partitioned_by,
            event_time,
            features,
        }
    }
}

fn read_features(fields: &mut Fields<'_>) -> IndexMap<String, Feature> {
    let mut features = IndexMap::new();
    for (name, _) in fields.entries() {
        if let Err(message) = check_feature_name(name) {
            fields.error(name, message);
        }
        if let Some(feature) = fields.object(name, read_feature) {
            features.insert(name.clone(), feature);
        }
    }
    features
}

fn check_feature_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || name.len() > 63 || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!(
            "`{name}` is not a feature name; use a letter or _, then letters, digits or _, at most 63"
        ));
    }
    if EVENT_VARIABLES.contains(&name) || CEL_WORDS.contains(&name) {
        return Err(format!(
            "`{name}` has a meaning of its own in expressions; use another name"
        ));
    }
    Ok(())
}

fn read_feature(fields: &mut Fields<'_>) -> Option<Feature> {
    let default = match fields.value("default") {
        None => None,
        Some(Value::Bool(flag)) => Some(Default::Bool(*flag)),
        Some(Value::String(text)) => Some(Default::Text(text.clone())),
        Some(value) => {
            let number = default_number(value);
            if number.is_none() {
                fields.error("default", "expected a number, true, false or text");
            }
            number
        }
    };
    fields.unsupported("inference", "a feature cannot be another model's result");
    let kinds: Vec<&str> = ["lookup", "expression", "aggregate", "inference"]
        .into_iter()
        .filter(|kind| fields.has(kind))
        .collect();
    match kinds.as_slice() {
        [_] => {}
        [] => fields.error("", "a feature needs one of lookup, expression or aggregate"),
        several => fields.error(
            "",
            format!("a feature has one definition, not {}", several.join(" and ")),
        ),
    }
    let lookup = fields.object("lookup", read_lookup);
    let expression = fields.text("expression").map(FeatureDefinition::Expression);
    let aggregate = fields
        .object("aggregate", read_aggregate)
        .map(FeatureDefinition::Aggregate);
    if fields.has("lookup") && fields.has("default") {
        fields.error(
            "default",
            "a lookup is a row and has no default; give one to the expressions that use it",
        );
    }
    Some(Feature {
        definition: lookup.or(expression).or(aggregate)?,
        default,
    })
}

fn default_number(value: &Value) -> Option<Default> {
    let Value::Number(number) = value else { return None };
    Some(match Number::of_json(number)? {
        Number::Double(value) => Default::Number(value),
        Number::Signed(value) => Default::Signed(value),
        Number::Unsigned(value) => Default::Unsigned(value),
    })
}

fn read_lookup(fields: &mut Fields<'_>) -> Option<FeatureDefinition> {
    let store = fields.name("store");
    let key = fields.required_text("key");
    Some(FeatureDefinition::Lookup { store, key: key? })
}

fn read_aggregate(fields: &mut Fields<'_>) -> Option<AggregateSpec> {
    fields.unsupported(
        "window",
        "an aggregate is over all events of its key within its time to live",
    );
    fields.require("function");
    let function = match fields.text("function").as_deref() {
        Some(word @ ("distinct" | "quantile")) => {
            fields.error("function", format!("`{word}` is not supported yet"));
            None
        }
        Some(_) => fields.choice("function", &FUNCTIONS),
        None => None,
    };
    let of = fields.text("of");
    fields.require("by");
    let by = fields.texts("by");
    if fields.has("by") && by.is_empty() && !fields.has("window") {
        fields.error("by", "needs at least one expression");
    }
    let store = fields.optional_name("store");
    let ttl = fields.positive_span("ttl");
    let unit = fields.choice("unit", &UNITS);
    let half_life = fields.positive_span("half_life");
    let including_this = fields.flag("including_this").unwrap_or(false);
    let function = function?;
    check_function_options(fields, function);
    Some(AggregateSpec {
        function,
        of,
        by,
        store,
        ttl,
        unit,
        half_life,
        including_this,
    })
}

const FUNCTIONS: [(&str, Function); 9] = [
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("mean", Function::Mean),
    ("min", Function::Min),
    ("max", Function::Max),
    ("first", Function::First),
    ("last", Function::Last),
    ("time_since_last", Function::TimeSinceLast),
    ("decayed_sum", Function::DecayedSum),
];

const UNITS: [(&str, TimeUnit); 5] = [
    ("ms", TimeUnit::Ms),
    ("seconds", TimeUnit::Seconds),
    ("minutes", TimeUnit::Minutes),
    ("hours", TimeUnit::Hours),
    ("days", TimeUnit::Days),
];

fn check_function_options(fields: &Fields<'_>, function: Function) {
    let needs_of = !matches!(function, Function::Count | Function::TimeSinceLast);
    if needs_of && !fields.has("of") {
        fields.error("of", "is required: the expression that is aggregated");
    }
    match (function == Function::TimeSinceLast, fields.has("unit")) {
        (true, false) => fields.error("unit", "is required: ms, seconds, minutes, hours or days"),
        (false, true) => fields.error("unit", "is of time_since_last only"),
        _ => {}
    }
    match (function == Function::DecayedSum, fields.has("half_life")) {
        (true, false) => fields.error("half_life", "is required: the time in which a value halves, such as 1h"),
        (false, true) => fields.error("half_life", "is of decayed_sum only"),
        _ => {}
    }
}
