//! Against what Java's SinkConnectorConfig says of the same configurations, and the checks that are not in those.

use super::*;
use async_trait::async_trait;
use connect_api::config::{ConfigDef, ConfigType};
use connect_api::{Connector, ConnectorKind, ConnectorPlugin, Task};
use serde_json::Value;

struct Plugin {
    class: &'static str,
    kind: ConnectorKind,
}

#[async_trait]
impl ConnectorPlugin for Plugin {
    fn class(&self) -> &'static str {
        self.class
    }
    fn task_class(&self) -> &'static str {
        "test.Task"
    }
    fn kind(&self) -> ConnectorKind {
        self.kind
    }
    fn config_def(&self) -> ConfigDef {
        ConfigDef::new().define(ConfigKey::new("file", ConfigType::String).default_null())
    }
    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        if enrich::text(config, "file") == Some("boom") {
            panic!("boom");
        }
        if enrich::text(config, "file") == Some("secret") {
            entry(values, "file").errors.push("secret is not a file".to_owned());
        }
    }
    fn connector(&self) -> Box<dyn Connector> {
        unreachable!("validation starts nothing")
    }
    fn task(&self) -> Task {
        unreachable!("validation starts nothing")
    }
}

const SINK: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";
const SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
}

fn validator(further: &[(&str, &str)]) -> Validator {
    let mut properties = map(&[
        ("bootstrap.servers", "localhost:1"),
        ("group.id", "workers"),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("config.storage.topic", "c"),
        ("offset.storage.topic", "o"),
        ("status.storage.topic", "s"),
        ("config.providers", "env"),
        ("config.providers.env.class", "EnvVarConfigProvider"),
    ]);
    properties.extend(map(further));
    let mut plugins = Plugins::builtin();
    plugins.connectors.push(Arc::new(Plugin {
        class: SINK,
        kind: ConnectorKind::Sink,
    }));
    plugins.connectors.push(Arc::new(Plugin {
        class: SOURCE,
        kind: ConnectorKind::Source,
    }));
    let environment = [("FILE".to_owned(), "secret".to_owned())];
    Validator {
        plugins: Arc::new(plugins),
        providers: Arc::new(ConfigProviders::configure(&properties, environment.into_iter()).unwrap()),
        worker: Arc::new(WorkerConfig::new(properties, &[]).unwrap()),
    }
}

fn errors(validation: &Validation) -> Vec<(String, Vec<String>)> {
    validation
        .options
        .iter()
        .filter(|option| !option.value.errors.is_empty())
        .map(|option| (option.value.name.clone(), option.value.errors.clone()))
        .collect()
}

/// What is compared of an error: what follows `Invalid regex:` is the regular expression library's own, and of a class that
/// is not there this worker says more than Java.
fn compared(message: &str) -> &str {
    const ENDS: [&str; 2] = ["Invalid regex:", "could not be found."];
    let end = ENDS.iter().filter_map(|end| Some(message.find(end)? + end.len())).min();
    end.and_then(|end| message.get(..end)).unwrap_or(message)
}

#[tokio::test]
async fn errors_are_those_of_java() {
    let validator = validator(&[]);
    let (mut ran, mut not_built_in) = (0, Vec::new());
    for line in include_str!("../../tests/vectors/connector-validate.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let config: ConfigMap = case["config"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned)))
            .collect();
        let found = errors(&validator.validate(&config).await.unwrap());
        // where Java says what is wrong with the options of a class, this worker says that it has no such class
        if found
            .iter()
            .any(|(_, messages)| messages.iter().any(|text| text.contains("not built into this worker")))
        {
            not_built_in.push(case["id"].as_str().unwrap().to_owned());
            continue;
        }
        // checks that upstream makes elsewhere, or not at all: exactly one of topics and topics.regex; known predicates
        let elsewhere = |message: &&String| {
            !message.contains("topics.regex are mutually")
                && !message.contains("Must configure one of")
                && !message.contains("it is not one of predicates")
        };
        let mut found: Vec<(String, Vec<String>)> = found
            .iter()
            .map(|(name, messages)| {
                let messages = messages.iter().filter(elsewhere);
                (
                    name.clone(),
                    messages.map(|text| compared(text).to_owned()).collect::<Vec<_>>(),
                )
            })
            .filter(|(_, messages)| !messages.is_empty())
            .collect();
        let expected = case["expect"]["values"].as_array().unwrap().iter();
        let mut expected: Vec<(String, Vec<String>)> = expected
            .map(|value| {
                let messages = value["errors"].as_array().unwrap().iter();
                let messages = messages.map(|text| compared(text.as_str().unwrap()).to_owned());
                (value["name"].as_str().unwrap().to_owned(), messages.collect())
            })
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", case["id"]);
        ran += 1;
    }
    // a transform MaskField, and a transform TimestampRouter
    const MISSING: [&str; 2] = [
        "connector-validate/SinkConnectorConfig/476cc5b2ee",
        "connector-validate/SinkConnectorConfig/d4364b1d1f",
    ];
    assert_eq!(ran, 27, "cases compared with Java");
    assert_eq!(not_built_in, MISSING, "cases with a class that is not built in");
}

fn sink(further: &[(&str, &str)]) -> ConfigMap {
    let mut config = map(&[("name", "c"), ("connector.class", "FileStreamSink"), ("topics", "t")]);
    config.extend(map(further));
    config
}

#[tokio::test]
async fn checks_across_options_name_the_option() {
    let validator = validator(&[("connector.client.config.override.policy", "Principal")]);
    let cases: [(ConfigMap, &str, &str); 7] = [
        (
            sink(&[("topics", "")]),
            "topics",
            "Must configure one of topics or topics.regex",
        ),
        (
            sink(&[("topics.regex", "t.*")]),
            "topics.regex",
            "topics and topics.regex are mutually exclusive",
        ),
        (
            sink(&[("errors.deadletterqueue.topic.name", "t")]),
            "topics",
            "The DLQ topic 't' may not be included",
        ),
        (
            sink(&[("consumer.override.group.id", "workers")]),
            "consumer.override.group.id",
            "conflicts with Connect worker group",
        ),
        (
            sink(&[("producer.override.acks", "1")]),
            "producer.override.acks",
            "The 'Principal' policy does not allow 'acks' to be overridden in the connector configuration.",
        ),
        (
            sink(&[
                ("transforms", "a"),
                ("transforms.a.type", "Filter"),
                ("transforms.a.predicate", "p"),
            ]),
            "transforms.a.predicate",
            "it is not one of predicates",
        ),
        (
            map(&[
                ("name", "c"),
                ("connector.class", SOURCE),
                ("exactly.once.support", "required"),
            ]),
            "exactly.once.support",
            "This worker does not have exactly-once source support enabled.",
        ),
    ];
    for (config, option, text) in cases {
        let validation = validator.validate(&config).await.unwrap();
        let found = errors(&validation);
        let named = found
            .iter()
            .find(|(name, _)| name == option)
            .map(|(_, messages)| messages.join("\n"));
        assert!(
            named.is_some_and(|messages| messages.contains(text)),
            "{option}: {found:?}"
        );
    }
}

#[tokio::test]
async fn what_a_config_provider_gave_is_not_shown() {
    let validation = validator(&[])
        .validate(&sink(&[("file", "${env:FILE}")]))
        .await
        .unwrap();
    let answer = validation.to_json().to_string();
    assert!(!answer.contains("secret"), "{answer}");
    assert!(answer.contains("${env:FILE}"));
    assert_eq!(validation.error_count(), 1);
}

#[tokio::test]
async fn a_panic_of_the_connectors_own_check_is_an_error() {
    let validation = validator(&[]).validate(&sink(&[("file", "boom")])).await.unwrap();
    assert_eq!(errors(&validation)[0].0, "connector.class");
    let refusal = validation.into_result().unwrap_err();
    assert!(
        refusal
            .message()
            .starts_with("Connector configuration is invalid and contains the following 1 error(s):\n")
    );
}

#[tokio::test]
async fn both_spellings_of_the_order_are_sent() {
    let validation = validator(&[]).validate(&sink(&[])).await.unwrap();
    assert_eq!(validation.error_count(), 0, "{:?}", errors(&validation));
    let answer = validation.to_json();
    let entry = answer["configs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["value"]["name"] == "tasks.max")
        .unwrap();
    assert_eq!(entry["definition"]["order"], 4);
    assert_eq!(entry["definition"]["order_in_group"], 4);
    assert_eq!(entry["definition"]["default_value"], "1");
    assert_eq!(entry["value"]["value"], "1");
}

#[tokio::test]
async fn an_unknown_class_is_refused_in_words_that_clients_look_for() {
    let config = map(&[("name", "c"), ("connector.class", "Nope")]);
    let refusal = validator(&[]).validate(&config).await.unwrap_err();
    assert_eq!(refusal.status(), 400);
    assert!(
        refusal
            .message()
            .starts_with("Failed to find any class that implements Connector and which name matches Nope")
    );
}

/// What is said of options that nobody reads: refused, warned of.
async fn unread(config: ConfigMap) -> (Vec<(String, String)>, Vec<(String, String)>) {
    let validation = validator(&[]).validate(&config).await.unwrap();
    let refused = errors(&validation).into_iter();
    let refused = refused.map(|(name, messages)| (name, messages.join("; "))).collect();
    let warned = validation.unread.iter();
    let warned = warned
        .map(|option| (option.name.clone(), option.message.clone()))
        .collect();
    (refused, warned)
}

#[tokio::test]
async fn a_name_that_was_or_nearly_is_an_option_is_refused_with_the_right_one() {
    for (config, name, right) in [
        (sink(&[("flie", "x")]), "flie", "did you mean 'file'?"),
        (sink(&[("topic", "x")]), "topic", "did you mean 'topics'?"),
        (sink(&[("task.max", "2")]), "task.max", "did you mean 'tasks.max'?"),
        (
            sink(&[("errors.deadletterqueue.topic.nane", "d")]),
            "errors.deadletterqueue.topic.nane",
            "did you mean 'errors.deadletterqueue.topic.name'?",
        ),
        (
            sink(&[
                ("value.converter", "JsonConverter"),
                ("value.converter.schema.enable", "false"),
            ]),
            "value.converter.schema.enable",
            "did you mean 'value.converter.schemas.enable'?",
        ),
        (
            sink(&[
                ("transforms", "a"),
                (
                    "transforms.a.type",
                    "org.apache.kafka.connect.transforms.ReplaceField$Value",
                ),
                ("transforms.a.whitelist", "x"),
            ]),
            "transforms.a.whitelist",
            "its name is 'transforms.a.include' now",
        ),
        (
            sink(&[
                ("transforms", "a"),
                ("transforms.a.type", "RegexRouter"),
                ("transforms.a.regex", "x"),
                ("transforms.a.replacement", "x"),
                ("transforms.a.predicates", "p"),
            ]),
            "transforms.a.predicates",
            "did you mean 'transforms.a.predicate'?",
        ),
        (
            sink(&[("consumer.override.max.pol.records", "5")]),
            "consumer.override.max.pol.records",
            "did you mean max.poll.records?",
        ),
    ] {
        let (refused, warned) = unread(config).await;
        let said = refused.iter().find(|(option, _)| option == name);
        assert!(
            said.is_some_and(|(_, message)| message.ends_with(right)),
            "{name}: {refused:?} {warned:?}"
        );
        assert!(warned.is_empty(), "{warned:?}");
    }
}

#[tokio::test]
async fn any_other_option_that_nobody_reads_is_a_warning() {
    let config = sink(&[
        ("owner", "team a"),
        ("topic.creation.groups", "g"),
        ("value.converter.schemas.enable", "false"),
        ("transforms.unwrap.type", "Filter"),
        ("predicates.p.type", "RecordIsTombstone"),
        ("producer.override.acks", "all"),
        ("topic.creation.default.partitions", "1"),
        ("consumer.override.auto.commit.interval.ms", "1"),
    ]);
    let (refused, warned) = unread(config.clone()).await;
    assert!(refused.is_empty(), "{refused:?}");
    let reasons = [
        ("owner", "nobody reads it"),
        ("topic.creation.groups", "it is an option of source connectors"),
        ("value.converter.schemas.enable", "without 'value.converter'"),
        ("transforms.unwrap.type", "'unwrap' is not in 'transforms'"),
        ("predicates.p.type", "'p' is not in 'predicates'"),
        ("producer.override.acks", "no such client"),
        ("topic.creation.default.partitions", "a sink creates no topics"),
        (
            "consumer.override.auto.commit.interval.ms",
            "has no effect: offsets are committed at offset.flush.interval.ms",
        ),
    ];
    assert_eq!(warned.len(), reasons.len(), "{warned:?}");
    for ((name, message), (expected, reason)) in warned.iter().zip(reasons) {
        assert!(name == expected && message.contains(reason), "{name}: {message}");
    }
    // the answer has them beside what Java's has, and without them it has Java's members only
    let validator = validator(&[]);
    let answer = validator.validate(&config).await.unwrap().to_json();
    assert_eq!(answer["error_count"], 0);
    assert_eq!(answer["warnings"][0]["name"], "owner");
    let answer = validator.validate(&sink(&[])).await.unwrap().to_json();
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["name", "error_count", "groups", "configs"]);
}

#[tokio::test]
async fn an_option_that_is_known_and_does_nothing_is_a_warning() {
    let config = map(&[
        ("name", "c"),
        ("connector.class", "FileStreamSource"),
        ("transaction.boundary", "interval"),
        ("transaction.boundary.interval.ms", "5"),
        ("producer.override.max.block.ms", "5"),
    ]);
    let (refused, warned) = unread(config).await;
    assert!(refused.is_empty(), "{refused:?}");
    let reasons = [
        (
            "transaction.boundary",
            "exactly-once delivery of sources is not supported",
        ),
        (
            "transaction.boundary.interval.ms",
            "exactly-once delivery of sources is not supported",
        ),
        ("producer.override.max.block.ms", "without this limit"),
    ];
    assert_eq!(warned.len(), reasons.len(), "{warned:?}");
    for ((name, message), (expected, reason)) in warned.iter().zip(reasons) {
        assert!(
            name == expected && message.contains("has no effect") && message.contains(reason),
            "{name}: {message}"
        );
    }
}

#[tokio::test]
async fn the_value_of_a_misspelt_option_is_not_shown() {
    let answer = validator(&[])
        .validate(&sink(&[("fil", "hunter2")]))
        .await
        .unwrap()
        .to_json();
    assert_eq!(answer["error_count"], 1);
    assert!(!answer.to_string().contains("hunter2"), "{answer}");
}
