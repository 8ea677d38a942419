//! What a barrier hands to the committer, and what comes back.

use crate::output::{EncodedOutputs, RefusedTopic};
use connect_api::error::ConnectError;
use connect_api::partitioned::RawRecord;
use kafka_client::KafkaError;
use state_store::ChangeRecord;
use std::sync::Arc;

/// Records of one changelog partition.
#[derive(Debug)]
pub struct RecordGroup {
    /// changelog topic
    pub topic: Arc<str>,
    /// partition
    pub partition: i32,
    /// where the changelog's partition ends as far as the task knows: nothing can be written before
    pub end: i64,
    /// records, the position last
    pub records: Vec<ChangeRecord>,
}

/// One row for the feature log.
#[derive(Debug)]
pub struct LogEntry {
    /// partition
    pub partition: i32,
    /// where the log's partition ends as far as the task knows: nothing can be written before
    pub end: i64,
    /// `tenant/name`, the record's key
    pub model: Arc<str>,
    /// the row
    pub value: Vec<u8>,
}

/// An event that was shed, for its tenant's topic.
#[derive(Debug)]
pub struct ShedEvent {
    /// the tenant's topic
    pub topic: Arc<str>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    source: String,
}

impl ShedEvent {
    /// A copy of an event for a tenant's topic.
    pub fn of(topic: &Arc<str>, record: &RawRecord<'_>) -> ShedEvent {
        ShedEvent {
            topic: topic.clone(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            source: format!("{}-{}-{}", record.topic, record.partition, record.offset),
        }
    }

    pub(super) fn parts(&self) -> (Option<&[u8]>, Option<&[u8]>, &str) {
        (self.key.as_deref(), self.value.as_deref(), &self.source)
    }
}

/// One transaction.
#[derive(Default)]
pub struct Commit {
    /// changelog records
    pub groups: Vec<RecordGroup>,
    /// the feature log's topic
    pub log_topic: Option<Arc<str>>,
    /// feature log entries
    pub log: Vec<LogEntry>,
    /// predictions
    pub outputs: Vec<EncodedOutputs>,
    /// shed events
    pub shed: Vec<ShedEvent>,
    /// where predictions were sent at once: to be acknowledged first
    pub flush: Option<Arc<crate::flow::Outbox>>,
}

impl Commit {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.log.is_empty() && self.outputs.is_empty() && self.shed.is_empty()
    }
}

/// What a committed transaction has written.
#[derive(Debug)]
pub struct Committed {
    /// by group: the changelog offset after its last record
    pub ends: Vec<i64>,
    /// by entry, those of an amendment last: its offset in the feature log
    pub log_offsets: Vec<i64>,
}

/// Why a transaction was aborted.
#[derive(Debug)]
pub struct CommitFailure {
    /// the error
    pub error: KafkaError,
    /// the topic at fault, where it is one of outputs or shed events
    pub refused: Option<Box<RefusedTopic>>,
    /// what the task ends with, where it can go on from no committed position: a topic is another one than before
    pub ends: Option<ConnectError>,
}

impl CommitFailure {
    /// A failure that is nobody's alone, and that the task goes on after.
    pub fn of(error: KafkaError) -> CommitFailure {
        CommitFailure {
            error,
            refused: None,
            ends: None,
        }
    }
}

/// What topics of outputs and shed events have refused of an interval. The transaction stands without it.
#[derive(Debug, Default)]
pub struct Refused {
    /// the topics
    pub topics: Vec<RefusedTopic>,
    /// outputs of the commit, by number, and the rows of their block whose records were not written; none where outputs were
    /// sent at once: there it may be any that go to these topics
    pub rows: Option<Vec<(usize, Vec<usize>)>>,
}

/// What a transaction says of refused outputs instead: their rows wait in the feature log.
#[derive(Debug, Default)]
pub struct Amendment {
    /// further changelog records, each with the number of its group
    pub records: Vec<(usize, ChangeRecord)>,
    /// the feature log's topic
    pub log_topic: Arc<str>,
    /// further feature log entries
    pub log: Vec<LogEntry>,
}

/// The committer's answer.
#[derive(Debug)]
pub enum Answer {
    /// the end of a transaction
    Done(Result<Committed, CommitFailure>),
    /// it goes on once it is amended
    Refused(Refused),
}
