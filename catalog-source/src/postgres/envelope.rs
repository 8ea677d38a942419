//! Debezium's envelope: `before`, `after`, `source`, `transaction`, `op`, `ts_ms`, `ts_us`, `ts_ns`, and its record of a logical
//! message. (Debezium documentation, "PostgreSQL connector: Data change events", "Message events".)

use super::captured::{Captured, RowValues};
use super::config::PostgresConfig;
use super::connection::now_micros;
use super::names;
use super::offset;
use super::pgoutput::LogicalMessage;
use super::tables::TableName;
use bytes::Bytes;
use connect_api::record::SourceMap;
use connect_api::{Datum, Header, Schema, SchemaAndValue, SchemaType, SourceRecord, Struct, Value};
use indexmap::IndexMap;
use std::sync::Arc;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Create,
    Update,
    Delete,
}

impl Operation {
    /// The letter in `op`.
    pub(super) fn code(self) -> &'static str {
        match self {
            Operation::Read => "r",
            Operation::Create => "c",
            Operation::Update => "u",
            Operation::Delete => "d",
        }
    }

    /// What stands in an offset.
    pub(super) fn message_type(self) -> &'static str {
        match self {
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Create | Operation::Read => "INSERT",
        }
    }
}

/// Schemas that the envelopes of all tables share.
pub(super) struct EnvelopeSchemas {
    source: Arc<Schema>,
    transaction: Arc<Schema>,
    heartbeat_key: Arc<Schema>,
    heartbeat_value: Arc<Schema>,
    message_key: Arc<Schema>,
    message: Arc<Schema>,
    message_value: Arc<Schema>,
}

impl EnvelopeSchemas {
    pub(super) fn new() -> Self {
        let required = |of| Arc::new(Schema::new(of));
        let optional = |of| Arc::new(Schema::optional(of));
        let version = |schema: Schema, version| Schema {
            version: Some(version),
            ..schema
        };
        let snapshot = Schema {
            optional: true,
            default: Some(Value::from("false")),
            version: Some(1),
            parameters: Some(IndexMap::from([(
                "allowed".to_owned(),
                "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental".to_owned(),
            )])),
            ..Schema::new(SchemaType::String).named("io.debezium.data.Enum")
        };
        let source = Schema::structure([
            ("version", required(SchemaType::String)),
            ("connector", required(SchemaType::String)),
            ("name", required(SchemaType::String)),
            ("ts_ms", required(SchemaType::Int64)),
            ("snapshot", Arc::new(snapshot)),
            ("db", required(SchemaType::String)),
            ("sequence", optional(SchemaType::String)),
            ("ts_us", optional(SchemaType::Int64)),
            ("ts_ns", optional(SchemaType::Int64)),
            ("schema", required(SchemaType::String)),
            ("table", required(SchemaType::String)),
            ("txId", optional(SchemaType::Int64)),
            ("lsn", optional(SchemaType::Int64)),
            ("xmin", optional(SchemaType::Int64)),
            ("origin", optional(SchemaType::String)),
            ("origin_lsn", optional(SchemaType::Int64)),
        ]);
        let transaction = Schema::structure([
            ("id", required(SchemaType::String)),
            ("total_order", required(SchemaType::Int64)),
            ("data_collection_order", required(SchemaType::Int64)),
        ]);
        let heartbeat_key = Schema::structure([("serverName", required(SchemaType::String))]);
        let heartbeat_value = Schema::structure([("ts_ms", required(SchemaType::Int64))]);
        let heartbeat = "io.debezium.connector.common.Heartbeat";
        let source = Arc::new(version(source.named("io.debezium.connector.postgresql.Source"), 1));
        let transaction = Arc::new(Schema {
            optional: true,
            ..version(transaction.named("event.block"), 1)
        });
        let postgresql = |schema: Schema, name| {
            let name = format!("io.debezium.connector.postgresql.{name}");
            Arc::new(version(schema.named(name), 1))
        };
        let message_key = Schema::structure([("prefix", optional(SchemaType::String))]);
        let message = Schema::structure([
            ("prefix", optional(SchemaType::String)),
            ("content", optional(SchemaType::Bytes)),
        ]);
        let message = postgresql(message, "Message");
        let message_value = Schema::structure([
            ("op", required(SchemaType::String)),
            ("ts_ms", optional(SchemaType::Int64)),
            ("source", Arc::clone(&source)),
            ("transaction", Arc::clone(&transaction)),
            ("message", Arc::clone(&message)),
        ]);
        Self {
            source,
            transaction,
            message_key: postgresql(message_key, "MessageKey"),
            message_value: postgresql(message_value, "MessageValue"),
            message,
            heartbeat_key: Arc::new(version(
                heartbeat_key.named("io.debezium.connector.common.ServerNameKey"),
                1,
            )),
            heartbeat_value: Arc::new(version(heartbeat_value.named(heartbeat), 1)),
        }
    }

    /// The envelope's schema of a table, under its name.
    pub(super) fn envelope(&self, value: &Arc<Schema>, name: String) -> Schema {
        let optional = |of| Arc::new(Schema::optional(of));
        let envelope = Schema::structure([
            ("before", Arc::clone(value)),
            ("after", Arc::clone(value)),
            ("source", Arc::clone(&self.source)),
            ("transaction", Arc::clone(&self.transaction)),
            ("op", Arc::new(Schema::new(SchemaType::String))),
            ("ts_ms", optional(SchemaType::Int64)),
            ("ts_us", optional(SchemaType::Int64)),
            ("ts_ns", optional(SchemaType::Int64)),
        ]);
        Schema {
            version: Some(2),
            ..envelope.named(name)
        }
    }
}

/// Where a record comes from.
pub(super) struct Origin {
    /// one of the allowed values of `source.snapshot`
    pub(super) snapshot: &'static str,
    pub(super) lsn: u64,
    pub(super) last_commit: Option<u64>,
    pub(super) xid: Option<u32>,
    /// since 1970
    pub(super) micros: i64,
}

/// Makes the records of one connector.
pub(super) struct Envelopes {
    pub(super) schemas: EnvelopeSchemas,
    partition: Arc<SourceMap>,
    tombstones: bool,
    heartbeat_topic: Arc<str>,
    message_topic: Arc<str>,
    version: Value,
    connector: Value,
    name: Value,
    database: Value,
    operations: [(Operation, Value); 4],
    /// of most rows of a snapshot, and of all changes
    in_snapshot: Value,
    streamed: Value,
}

impl Envelopes {
    pub(super) fn new(config: &PostgresConfig) -> Self {
        Self {
            schemas: EnvelopeSchemas::new(),
            partition: Arc::new(offset::partition(&config.prefix)),
            tombstones: config.tombstones,
            heartbeat_topic: Arc::clone(&config.heartbeat_topic),
            message_topic: names::topic(&format!("{}.message", config.prefix)).into(),
            version: Value::from(env!("CARGO_PKG_VERSION")),
            connector: Value::from("postgresql"),
            name: Value::String(Arc::clone(&config.prefix)),
            database: Value::from(config.server.database.as_str()),
            operations: [Operation::Read, Operation::Create, Operation::Update, Operation::Delete]
                .map(|operation| (operation, Value::from(operation.code()))),
            in_snapshot: Value::from("true"),
            streamed: Value::from("false"),
        }
    }

    /// The record of a change, with its tombstone where it is a delete.
    pub(super) fn push(
        &self,
        records: &mut Vec<SourceRecord>,
        table: &Captured,
        operation: Operation,
        (before, after): (Option<RowValues>, Option<RowValues>),
        origin: &Origin,
        offset: Arc<SourceMap>,
    ) {
        let key = match after.as_ref().or(before.as_ref()) {
            Some(row) => table.key(row),
            None => Datum::null(),
        };
        let now = now_micros();
        let row = |row: Option<RowValues>| row.map_or(Value::Null, |row| table.value(row));
        let envelope = Struct {
            schema: Arc::clone(&table.envelope),
            values: vec![
                row(before),
                row(after),
                self.source(&table.name, origin),
                Value::Null,
                self.code(operation),
                Value::Int64(now / 1000),
                Value::Int64(now),
                Value::Int64(now.saturating_mul(1000)),
            ],
        };
        let value = Datum::new(SchemaAndValue {
            schema: Some(Arc::clone(&table.envelope)),
            value: Value::Struct(envelope),
        });
        let tombstone = operation == Operation::Delete && self.tombstones;
        let more = tombstone.then(|| self.record(&table.topic, key.clone(), Datum::null(), Arc::clone(&offset)));
        records.push(self.record(&table.topic, key, value, offset));
        records.extend(more);
    }

    /// A record of this connector's partition.
    pub(super) fn record(&self, topic: &Arc<str>, key: Datum, value: Datum, offset: Arc<SourceMap>) -> SourceRecord {
        SourceRecord {
            source_partition: Arc::clone(&self.partition),
            source_offset: offset,
            topic: Arc::clone(topic),
            partition: None,
            timestamp_ms: None,
            key,
            value,
            headers: Vec::new(),
        }
    }

    /// A sign of life.
    pub(super) fn heartbeat(&self, offset: Arc<SourceMap>) -> SourceRecord {
        let key = datum(&self.schemas.heartbeat_key, vec![self.name.clone()]);
        let value = datum(&self.schemas.heartbeat_value, vec![Value::Int64(now_micros() / 1000)]);
        self.record(&self.heartbeat_topic, key, value, offset)
    }

    /// What `pg_logical_emit_message` wrote.
    pub(super) fn message(
        &self,
        message: &LogicalMessage<'_>,
        origin: &Origin,
        offset: Arc<SourceMap>,
    ) -> SourceRecord {
        let prefix = Value::from(message.prefix.as_str());
        let no_table = TableName {
            schema: "".into(),
            table: "".into(),
        };
        let content = Value::Bytes(Bytes::copy_from_slice(message.content));
        let value = vec![
            Value::from("m"),
            Value::Int64(now_micros() / 1000),
            self.source(&no_table, origin),
            Value::Null,
            structure(&self.schemas.message, vec![prefix.clone(), content]),
        ];
        let key = datum(&self.schemas.message_key, vec![prefix]);
        self.record(
            &self.message_topic,
            key,
            datum(&self.schemas.message_value, value),
            offset,
        )
    }

    fn code(&self, operation: Operation) -> Value {
        let known = self.operations.iter().find(|(known, _)| *known == operation);
        known.map_or(Value::Null, |(_, code)| code.clone())
    }

    fn source(&self, table: &TableName, origin: &Origin) -> Value {
        let lsn = origin.lsn.cast_signed();
        let sequence = match origin.last_commit {
            Some(commit) => Value::from(format!("[\"{commit}\",\"{lsn}\"]")),
            None => Value::from(format!("[null,\"{lsn}\"]")),
        };
        Value::Struct(Struct {
            schema: Arc::clone(&self.schemas.source),
            values: vec![
                self.version.clone(),
                self.connector.clone(),
                self.name.clone(),
                Value::Int64(origin.micros / 1000),
                match origin.snapshot {
                    "true" => self.in_snapshot.clone(),
                    "false" => self.streamed.clone(),
                    other => Value::from(other),
                },
                self.database.clone(),
                sequence,
                Value::Int64(origin.micros),
                Value::Int64(origin.micros.saturating_mul(1000)),
                Value::String(Arc::clone(&table.schema)),
                Value::String(Arc::clone(&table.table)),
                origin.xid.map_or(Value::Null, |xid| Value::Int64(i64::from(xid))),
                Value::Int64(lsn),
                Value::Null,
                Value::Null,
                Value::Null,
            ],
        })
    }
}

fn structure(schema: &Arc<Schema>, values: Vec<Value>) -> Value {
    Value::Struct(Struct {
        schema: Arc::clone(schema),
        values,
    })
}

fn datum(schema: &Arc<Schema>, values: Vec<Value>) -> Datum {
    Datum::new(SchemaAndValue {
        schema: Some(Arc::clone(schema)),
        value: structure(schema, values),
    })
}

/// Tells a reader of a record that the row has moved to, or came from, another key.
pub(super) fn key_header(name: &str, key: &Datum) -> Option<Header> {
    Some(Header {
        name: name.into(),
        data: key.get().ok()?.clone(),
    })
}
