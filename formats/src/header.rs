//! A converter of values, used for headers: the built-in converters are both.

use bytes::Bytes;
use connect_api::config::{ConfigDef, ConfigMap};
use connect_api::converter::ConverterUse;
use connect_api::{ConnectError, Converter, ConverterPlugin, HeaderConverter, HeaderConverterPlugin, SchemaAndValue};
use std::sync::Arc;

pub(super) struct ForHeaders(pub(super) Arc<dyn ConverterPlugin>);

impl HeaderConverterPlugin for ForHeaders {
    fn class(&self) -> &'static str {
        self.0.class()
    }

    fn config_def(&self) -> ConfigDef {
        self.0.config_def()
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn HeaderConverter>, ConnectError> {
        Ok(Arc::new(HeaderValues(self.0.configure(config, ConverterUse::Header)?)))
    }
}

struct HeaderValues(Arc<dyn Converter>);

impl HeaderConverter for HeaderValues {
    fn from_connect_header(
        &self,
        topic: &str,
        _name: &str,
        data: &SchemaAndValue,
    ) -> Result<Option<Bytes>, ConnectError> {
        self.0.from_connect_data(topic, data)
    }

    fn to_connect_header(
        &self,
        topic: &str,
        _name: &str,
        bytes: Option<&Bytes>,
    ) -> Result<SchemaAndValue, ConnectError> {
        self.0.to_connect_data(topic, bytes)
    }

    fn reads_any_bytes(&self) -> bool {
        self.0.reads_any_bytes()
    }
}
