//! What an error of Kafka asks of whoever meets it: every answer of a broker and every error of the library is judged here,
//! and nowhere else, so that no caller waits for ever for what only a person can change.
//!
//! ```text
//!  KafkaError --remedy()--> Wait       an outage, a leader that moves        the same attempt again, for as long as it takes
//!                           Missing    no such topic or partition            again for a while: it may have been made just now
//!                           Mend       a right, an option, a broker's limit  say so where the user looks; it does not pass
//!                           Refused    this record, or this request          never again; the others go on
//!                           GiveWay    somebody has taken over               stop
//!                           Renew      this client is at its end             another one in its place
//!                           Unexpected nobody asked for that                 fail with the text
//! ```
//! The judgement is that of Java's clients (`org.apache.kafka.common.protocol.Errors`: `Wait` and `Missing` are its
//! `RetriableException`s) and, for topics that are not there, that of Connect and Streams (docs/decisions/0050).

use super::{ErrorCode, KafkaError};

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// It passes by itself: the same attempt may succeed later, with nothing changed.
    Wait,
    /// A topic or partition is not there. Of one that was made a moment ago that passes; otherwise somebody must make it.
    Missing,
    /// Somebody must change something at the brokers or in the configuration. The same attempt succeeds then, and not before.
    Mend,
    /// The record or the request is refused for what it is. Others like it are not.
    Refused,
    /// Another client has taken over what this one had.
    GiveWay,
    /// This client can do nothing any more, and another one in its place can.
    Renew,
    /// No answer to what was asked: a defect, here or at the broker.
    Unexpected,
}

impl KafkaError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match judged(self.code).unwrap_or(Remedy::Unexpected) {
            Remedy::GiveWay => Remedy::GiveWay,
            _ if self.is_fatal() => Remedy::Renew,
            Remedy::Missing => Remedy::Missing,
            // The library knows more of its own transactions than the code tells.
            _ if self.is_retriable() => Remedy::Wait,
            remedy => remedy,
        }
    }
}

/// Codes that the library does not know and that Java's clients wait out (INCONSISTENT_TOPIC_ID, the share and network
/// errors of later brokers).
const RETRIABLE_BY_NUMBER: [i32; 5] = [103, 106, 122, 123, 133];

/// As [`is_retriable`], of a code as the wire has it.
pub(crate) fn is_retriable_number(number: i32) -> bool {
    RETRIABLE_BY_NUMBER.contains(&number)
}

/// Whether Java's clients try again by themselves.
pub(crate) fn is_retriable(code: ErrorCode) -> bool {
    match judged(code) {
        Some(Remedy::Wait) => true,
        Some(Remedy::Missing) => matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId),
        _ => false,
    }
}

/// Whether a topic refuses by itself, of a code that a topic was answered with: it is not there, may not be written to, or
/// does not take these records. What is for other topics can be written without it.
pub(crate) fn is_of_topic(code: ErrorCode) -> bool {
    match judged(code) {
        Some(Remedy::Missing | Remedy::Refused) => true,
        Some(Remedy::Mend) => matches!(
            code,
            ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopic | ErrorCode::PolicyViolation
        ),
        Some(Remedy::Wait | Remedy::GiveWay | Remedy::Renew | Remedy::Unexpected) | None => false,
    }
}

/// The judgement of a code; none: the library that this was written for does not know it.
fn judged(code: ErrorCode) -> Option<Remedy> {
    use ErrorCode as E;
    Some(match code {
        E::BrokerTransportFailure
        | E::AllBrokersDown
        | E::Resolve
        | E::OperationTimedOut
        | E::TimedOutQueue
        | E::MessageTimedOut
        | E::QueueFull
        | E::WaitingForCoordinator
        | E::WaitCache
        | E::Retry
        | E::InProgress
        | E::PreviousInProgress
        | E::ISRInsufficient
        | E::InvalidDifferentRecord
        | E::DestroyBroker
        | E::InvalidMessage
        | E::LeaderNotAvailable
        | E::NotLeaderForPartition
        | E::RequestTimedOut
        | E::BrokerNotAvailable
        | E::ReplicaNotAvailable
        | E::NetworkException
        | E::CoordinatorLoadInProgress
        | E::CoordinatorNotAvailable
        | E::NotCoordinator
        | E::NotEnoughReplicas
        | E::NotEnoughReplicasAfterAppend
        | E::NotController
        | E::ConcurrentTransactions
        | E::KafkaStorageError
        | E::FetchSessionIdNotFound
        | E::InvalidFetchSessionEpoch
        | E::ListenerNotFound
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::OffsetNotAvailable
        | E::PreferredLeaderNotAvailable
        | E::EligibleLeadersNotAvailable
        | E::ElectionNotNeeded
        | E::UnstableOffsetCommit
        | E::ThrottlingQuotaExceeded
        | E::RebalanceInProgress
        | E::ReassignmentInProgress
        | E::RebootstrapRequired => Remedy::Wait,

        E::UnknownTopicOrPartition | E::UnknownTopicId | E::UnknownTopic | E::UnknownPartition => Remedy::Missing,

        E::Authentication
        | E::SaslAuthenticationFailed
        | E::SSL
        | E::UnsupportedSASLMechanism
        | E::IllegalSASLState
        | E::SecurityDisabled
        | E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed
        | E::DelegationTokenAuthDisabled
        | E::DelegationTokenNotFound
        | E::DelegationTokenOwnerMismatch
        | E::DelegationTokenRequestNotAllowed
        | E::DelegationTokenAuthorizationFailed
        | E::DelegationTokenExpired
        | E::InvalidPrincipalType
        | E::UnacceptableCredential
        | E::InvalidConfig
        | E::InvalidTopic
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::PolicyViolation
        | E::TopicAlreadyExists
        | E::TopicDeletionDisabled
        | E::InvalidTransactionTimeout
        | E::InvalidSessionTimeout
        | E::InvalidRequiredAcks
        | E::InvalidGroupId
        | E::InconsistentGroupProtocol
        | E::UnsupportedAssignor
        | E::GroupMaxSizeReached
        | E::UnsupportedVersion
        | E::UnsupportedFeature
        | E::UnknownProtocol
        | E::NotConfigured
        | E::NoOffset
        | E::AutoOffsetReset
        | E::OffsetOutOfRange
        | E::LogTruncation
        | E::FileSystem
        | E::CriticalSystemResource => Remedy::Mend,

        E::MessageSizeTooLarge
        | E::MessageBatchTooLarge
        | E::InvalidMessageSize
        | E::InvalidRecord
        | E::InvalidTimestamp
        | E::UnsupportedForMessageFormat
        | E::UnsupportedCompressionType
        | E::BadCompression
        | E::KeySerialization
        | E::ValueSerialization
        | E::KeyDeserialization
        | E::ValueDeserialization
        | E::OffsetMetadataTooLarge
        | E::InvalidCommitOffsetSize
        | E::InvalidArgument
        | E::InvalidRequest
        | E::TelemetryTooLarge => Remedy::Refused,

        E::Fenced
        | E::ProducerFenced
        | E::InvalidProducerEpoch
        | E::TransactionCoordinatorFenced
        | E::FencedInstanceId
        | E::FencedMemberEpoch
        | E::UnreleasedInstanceId
        | E::StaleMemberEpoch
        | E::IllegalGeneration
        | E::UnknownMemberId
        | E::AssignmentLost => Remedy::GiveWay,

        E::Fatal
        | E::BrokerDestroy
        | E::PollExceeded
        | E::GaplessGuarantee
        | E::Inconsistent
        | E::PurgeQueue
        | E::PurgeInflight
        | E::OutOfOrderSequenceNumber
        | E::UnknownProducerId
        | E::InvalidProducerIdMapping
        | E::InvalidTransactionalState => Remedy::Renew,

        E::Unknown
        | E::NoError
        | E::Begin
        | E::End
        | E::EndAll
        | E::BadMessage
        | E::Fail
        | E::PartitionEOF
        | E::NodeUpdate
        | E::UnknownGroup
        | E::ExistingSubscription
        | E::AssignPartitions
        | E::RevokePartitions
        | E::Conflict
        | E::State
        | E::NotImplemented
        | E::Outdated
        | E::Interrupted
        | E::Partial
        | E::ReadOnly
        | E::NoEnt
        | E::Underflow
        | E::InvalidType
        | E::UnknownBroker
        | E::Application
        | E::Noop
        | E::StaleControllerEpoch
        | E::StaleBrokerEpoch
        | E::OperationNotAttempted
        | E::DuplicateSequenceNumber
        | E::LogDirNotFound
        | E::MemberIdRequired
        | E::NonEmptyGroup
        | E::GroupIdNotFound
        | E::GroupSubscribedToTopic
        | E::NoReassignmentInProgress
        | E::ResourceNotFound
        | E::DuplicateResource
        | E::InconsistentVoterSet
        | E::InvalidUpdateVersion
        | E::FeatureUpdateFailed
        | E::PrincipalDeserializationFailure
        | E::UnknownSubscriptionId => Remedy::Unexpected,

        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::librdkafka::code_of;

    #[test]
    fn every_code_that_the_library_knows_is_judged() {
        for number in -200..=300 {
            let code = code_of(number);
            assert!(judged(code).is_some(), "{code:?} ({number})");
        }
    }

    /// Those of `org.apache.kafka.common.protocol.Errors` of Kafka 4.3.1 whose exceptions are `RetriableException`s.
    const JAVAS: [i32; 32] = [
        2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88, 89, 100, 103,
        106, 122, 123, 133,
    ];
    /// Errors of Java's that its clients wait out all the same, or that are answers to requests which nobody sends here.
    const OURS_TOO: [i32; 4] = [8, 27, 60, 129];

    #[test]
    fn what_javas_clients_try_again_is_retriable_and_nothing_else() {
        for number in 1..=300 {
            let found = crate::librdkafka::error_of(number, "").is_retriable();
            let expected = JAVAS.contains(&number) || OURS_TOO.contains(&number);
            assert_eq!(found, expected, "{number}: {:?}", code_of(number));
        }
    }

    #[test]
    fn what_the_error_itself_says_goes_before_its_code() {
        let error = |code, retriable, fatal| KafkaError::classified(code, "", retriable, fatal, false).remedy();
        assert_eq!(error(ErrorCode::State, true, false), Remedy::Wait);
        assert_eq!(error(ErrorCode::OutOfOrderSequenceNumber, false, true), Remedy::Renew);
        assert_eq!(error(ErrorCode::Authentication, false, true), Remedy::Renew);
        assert_eq!(error(ErrorCode::ProducerFenced, false, true), Remedy::GiveWay);
        assert_eq!(error(ErrorCode::UnknownTopicOrPartition, true, false), Remedy::Missing);
    }
}
