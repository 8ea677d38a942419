//! Whose fault it is that records could not be written: one rule for transactions and for outputs that are sent at once.
//!
//! ```text
//! error of a topic, which refuses records by itself (rights, size, it is not there), and a tenant's topic
//!     -> that tenant: it is detached, and the others go on
//! anything else (a broker that is away, a coordinator that moves, ...)
//!     -> nobody's: what was written is written again, for all
//! ```

use kafka_client::{ErrorCode, KafkaError, WriteError};
use std::sync::Arc;

/// The tenant at fault; `owners` are the topics that were written to, each with its tenant. None: nobody alone.
pub fn tenant_at_fault<'a>(
    WriteError { error, topic }: &WriteError,
    owners: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Option<Arc<str>> {
    let topic = topic.as_deref().filter(|_| is_own_fault(error))?;
    let owner = owners.into_iter().find(|(owned, _)| *owned == topic);
    owner.map(|(_, tenant)| tenant.into())
}

/// Errors of a topic of its own, which nobody else should pay for.
fn is_own_fault(error: &KafkaError) -> bool {
    matches!(
        error.code,
        ErrorCode::TopicAuthorizationFailed
            | ErrorCode::MessageSizeTooLarge
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownPartition
            | ErrorCode::InvalidTopic
            | ErrorCode::InvalidRecord
            | ErrorCode::PolicyViolation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [(&str, &str); 3] = [("a.out", "a"), ("b.out", "b"), ("b.shed", "b")];

    fn at_fault(code: ErrorCode, topic: Option<&str>) -> Option<Arc<str>> {
        let error = WriteError {
            error: KafkaError::new(code, "a write"),
            topic: topic.map(Arc::from),
        };
        tenant_at_fault(&error, OWNERS)
    }

    #[test]
    fn a_topic_that_refuses_is_its_tenants_fault() {
        for code in [
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::MessageSizeTooLarge,
            ErrorCode::UnknownTopic,
        ] {
            assert_eq!(at_fault(code, Some("a.out")).as_deref(), Some("a"));
            assert_eq!(at_fault(code, Some("b.shed")).as_deref(), Some("b"));
            // The changelog, for instance.
            assert_eq!(at_fault(code, Some("connect-c-s-changelog")), None);
            assert_eq!(at_fault(code, None), None);
        }
    }

    #[test]
    fn a_broker_that_is_away_is_nobodys_fault_whatever_was_written() {
        for code in [
            ErrorCode::BrokerTransportFailure,
            ErrorCode::AllBrokersDown,
            ErrorCode::OperationTimedOut,
            ErrorCode::MessageTimedOut,
            ErrorCode::LeaderNotAvailable,
            ErrorCode::NotLeaderForPartition,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::ProducerFenced,
        ] {
            assert_eq!(at_fault(code, Some("a.out")), None, "{code:?}");
        }
    }
}
