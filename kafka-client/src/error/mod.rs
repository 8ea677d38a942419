//! What can go wrong, and what to do about it.

mod remedy;

pub use remedy::Remedy;
pub(crate) use remedy::{is_of_topic, is_retriable_number};

use std::fmt;

/// Kafka's error codes: positive ones come from a broker (`org.apache.kafka.common.protocol.Errors`), negative ones from
/// the client library.
pub use rdkafka_sys::types::RDKafkaErrorCode as ErrorCode;

/// An error of a client or a broker, with what was attempted.
#[derive(Clone, thiserror::Error)]
pub struct KafkaError {
    /// What happened.
    pub code: ErrorCode,
    /// What was attempted, on which topic-partition, group or option, and details of the client library.
    pub context: String,
    retriable: bool,
    fatal: bool,
    requires_abort: bool,
}

impl KafkaError {
    /// An error whose classification follows from its code.
    pub fn new(code: ErrorCode, context: impl Into<String>) -> Self {
        Self {
            code,
            context: context.into(),
            retriable: remedy::is_retriable(code),
            fatal: matches!(code, ErrorCode::Fatal | ErrorCode::Fenced),
            requires_abort: false,
        }
    }

    pub(crate) fn classified(
        code: ErrorCode,
        context: impl Into<String>,
        retriable: bool,
        fatal: bool,
        requires_abort: bool,
    ) -> Self {
        Self {
            code,
            context: context.into(),
            retriable,
            fatal,
            requires_abort,
        }
    }

    /// A refused option: names it and says what to do.
    pub(crate) fn option(name: &str, reason: impl fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidConfig, format!("option {name}: {reason}"))
    }

    pub(crate) fn timed_out(context: impl Into<String>) -> Self {
        Self::new(ErrorCode::OperationTimedOut, context)
    }

    /// Java's clients try again by themselves: the same attempt may succeed later. What to do about any error is
    /// [`Self::remedy`].
    pub fn is_retriable(&self) -> bool {
        self.retriable
    }

    /// The broker that was asked does not lead the partition, not yet, or not in the epoch that it was asked for: so it is for
    /// moments after a topic was made, and while a leader moves.
    pub fn is_about_the_leader(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::NotLeaderForPartition
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::ReplicaNotAvailable
        )
    }

    /// A partition has no record at the offset that was asked for, or the group has none committed, and
    /// `auto.offset.reset=none` leaves it at that.
    pub fn is_about_offsets(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::AutoOffsetReset | ErrorCode::NoOffset | ErrorCode::OffsetOutOfRange | ErrorCode::LogTruncation
        )
    }

    /// The client can do nothing any more and must be replaced by a new one.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// Another producer with the same `transactional.id` (or member with the same instance id) has taken over.
    pub fn is_fenced(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::Fenced
                | ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::FencedInstanceId
                | ErrorCode::TransactionCoordinatorFenced
        )
    }

    /// The transaction in progress must be aborted before anything else is done with the producer.
    pub fn requires_abort(&self) -> bool {
        self.requires_abort
    }

    /// The credentials are refused, or lack a right: no retry helps until somebody changes them.
    pub fn is_authorization(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::Authentication
                | ErrorCode::SaslAuthenticationFailed
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::GroupAuthorizationFailed
                | ErrorCode::ClusterAuthorizationFailed
                | ErrorCode::TransactionalIdAuthorizationFailed
        )
    }

    /// The operation ran out of time.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::OperationTimedOut
                | ErrorCode::RequestTimedOut
                | ErrorCode::MessageTimedOut
                | ErrorCode::TimedOutQueue
        )
    }

    /// The same error with what the caller was doing in front.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.context = if self.context.is_empty() {
            what.to_string()
        } else {
            format!("{what}: {}", self.context)
        };
        self
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.context.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{}: {}", self.context, self.code)
        }
    }
}

impl fmt::Debug for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaError")
            .field("code", &self.code)
            .field("context", &self.context)
            .field("retriable", &self.retriable)
            .field("fatal", &self.fatal)
            .field("requires_abort", &self.requires_abort)
            .finish()
    }
}
