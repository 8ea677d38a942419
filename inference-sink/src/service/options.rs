//! The inference options of the worker's properties.

use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, ParsedValue, Validator, Width};
use connect_api::error::ConnectError;
use objects::{Location, S3Settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "Inference";
const REGISTRY_TOPIC: &str = "inference.registry.topic";

/// Typed values.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// `inference.registry.topic`, or the name that follows from `group.id`
    pub registry_topic: String,
    /// `inference.registry.replication.factor`
    pub registry_replication: i16,
    /// `inference.resources.dir`
    pub resources_dir: Option<PathBuf>,
    /// `inference.artifact.allowed.prefixes`
    pub allowed_prefixes: Vec<String>,
    /// `inference.cores`
    pub cores: usize,
    /// `inference.run.limit.ms`
    pub run_limit: Duration,
    /// `state.dir`
    pub state_dir: PathBuf,
    /// `archive.url`
    pub archive_url: Option<String>,
    /// `s3.*`: of the archive and of models
    pub s3: S3Settings,
}

/// The declaration.
pub fn config_def() -> ConfigDef {
    super::s3_options::define(inference_options())
}

fn inference_options() -> ConfigDef {
    let key = |name: &str, config_type, order| {
        ConfigKey::new(name, config_type)
            .group(GROUP, order, Width::Long)
            .importance(Importance::Medium)
    };
    ConfigDef::new()
        .define(
            key(REGISTRY_TOPIC, ConfigType::String, 1)
                .default_null()
                .doc("Compacted topic that holds tenants, stores, feature views and models; one per cluster. Default: <group.id>-inference-registry; to be set where group.id has what no topic's name may have."),
        )
        .define(
            key("inference.registry.replication.factor", ConfigType::Short, 2)
                .default("-1")
                .doc("Replication factor of the registry topic where the worker makes it; -1 for the brokers' default."),
        )
        .define(
            key("inference.resources.dir", ConfigType::String, 3)
                .default_null()
                .doc("Directory of YAML or JSON documents that are put into the registry when the worker starts."),
        )
        .define(
            key("inference.artifact.allowed.prefixes", ConfigType::List, 4)
                .default("")
                .importance(Importance::High)
                .doc("Where models may be loaded from: s3://BUCKET/PREFIX, file: URLs or directories. Empty: nowhere."),
        )
        .define(
            key("inference.cores", ConfigType::Int, 5)
                .default("0")
                .validator(Validator::Between(0.0, 1024.0))
                .doc("Threads that run models; 0 for one per core."),
        )
        .define(
            key("inference.run.limit.ms", ConfigType::Long, 6)
                .default("30000")
                .validator(Validator::AtLeast(10.0))
                .doc("A run of a model that takes longer gives its thread up, and the model is suspended."),
        )
        .define(
            key("state.dir", ConfigType::String, 7)
                .default("state")
                .importance(Importance::High)
                .doc("Directory of the worker's local copies of stores. Each worker needs its own. It can be deleted while the worker is stopped: state is rebuilt from the changelog topics."),
        )
        .define(
            key("archive.url", ConfigType::String, 8)
                .default_null()
                .validator(Validator::Custom("s3://BUCKET/PREFIX, file:///directory", Arc::new(is_location)))
                .doc("Where expired entries of stores with `archive: true` go: s3://BUCKET/PREFIX (reached as s3.* says), a file: URL or a directory. Each object is put once (If-None-Match: *), so the object store must honour conditional puts."),
        )
}

impl ServiceOptions {
    /// Reads the worker's properties.
    pub fn parse(properties: &ConfigMap) -> Result<ServiceOptions, ConnectError> {
        let parsed = config_def().parse(properties)?;
        let text = |name: &str| parsed.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let number = |name: &str| parsed.integer(name).unwrap_or_default();
        let archive_url = text("archive.url");
        Ok(ServiceOptions {
            registry_topic: registry_topic(properties).0,
            registry_replication: i16::try_from(number("inference.registry.replication.factor")).unwrap_or(-1),
            resources_dir: text("inference.resources.dir").map(PathBuf::from),
            allowed_prefixes: parsed.list("inference.artifact.allowed.prefixes").to_vec(),
            cores: usize::try_from(number("inference.cores")).unwrap_or(0),
            run_limit: Duration::from_millis(u64::try_from(number("inference.run.limit.ms")).unwrap_or(30_000)),
            state_dir: text("state.dir").unwrap_or_else(|| "state".to_owned()).into(),
            archive_url,
            s3: super::s3_options::parse(&parsed, properties)?,
        })
    }
}

/// The registry topic, and whether its name follows from `group.id`.
fn registry_topic(properties: &ConfigMap) -> (String, bool) {
    let text = |name: &str| {
        let text = properties.get(name).and_then(Option::as_deref).map(str::trim);
        text.filter(|text| !text.is_empty())
    };
    match text(REGISTRY_TOPIC) {
        Some(topic) => (topic.to_owned(), false),
        None => {
            let group = text("group.id").unwrap_or_default();
            (format!("{group}-inference-registry"), true)
        }
    }
}

/// What is wrong with these properties together.
pub fn check(properties: &ConfigMap) -> Vec<String> {
    let (topic, derived) = registry_topic(properties);
    let fault = kafka_client::check_topic_name(&topic).err();
    let message = fault.map(|reason| match derived {
        false => format!("Invalid value {topic} for configuration {REGISTRY_TOPIC}: {reason}"),
        true => format!(
            "Missing required configuration \"{REGISTRY_TOPIC}\": its default follows from group.id and would be {topic}; \
             {reason}. Set {REGISTRY_TOPIC} to a topic's name; group.id may stay as it is"
        ),
    });
    message.into_iter().collect()
}

fn is_location(name: &str, value: &ParsedValue) -> Result<(), String> {
    match value.to_text().filter(|url| !url.is_empty()) {
        None => Ok(()),
        Some(url) => Location::parse(&url)
            .map(|_| ())
            // The URL is left out: somebody may have written a secret into it.
            .map_err(|error| format!("Invalid value for configuration {name}: {error}")),
    }
}
