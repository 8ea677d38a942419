//! librdkafka behind safe types. All `unsafe` of the workspace is in this folder.
//!
//! Invariants, each kept by a type:
//! 1. A `rd_kafka_t` is thread-safe and is destroyed once, by the last [`Client`] reference; everything that points into
//!    it ([`Messages`], [`BatchQueue`], topic handles) holds an `Arc<Client>`, so it cannot be destroyed before them.
//! 2. The opaque pointer that callbacks get is the client's own boxed [`Callbacks`], which outlives the `rd_kafka_t`.
//! 3. Every `rd_kafka_message_t` that a batch yields is owned by one [`Message`], which lies in [`Messages`] beside its client, and freed by its `Drop`, once. Its key,
//!    value and headers are borrowed from the `Message` and live as long as it does.
//! 4. No panic crosses into C: what callbacks call is wrapped in `catch_unwind`.
//! 5. Memory that librdkafka takes over (configurations, headers) is given up exactly when the call says that it took it.
//! 6. Error codes that come from a broker are read as integers, never as a Rust enum that may lack them.
//!
//! `make sanitize` runs it under AddressSanitizer, librdkafka included.

mod admin_groups;
mod admin_offsets;
mod admin_request;
mod admin_topics;
mod bare_consumer;
mod batch_queue;
mod client;
mod consume;
mod leader_discovery;
mod message;
mod native_error;
mod outage;
mod partition_list;
mod produce;

pub(crate) use admin_offsets::OffsetSpec;
pub use bare_consumer::BareConsumer;
pub(crate) use batch_queue::{BatchQueue, Polled, QueueWaker};
pub use client::open_clients;
pub(crate) use client::{Callbacks, Client, ClientEvent, Reports, TakenBack};
pub use message::{Headers, Message, Messages, TimestampType};
pub(crate) use native_error::{code as code_of, from_number as error_of};
pub(crate) use partition_list::PartitionList;
pub use produce::ConsumerGroupMetadata;
pub(crate) use produce::TopicHandles;

/// Offsets with a meaning of their own.
pub(crate) mod offset {
    pub(crate) const BEGINNING: i64 = rdkafka_sys::RD_KAFKA_OFFSET_BEGINNING as i64;
    pub(crate) const END: i64 = rdkafka_sys::RD_KAFKA_OFFSET_END as i64;
    pub(crate) const STORED: i64 = rdkafka_sys::RD_KAFKA_OFFSET_STORED as i64;
}
