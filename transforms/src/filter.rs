//! `org.apache.kafka.connect.transforms.Filter`: drops every record; a predicate says which.

use connect_api::config::{ConfigDef, ConfigMap};
use connect_api::transform::Record;
use connect_api::{ConnectError, Transformation, TransformationPlugin};
use std::sync::Arc;

pub(super) struct FilterPlugin;

impl TransformationPlugin for FilterPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.transforms.Filter"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&self, _: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        Ok(Arc::new(Filter))
    }
}

struct Filter;

impl Transformation for Filter {
    fn apply(&self, _record: Record) -> Result<Option<Record>, ConnectError> {
        Ok(None)
    }
}
