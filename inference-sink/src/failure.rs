//! What an error of Kafka is to a task: the one place where the inference sink says so. What each asks for is judged in
//! [`kafka_client::Remedy`].

use connect_api::error::{ConnectError, ErrorKind};
use kafka_client::{ErrorCode, KafkaError, Remedy};
use std::fmt::Display;

/// The error of a task that could not do `what`. A broker that is away is waited for; a topic that is not there is, until
/// somebody makes it; what somebody must mend ends the task, with what is to be done.
pub(crate) fn kafka_failure(what: impl Display, error: &KafkaError) -> ConnectError {
    let kind = match error.remedy() {
        Remedy::Wait | Remedy::Renew => ErrorKind::Retriable,
        Remedy::Missing => ErrorKind::NotFound,
        Remedy::Mend => ErrorKind::Config,
        Remedy::Refused | Remedy::GiveWay | Remedy::Unexpected => ErrorKind::Fatal,
    };
    let advice = match error.code {
        ErrorCode::InvalidReplicationFactor => {
            ": there are fewer brokers than default.replication.factor of the brokers says; lower it, or make the topic by hand"
        }
        ErrorCode::TopicAuthorizationFailed => ": give the connector's principal the rights to the topic",
        ErrorCode::ClusterAuthorizationFailed => {
            ": give the connector's principal the rights to create topics and to write"
        }
        ErrorCode::TransactionalIdAuthorizationFailed => {
            ": give the connector's principal the rights to the transactional ids <group.id>-<connector>-*"
        }
        ErrorCode::PolicyViolation => ": the brokers' create.topic.policy refuses it; make the topic by hand",
        ErrorCode::MessageSizeTooLarge => {
            ": raise max.message.bytes of the topic, and producer.override.max.request.size with it"
        }
        _ => "",
    };
    ConnectError::new(kind, format!("{what}: {error}{advice}"))
}

/// As [`kafka_failure`], for `map_err`.
pub(crate) fn failed<W: Display>(what: W) -> impl Fn(KafkaError) -> ConnectError {
    move |error| kafka_failure(&what, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_waited_for_and_nothing_else_is_retried() {
        let kind = |code| kafka_failure("open", &KafkaError::new(code, "x")).kind();
        for code in [
            ErrorCode::BrokerTransportFailure,
            ErrorCode::AllBrokersDown,
            ErrorCode::OperationTimedOut,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::NotEnoughReplicas,
        ] {
            assert_eq!(kind(code), ErrorKind::Retriable, "{code:?}");
        }
        assert_eq!(kind(ErrorCode::UnknownTopicOrPartition), ErrorKind::NotFound);
        for code in [
            ErrorCode::InvalidReplicationFactor,
            ErrorCode::InvalidTransactionTimeout,
            ErrorCode::TopicAuthorizationFailed,
        ] {
            assert_eq!(kind(code), ErrorKind::Config, "{code:?}");
        }
        assert_eq!(kind(ErrorCode::MessageSizeTooLarge), ErrorKind::Fatal);
    }
}
