//! A worker's properties in a container: a file that is mounted, and variables of the environment over it.
//!
//! ```text
//!  CONNECT_GROUP_ID=a               group.id=a               Confluent's images: capitals become small, _ a dot,
//!  CONNECT_KEY__X___Y=b             key_x-y=b                __ an underscore, ___ a hyphen
//!  CONNECT_SASL_JAAS_CONFIG_FILE=f  sasl.jaas.config=        what the file f has, without its last line break
//!  GROUP_ID=a                       group.id=a               Debezium's image has short names beside these
//!  KAFKA_HEAP_OPTS=-Xmx2g           -                        of a Java machine: said to have no effect
//! ```
//! Pure but for the files of secrets. Values are never shown.

use anyhow::{Context, bail};
use connect_api::ConfigMap;
use std::collections::BTreeMap;

/// What the environment makes of a worker.
#[derive(Debug, Default)]
pub struct Settings {
    /// the worker's properties
    pub properties: ConfigMap,
    /// names of variables that say something to a Java machine, and nothing here
    pub without_effect: Vec<String>,
    /// `LOG_LEVEL`, `CONNECT_LOG4J_ROOT_LOGLEVEL`
    pub log_level: Option<String>,
}

/// The prefix of Confluent's and Debezium's variables.
const PREFIX: &str = "CONNECT_";

/// Debezium's short names: variable and property.
const SHORT_NAMES: [(&str, &str); 12] = [
    ("BOOTSTRAP_SERVERS", "bootstrap.servers"),
    ("GROUP_ID", "group.id"),
    ("CONFIG_STORAGE_TOPIC", "config.storage.topic"),
    ("OFFSET_STORAGE_TOPIC", "offset.storage.topic"),
    ("STATUS_STORAGE_TOPIC", "status.storage.topic"),
    ("KEY_CONVERTER", "key.converter"),
    ("VALUE_CONVERTER", "value.converter"),
    ("OFFSET_FLUSH_INTERVAL_MS", "offset.flush.interval.ms"),
    ("OFFSET_FLUSH_TIMEOUT_MS", "offset.flush.timeout.ms"),
    ("SHUTDOWN_TIMEOUT", "task.shutdown.graceful.timeout.ms"),
    ("ADVERTISED_HOST_NAME", "rest.advertised.host.name"),
    ("ADVERTISED_PORT", "rest.advertised.port"),
];

/// What Debezium's image says where a variable does not: its start script's words, and Kafka's file `connect-distributed.properties`
/// under them, by which it runs on one broker.
const DEBEZIUMS_DEFAULTS: [(&str, &str); 7] = [
    ("group.id", "1"),
    ("status.storage.topic", "connect-status"),
    ("config.storage.replication.factor", "1"),
    ("offset.storage.replication.factor", "1"),
    ("status.storage.replication.factor", "1"),
    ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
    ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
];

/// Variables of Java machines and of start scripts, by how they begin.
const OF_JAVA: [&str; 16] = [
    "KAFKA_HEAP_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_JMX",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_DEBUG",
    "CONNECT_LOG4J_",
    "CONNECT_JMX_",
    "CONNECT_CUB_",
    "JMXPORT",
    "JMXHOST",
    "CLASSPATH",
    "EXTRA_ARGS",
    "ENABLE_",
    "HEAP_OPTS",
];

/// Variables that come instead of `listeners`: the port and, where it is said, the address.
const PORTS: [&str; 2] = ["CONNECT_REST_PORT", "REST_PORT"];
const HOSTS: [&str; 2] = ["CONNECT_REST_HOST_NAME", "REST_HOST_NAME"];

impl Settings {
    /// The properties of `file`, with `variables` over them.
    ///
    /// # Errors
    /// A variable names a file of a secret that cannot be read.
    pub fn new(file: ConfigMap, variables: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<Settings> {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let mut settings = Settings {
            properties: file,
            ..Settings::default()
        };
        settings.take_short_names(&variables);
        settings.take_listener(&variables);
        for (name, value) in &variables {
            if let Some(level) = log_level(name, value) {
                settings.log_level = Some(level);
            } else if OF_JAVA.iter().any(|begin| name.starts_with(begin)) {
                settings.without_effect.push(name.clone());
            } else if let Some(rest) = name.strip_prefix(PREFIX)
                && !rest.is_empty()
                && !PORTS.contains(&name.as_str())
                && !HOSTS.contains(&name.as_str())
            {
                let (property, value) = property(rest, name, value)?;
                settings.properties.insert(property, Some(value));
            }
        }
        Ok(settings)
    }

    /// Debezium's short names, and its image's defaults where there is one of them.
    fn take_short_names(&mut self, variables: &BTreeMap<String, String>) {
        let mut given = SHORT_NAMES
            .iter()
            .filter_map(|(variable, property)| {
                let value = variables.get(*variable).filter(|value| !value.is_empty())?;
                Some(((*property).to_owned(), value.clone()))
            })
            .peekable();
        if given.peek().is_none() {
            return;
        }
        for (property, value) in DEBEZIUMS_DEFAULTS {
            self.properties
                .entry(property.to_owned())
                .or_insert_with(|| Some(value.to_owned()));
        }
        for (property, value) in given {
            self.properties.insert(property, Some(value));
        }
    }

    fn take_listener(&mut self, variables: &BTreeMap<String, String>) {
        let one_of = |names: [&str; 2]| {
            let mut found = names.iter().filter_map(|name| variables.get(*name));
            found.find(|value| !value.is_empty()).cloned()
        };
        if let Some(port) = one_of(PORTS)
            && !self.properties.contains_key("listeners")
        {
            let host = one_of(HOSTS).unwrap_or_default();
            self.properties
                .insert("listeners".to_owned(), Some(format!("http://{host}:{port}")));
        }
    }
}

/// The level of the root logger, where a variable says it.
fn log_level(name: &str, value: &str) -> Option<String> {
    matches!(name, "LOG_LEVEL" | "CONNECT_LOG4J_ROOT_LOGLEVEL").then(|| value.trim().to_owned())
}

/// The property of a variable `name`, of which `rest` is what follows the prefix.
fn property(rest: &str, name: &str, value: &str) -> anyhow::Result<(String, String)> {
    match rest.strip_suffix("_FILE") {
        Some(stem) if value.starts_with('/') => {
            let secret = std::fs::read_to_string(value)
                .with_context(|| format!("{name}: the file that it names cannot be read"))?;
            let secret = secret.strip_suffix('\n').unwrap_or(&secret);
            let secret = secret.strip_suffix('\r').unwrap_or(secret);
            if stem.is_empty() {
                bail!("{name} names no property");
            }
            Ok((property_name(stem), secret.to_owned()))
        }
        _ => Ok((property_name(rest), value.to_owned())),
    }
}

/// `KEY__X___Y` is `key_x-y`: three underscores are a hyphen, two an underscore, one a dot.
fn property_name(rest: &str) -> String {
    let mut name = String::with_capacity(rest.len());
    let mut left = rest;
    while let Some(first) = left.chars().next() {
        let underscores = left.len() - left.trim_start_matches('_').len();
        let (taken, written) = match underscores {
            0 => (first.len_utf8(), first.to_ascii_lowercase()),
            1 => (1, '.'),
            2 => (2, '_'),
            _ => (3, '-'),
        };
        name.push(written);
        left = left.get(taken..).unwrap_or_default();
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn settings(file: &[(&str, &str)], variables: &[(&str, &str)]) -> Settings {
        let file = file
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::new(file.collect(), variables).unwrap()
    }

    fn get<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
        settings.properties.get(name)?.as_deref()
    }

    #[test]
    fn names_are_written_as_confluents_images_write_them() {
        for (variable, property) in [
            ("GROUP_ID", "group.id"),
            ("KEY__X___Y", "key_x-y"),
            ("A____B", "a-.b"),
            ("CONSUMER_MAX_POLL_RECORDS", "consumer.max.poll.records"),
        ] {
            assert_eq!(property_name(variable), property);
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let found = settings(
            &[
                ("group.id", "file"),
                ("offset.storage.topic", "o"),
                ("listeners", "http://:1"),
            ],
            &[
                ("CONNECT_GROUP_ID", "variable"),
                ("CONNECT_VALUE_CONVERTER", "a=b #c\\d\ne"),
                ("CONNECT_REST_PORT", "28083"),
                ("PATH", "/bin"),
                ("CONNECT_", "nothing"),
            ],
        );
        assert_eq!(get(&found, "group.id"), Some("variable"));
        assert_eq!(get(&found, "offset.storage.topic"), Some("o"));
        assert_eq!(get(&found, "value.converter"), Some("a=b #c\\d\ne"), "as it is");
        assert_eq!(get(&found, "listeners"), Some("http://:1"), "said by the file");
        assert_eq!(found.properties.len(), 4, "{:?}", found.properties.keys());
    }

    #[test]
    fn debeziums_short_names_come_with_its_defaults() {
        let found = settings(
            &[],
            &[
                ("BOOTSTRAP_SERVERS", "kafka:9092"),
                ("CONFIG_STORAGE_TOPIC", "my_connect_configs"),
                ("VALUE_CONVERTER", "io.apicurio.Converter"),
                ("STATUS_STORAGE_TOPIC", ""),
                ("CONNECT_OFFSET_STORAGE_REPLICATION_FACTOR", "3"),
                ("REST_PORT", "18083"),
                ("SHUTDOWN_TIMEOUT", "7000"),
            ],
        );
        let expected = [
            ("bootstrap.servers", "kafka:9092"),
            ("config.storage.replication.factor", "1"),
            ("config.storage.topic", "my_connect_configs"),
            ("group.id", "1"),
            ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
            ("listeners", "http://:18083"),
            ("offset.storage.replication.factor", "3"),
            ("status.storage.replication.factor", "1"),
            ("status.storage.topic", "connect-status"),
            ("task.shutdown.graceful.timeout.ms", "7000"),
            ("value.converter", "io.apicurio.Converter"),
        ];
        let mut names: Vec<&str> = found.properties.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, expected.map(|(name, _)| name));
        for (name, value) in expected {
            assert_eq!(get(&found, name), Some(value), "{name}");
        }
        // With Confluent's names alone, nothing is made up.
        assert_eq!(settings(&[], &[("CONNECT_GROUP_ID", "a")]).properties.len(), 1);
    }

    #[test]
    fn what_is_javas_has_no_effect_and_that_is_said() {
        let found = settings(
            &[],
            &[
                ("KAFKA_HEAP_OPTS", "-Xmx2g"),
                ("CONNECT_LOG4J_LOGGERS", "org.reflections=ERROR"),
                ("CONNECT_LOG4J_ROOT_LOGLEVEL", "DEBUG"),
                ("KAFKA_JMX_PORT", "9999"),
                ("ENABLE_DEBEZIUM_SCRIPTING", "true"),
            ],
        );
        assert!(found.properties.is_empty());
        assert_eq!(
            found.without_effect,
            [
                "CONNECT_LOG4J_LOGGERS",
                "ENABLE_DEBEZIUM_SCRIPTING",
                "KAFKA_HEAP_OPTS",
                "KAFKA_JMX_PORT"
            ]
        );
        assert_eq!(found.log_level.as_deref(), Some("DEBUG"));
    }

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jaas");
        std::fs::write(&path, "password=\"x\ny\";\n").unwrap();
        let path = path.to_str().unwrap();
        let found = settings(&[], &[("CONNECT_SASL_JAAS_CONFIG_FILE", path)]);
        assert_eq!(get(&found, "sasl.jaas.config"), Some("password=\"x\ny\";"));
        // A property that ends so, and a value that is no path.
        let found = settings(&[], &[("CONNECT_SOME_FILE", "name")]);
        assert_eq!(get(&found, "some.file"), Some("name"));
        let variables = [("CONNECT_SASL_JAAS_CONFIG_FILE".to_owned(), "/nowhere/at/all".to_owned())];
        let error = format!("{:#}", Settings::new(ConfigMap::new(), variables).unwrap_err());
        assert!(error.contains("CONNECT_SASL_JAAS_CONFIG_FILE"), "{error}");
    }
}
