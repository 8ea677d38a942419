//! The one place that touches librdkafka: batches in, records out, transactions, offsets, raw requests.
//!
//! ```text
//!            ClientConfig (Java names) --config--> librdkafka's names, or a refusal by name
//!                  |
//!   topics ==> Consumer --fetch--> Fetched { messages, end_of_partition, errors }     (task threads)
//!                  |  RebalanceListener, commits, seeks; Waker ends a fetch
//!   records ==> Producer --send(token)--> Deliveries::delivered(token, partition, offset)
//!                  |  transactions; QueueFull is back-pressure
//!   an interval ==> RecordWriter ........... many records at once, in one transaction or without; our own encoder
//!   questions ==> Admin (async) ............ topics, configurations, offsets, groups, fencing
//!   topic as a log ==> TopicLog (async) .... internal topics and the registry: read all, then tail
//!   group protocol ==> RawConnection ....... kafka-protocol requests over TCP
//!
//!   librdkafka/  the C library behind safe types: all `unsafe` of the workspace, with its invariants
//! ```
//!
//! Kafka itself is the specification: an option, an offset or an error means what it means to the Java clients.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod admin;
mod clock;
mod cluster_description;
mod config;
mod consumer;
mod error;
mod frame;
mod librdkafka;
mod partitioner;
mod producer;
mod producer_record;
mod raw;
mod record_writer;
mod topic_identity;
mod topic_log;
mod topic_name;
mod topic_partition;

pub use admin::Admin;
pub use cluster_description::{ConfigChange, GroupDescription, NewTopic, PartitionDescription, TopicDescription};
pub use config::{ClientConfig, ClientOption};
pub use consumer::{CommitCallback, CommitMode, Consumer, Fetched, RebalanceListener, Waker};
pub use error::{ErrorCode, KafkaError, Remedy};
pub use librdkafka::{BareConsumer, ConsumerGroupMetadata, Headers, Message, Messages, TimestampType, open_clients};
pub use partitioner::{murmur2, partition_for_key};
pub use producer::Producer;
pub use producer_record::{Deliveries, ProducerRecord, SendError};
pub use raw::RawConnection;
pub use record_writer::{GoesOn, Place, RecordWriter, UNREAD_OPTIONS, WriteError, Written};
pub use topic_identity::{TopicChange, TopicIdentity};
pub use topic_log::{LogClients, LogRecord, TopicLog};
pub use topic_name::check_topic_name;
pub use topic_partition::{IsolationLevel, StartOffset, TopicId, TopicPartition, host_and_port};
