//! What a connector author sees: schema, value, record, configuration, task traits, errors.
//!
//! ```text
//!                    ConfigDef (one declaration: validation, REST answer, docs page)
//!                       |
//!   ConnectorPlugin ----+--> Connector --task_configs--> SourceTask / SinkTask / PartitionedSinkTask
//!
//!   SourceTask.poll -> SourceRecord(Datum) -> Transformation* -> Converter -> Kafka -> durable offsets -> SourceTask.commit
//!   Kafka -> Datum(raw bytes, Converter) -> Transformation* -> SinkTask.put (accepted) -> SinkTask.pre_commit (durable)
//!   Kafka -> RawRecord -> PartitionedSinkTask.hand_over (accepted) -> advance / barrier (durable)
//! ```
//!
//! This crate does no I/O and knows no Kafka client. A record stays raw bytes until somebody reads it
//! ([`datum::Datum`]), and *accepted* and *durable* are different types ([`delivery`]).
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod catalog_marker;
pub mod config;
pub mod connector;
pub mod converter;
mod data;
pub mod datum;
pub mod delivery;
pub mod error;
pub mod extension;
pub mod java_parse;
pub mod java_regex;
pub mod java_text;
pub mod partitioned;
pub mod raw_record;
pub mod record;
pub mod reporter;
pub mod sink;
pub mod source;
pub mod testing;
pub mod transform;
pub mod validation;

pub use config::{ConfigDef, ConfigKey, ConfigMap, ConfigValue, ParsedConfig};
pub use connector::{Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task};
pub use converter::{Converter, ConverterPlugin, HeaderConverter, HeaderConverterPlugin};
pub use data::{schema, value};
pub use datum::Datum;
pub use delivery::{Accepted, Durable, TopicPartition};
pub use error::{ConnectError, ErrorKind, Stage};
pub use extension::{RestRequest, RestResponse, WorkerContext, WorkerExtension};
pub use partitioned::{Advance, PartitionedSinkTask, PartitionedTaskContext, StartAt};
pub use raw_record::{RawHeaders, RawRecord};
pub use record::{FetchedRecords, Header, SinkRecord, SourceRecord, TimestampType};
pub use reporter::ErrantRecordReporter;
pub use schema::{Field, Schema, SchemaType};
pub use sink::{SinkTask, SinkTaskContext};
pub use source::{OffsetReader, SourcePositions, SourceTask, SourceTaskContext, TopicLayout, WrittenTopics};
pub use transform::{Predicate, PredicatePlugin, Transformation, TransformationPlugin};
pub use value::{SchemaAndValue, Struct, Value};
