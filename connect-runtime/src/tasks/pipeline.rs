//! A connector's converters and transforms, in both directions.
//!
//! ```text
//!   source: record -> transforms -> header, key, value converters -> bytes
//!   sink:   bytes -> key, value, header converters -> transforms -> record
//! ```
//! A sink record's key and value are read here, not when the task asks, unless their converter makes something of any bytes:
//! only so does a record that cannot be read fail in the converter's stage, where `errors.tolerance` covers it.

use super::TaskEnvironment;
use super::fetched::{self, FetchedRecord};
use super::transform_chain::TransformChain;
use crate::errors::{ErrorHandler, FailedRecord, Handled, Reporter};
use crate::plugins::{PluginKind, Plugins};
use bytes::Bytes;
use connect_api::config::{ConfigMap, with_prefix};
use connect_api::converter::ConverterUse;
use connect_api::transform::Record;
use connect_api::{ConnectError, Converter, Header, HeaderConverter, SinkRecord, SourceRecord, Stage};
use kafka_client::Messages;
use std::ops::Range;
use std::sync::Arc;

/// A record on its way to Kafka, in bytes.
pub(super) struct OutRecord {
    pub(super) topic: Arc<str>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(Arc<str>, Option<Bytes>)>,
}

impl OutRecord {
    /// What it takes of a budget of bytes.
    pub(super) fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + length(value))
            .sum();
        64 + length(&self.key) + length(&self.value) + headers
    }
}

struct NamedConverter {
    class: &'static str,
    converter: Arc<dyn Converter>,
}

/// Converters and transforms of one task.
pub(super) struct Pipeline {
    key: NamedConverter,
    value: NamedConverter,
    header_class: &'static str,
    pub(super) header: Arc<dyn HeaderConverter>,
    transforms: TransformChain,
    /// nothing is read or changed between Kafka and a sink task, so nothing can fail there
    passes_through: bool,
    pub(super) errors: ErrorHandler,
}

impl Pipeline {
    /// Builds what the connector's options, or else the worker's, name.
    pub(super) fn new(environment: &TaskEnvironment, errors: ErrorHandler) -> Result<Self, ConnectError> {
        let config = &environment.spec.connector_config;
        let plugins = &environment.runner.plugins;
        let converter = |option: &str, converter_use: ConverterUse| -> Result<NamedConverter, ConnectError> {
            let (class, options) = chosen(environment, config, option);
            let plugin = plugins
                .converter(&class)
                .ok_or_else(|| not_found(plugins, PluginKind::Converter, option, &class))?;
            Ok(NamedConverter {
                class: plugin.class(),
                converter: plugin.configure(&options, converter_use)?,
            })
        };
        let (header_class, header_options) = chosen(environment, config, "header.converter");
        let header_plugin = plugins
            .header_converter(&header_class)
            .ok_or_else(|| not_found(plugins, PluginKind::HeaderConverter, "header.converter", &header_class))?;
        let key = converter("key.converter", ConverterUse::Key)?;
        let value = converter("value.converter", ConverterUse::Value)?;
        let header = header_plugin.configure(&header_options)?;
        let transforms = TransformChain::new(plugins, config)?;
        Ok(Self {
            passes_through: transforms.is_empty()
                && key.converter.reads_any_bytes()
                && value.converter.reads_any_bytes()
                && header.reads_any_bytes(),
            key,
            value,
            header_class: header_plugin.class(),
            header,
            transforms,
            errors,
        })
    }

    /// The converter of keys.
    pub(super) fn key_converter(&self) -> Arc<dyn Converter> {
        Arc::clone(&self.key.converter)
    }

    /// The converter of values.
    pub(super) fn value_converter(&self) -> Arc<dyn Converter> {
        Arc::clone(&self.value.converter)
    }

    /// A record for Kafka; `None` where a transform dropped it or it failed and is skipped.
    pub(super) async fn to_kafka(&self, record: SourceRecord) -> Result<Option<OutRecord>, ConnectError> {
        let original = record.clone();
        let record = if self.transforms.is_empty() {
            record
        } else {
            match self
                .transforms
                .apply(&self.errors, &original, Record::Source(record))
                .await?
            {
                Handled::Done(Some(Record::Source(record))) => record,
                Handled::Done(_) | Handled::Skipped => return Ok(None),
            }
        };
        let topic = &record.topic;
        let mut headers = Vec::with_capacity(record.headers.len());
        for header in &record.headers {
            let write = || self.header.from_connect_header(topic, &header.name, &header.data);
            match self
                .errors
                .run(Stage::HeaderConverter, self.header_class, &original, write)
                .await?
            {
                Handled::Done(bytes) => headers.push((Arc::clone(&header.name), bytes)),
                Handled::Skipped => return Ok(None),
            }
        }
        let key = || record.key.to_bytes(topic, &self.key.converter);
        let Handled::Done(key) = self
            .errors
            .run(Stage::KeyConverter, self.key.class, &original, key)
            .await?
        else {
            return Ok(None);
        };
        let value = || record.value.to_bytes(topic, &self.value.converter);
        let Handled::Done(value) = self
            .errors
            .run(Stage::ValueConverter, self.value.class, &original, value)
            .await?
        else {
            return Ok(None);
        };
        Ok(Some(OutRecord {
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
            key,
            value,
            headers,
            topic: record.topic,
        }))
    }

    /// Records for a sink task, of those fetched ones at `places`, which are of one partition of `topic`, in order; without those
    /// that a transform dropped, or that failed and are skipped.
    pub(super) async fn to_task(
        &self,
        topic: &Arc<str>,
        messages: &Arc<Messages>,
        places: Range<usize>,
        records: &mut Vec<SinkRecord>,
    ) -> Result<(), ConnectError> {
        let batch = fetched::batch(self, topic, messages);
        for at in places {
            let Some(message) = messages.get(at) else { break };
            let record = fetched::record(&batch, message, at);
            if self.passes_through {
                records.push(record);
            } else {
                let fetched = FetchedRecord { topic, message };
                records.extend(self.work_on(record, &fetched).await?);
            }
        }
        Ok(())
    }

    async fn work_on(
        &self,
        mut record: SinkRecord,
        fetched: &FetchedRecord<'_>,
    ) -> Result<Option<SinkRecord>, ConnectError> {
        let sides = [
            (record.key(), &self.key, Stage::KeyConverter),
            (record.value(), &self.value, Stage::ValueConverter),
        ];
        for (datum, side, stage) in sides {
            if side.converter.reads_any_bytes() {
                continue;
            }
            let read = || datum.get().map(drop);
            if let Handled::Skipped = self.errors.run(stage, side.class, fetched, read).await? {
                return Ok(None);
            }
        }
        if !self.header.reads_any_bytes() {
            let mut headers = Vec::new();
            for (name, bytes) in fetched.message.headers() {
                let bytes = bytes.map(Bytes::copy_from_slice);
                let read = || self.header.to_connect_header(fetched.topic, name, bytes.as_ref());
                match self
                    .errors
                    .run(Stage::HeaderConverter, self.header_class, fetched, read)
                    .await?
                {
                    Handled::Done(data) => headers.push(Header {
                        name: name.into(),
                        data,
                    }),
                    Handled::Skipped => return Ok(None),
                }
            }
            record.set_headers(headers);
        }
        if self.transforms.is_empty() {
            return Ok(Some(record));
        }
        match self
            .transforms
            .apply(&self.errors, fetched, Record::Sink(record))
            .await?
        {
            Handled::Done(Some(Record::Sink(record))) => Ok(Some(record)),
            Handled::Done(_) | Handled::Skipped => Ok(None),
        }
    }
}

/// The class and options of a converter: the connector's, or the worker's where the connector names none.
fn chosen(environment: &TaskEnvironment, config: &ConfigMap, option: &str) -> (String, ConfigMap) {
    match config
        .get(option)
        .and_then(Option::as_deref)
        .map(str::trim)
        .filter(|class| !class.is_empty())
    {
        Some(class) => (class.to_owned(), with_prefix(config, &format!("{option}."))),
        None => environment.runner.worker.converter(option),
    }
}

fn not_found(plugins: &Plugins, kind: PluginKind, option: &str, class: &str) -> ConnectError {
    ConnectError::config(plugins.unusable(kind, class).message(option, class))
}

impl FailedRecord for SourceRecord {
    fn report(&self, reporter: &Reporter, stage: Stage, class: &str, error: &ConnectError) {
        let describe = || {
            format!(
                "{{sourcePartition={}, sourceOffset={}, topic='{}'}}",
                serde_json::Value::Object((*self.source_partition).clone()),
                serde_json::Value::Object((*self.source_offset).clone()),
                self.topic
            )
        };
        reporter.source(describe, stage, class, error);
    }
}
