//! Settings, partitions and errors of Kafka, as tasks and Kafka's client have them.

use connect_api::{ConnectError, ErrorKind};
use kafka_client::{ClientConfig, Remedy};
use std::sync::Arc;

/// A client's configuration from its settings under Java names.
pub(crate) fn client_config(options: &indexmap::IndexMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::default();
    for (name, value) in options {
        config.set(name, value);
    }
    config
}

/// A partition as the client names it.
pub(crate) fn to_client(partition: &connect_api::TopicPartition) -> kafka_client::TopicPartition {
    kafka_client::TopicPartition {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
    }
}

/// An error of Kafka as one of a task. What to do about each is in [`kafka_client::Remedy`]: a topic that is not there is
/// nothing that passes by itself, and what a person must mend fails the task by name, as in a Java worker.
pub(crate) fn kafka_error(error: kafka_client::KafkaError) -> ConnectError {
    let kind = match error.remedy() {
        Remedy::Wait | Remedy::Renew => ErrorKind::Retriable,
        Remedy::Missing => ErrorKind::NotFound,
        Remedy::Mend | Remedy::Refused | Remedy::GiveWay | Remedy::Unexpected => ErrorKind::Fatal,
    };
    ConnectError::new(kind, error.to_string())
}
