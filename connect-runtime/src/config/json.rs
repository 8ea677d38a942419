//! Configurations as REST shows them.

use connect_api::ConfigMap;
use serde_json::Value;

/// An object of text, with `null` where that was posted.
pub(crate) fn config_json(config: &ConfigMap) -> Value {
    Value::Object(
        config
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().map_or(Value::Null, Value::String)))
            .collect(),
    )
}
