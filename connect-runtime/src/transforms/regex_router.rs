//! `org.apache.kafka.connect.transforms.RegexRouter`: another topic, where the pattern matches the whole of it.

use super::replacement::{compile, compile_whole, replace_first};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, ParsedValue, Validator};
use connect_api::transform::Record;
use connect_api::{ConnectError, Transformation, TransformationPlugin};
use parking_lot::Mutex;
use regex::Regex;
use std::sync::Arc;

pub(super) struct RegexRouterPlugin;

/// A text that must be a regular expression.
pub(super) fn regex_validator() -> Validator {
    Validator::Custom(
        "valid regex",
        Arc::new(|name, value| match value {
            ParsedValue::String(pattern) => compile(name, pattern)
                .map(drop)
                .map_err(|error| error.message().to_owned()),
            _ => Ok(()),
        }),
    )
}

impl TransformationPlugin for RegexRouterPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.transforms.RegexRouter"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
            .define(
                ConfigKey::new("regex", ConfigType::String)
                    .validator(regex_validator())
                    .importance(Importance::High)
                    .doc("Regular expression to use for matching."),
            )
            .define(
                ConfigKey::new("replacement", ConfigType::String)
                    .importance(Importance::High)
                    .doc("Replacement string."),
            )
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        let pattern = parsed.text("regex").unwrap_or_default();
        Ok(Arc::new(RegexRouter {
            whole: compile_whole("regex", pattern)?,
            first: compile("regex", pattern)?,
            replacement: parsed.text("replacement").unwrap_or_default().to_owned(),
            last: Mutex::new(None),
        }))
    }
}

struct RegexRouter {
    whole: Regex,
    first: Regex,
    replacement: String,
    /// a topic and where it is routed: records mostly come with the same topic in a row
    last: Mutex<Option<(Arc<str>, Arc<str>)>>,
}

impl RegexRouter {
    fn route(&self, topic: &Arc<str>) -> Result<Arc<str>, ConnectError> {
        let mut last = self.last.lock();
        if let Some((known, routed)) = &*last
            && Arc::ptr_eq(known, topic)
        {
            return Ok(Arc::clone(routed));
        }
        let routed = match self.whole.is_match(topic) {
            true => replace_first(&self.first, topic, &self.replacement)?.into(),
            false => Arc::clone(topic),
        };
        *last = Some((Arc::clone(topic), Arc::clone(&routed)));
        Ok(routed)
    }
}

impl Transformation for RegexRouter {
    fn apply(&self, mut record: Record) -> Result<Option<Record>, ConnectError> {
        let routed = self.route(record.topic())?;
        record.set_topic(routed);
        Ok(Some(record))
    }
}
