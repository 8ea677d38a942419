//! `org.apache.kafka.connect.transforms.RegexRouter`: another topic, where the pattern matches the whole of it.

use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, java_regex, regex_validator};
use connect_api::java_regex::JavaRegex;
use connect_api::transform::Record;
use connect_api::{ConnectError, Transformation, TransformationPlugin};
use parking_lot::Mutex;
use std::sync::Arc;

pub(super) struct RegexRouterPlugin;

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
        Ok(Arc::new(RegexRouter {
            regex: java_regex("regex", parsed.text("regex").unwrap_or_default())?,
            replacement: parsed.text("replacement").unwrap_or_default().to_owned(),
            last: Mutex::new(None),
        }))
    }
}

struct RegexRouter {
    regex: JavaRegex,
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
        let routed = match self.regex.matches(topic)? {
            true => self.regex.replace_first(topic, &self.replacement)?.into(),
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
