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

/// Java's transforms that are not built in: refused by name, where Java says what is wrong with their options.
const NOT_BUILT_IN: [&str; 9] = [
    "Cast",
    "DropHeaders",
    "Flatten",
    "HeaderFrom",
    "InsertHeader",
    "MaskField",
    "SetSchemaMetadata",
    "TimestampConverter",
    "TimestampRouter",
];

#[tokio::test]
async fn errors_are_those_of_java() {
    let validator = validator(&[]);
    let mut compared = 0;
    for line in include_str!("../../tests/vectors/connector-validate.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let config: ConfigMap = case["config"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned)))
            .collect();
        // checks that upstream makes elsewhere, or not at all: exactly one of topics and topics.regex; known predicates
        let elsewhere = |message: &String| {
            !message.contains("topics.regex are mutually")
                && !message.contains("Must configure one of")
                && !message.contains("it is not one of predicates")
        };
        let mut found: Vec<(String, Vec<String>)> = errors(&validator.validate(&config).await.unwrap())
            .into_iter()
            .map(|(name, messages)| (name, messages.into_iter().filter(elsewhere).collect::<Vec<_>>()))
            .filter(|(_, messages)| !messages.is_empty())
            .collect();
        let mut expected: Vec<(String, Vec<String>)> = case["expect"]["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| {
                let messages = value["errors"].as_array().unwrap();
                (
                    value["name"].as_str().unwrap().to_owned(),
                    messages.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
                )
            })
            .collect();
        // what follows `Invalid regex:` is the regular expression library's own
        let cut = |all: &mut Vec<(String, Vec<String>)>| {
            for message in all.iter_mut().flat_map(|(_, messages)| messages) {
                if let Some(at) = message.find("Invalid regex:") {
                    message.truncate(at);
                }
            }
            all.sort();
        };
        cut(&mut found);
        cut(&mut expected);
        let not_built_in = config
            .values()
            .flatten()
            .find(|class| NOT_BUILT_IN.iter().any(|name| class.contains(name)));
        if let Some(class) = not_built_in {
            let refusal = format!("Class {class} could not be found.");
            let refused = |(_, messages): &(String, Vec<String>)| messages.iter().any(|text| text.ends_with(&refusal));
            assert!(found.iter().any(refused), "{found:?}");
            compared += 1;
            continue;
        }
        assert_eq!(found, expected, "{}", case["id"]);
        compared += 1;
    }
    assert_eq!(compared, 29);
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
