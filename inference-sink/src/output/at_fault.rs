//! Whose fault it is that records could not be written: one rule for transactions and for outputs that are sent at once.
//!
//! ```text
//! error of a topic, which refuses records by itself (rights, size, it is not there), and is one of outputs
//!     -> that topic's: models that write to it are detached, and the others go on
//! anything else (a broker that is away, a coordinator that moves, a changelog that refuses, ...)
//!     -> nobody's: what was written is written again, for all
//! ```

use kafka_client::{Remedy, WriteError};
use std::sync::Arc;

/// A topic of outputs or shed events that has refused records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTopic {
    /// its name
    pub topic: Arc<str>,
    /// why
    pub error: String,
    /// it may take other records
    pub of_records: bool,
    /// it is not there
    pub missing: bool,
}

impl RefusedTopic {
    /// What the status of a model says whose outputs go there.
    pub fn reason(&self) -> String {
        match self.missing {
            true => format!("outputs wait for topic {}: {}", self.topic, self.error),
            false => format!("outputs are refused by topic {}: {}", self.topic, self.error),
        }
    }
}

/// The topic at fault, if it is one of these. None: nobody alone.
pub fn topic_at_fault<'a>(error: &WriteError, topics: impl IntoIterator<Item = &'a str>) -> Option<RefusedTopic> {
    let topic = error.topic.clone().filter(|_| error.is_of_topic())?;
    let is_own = topics.into_iter().any(|own| *own == *topic);
    is_own.then(|| RefusedTopic {
        topic,
        error: error.error.to_string(),
        of_records: error.is_of_records(),
        missing: error.error.remedy() == Remedy::Missing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_client::{ErrorCode, KafkaError};

    const TOPICS: [&str; 3] = ["a.out", "b.out", "b.shed"];

    fn at_fault(code: ErrorCode, topic: Option<&str>) -> Option<(Arc<str>, bool)> {
        let error = WriteError {
            error: KafkaError::new(code, "a write"),
            topic: topic.map(Arc::from),
        };
        topic_at_fault(&error, TOPICS).map(|refused| (refused.topic, refused.of_records))
    }

    #[test]
    fn a_topic_that_refuses_is_at_fault_alone() {
        for (code, of_records) in [
            (ErrorCode::TopicAuthorizationFailed, false),
            (ErrorCode::MessageSizeTooLarge, true),
            (ErrorCode::UnknownTopic, false),
        ] {
            assert_eq!(at_fault(code, Some("a.out")), Some(("a.out".into(), of_records)));
            assert_eq!(at_fault(code, Some("b.shed")), Some(("b.shed".into(), of_records)));
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
            ErrorCode::ClusterAuthorizationFailed,
            ErrorCode::TransactionalIdAuthorizationFailed,
        ] {
            assert_eq!(at_fault(code, Some("a.out")), None, "{code:?}");
        }
    }
}
