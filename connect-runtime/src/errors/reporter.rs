//! Reports of failed records: log lines (contract 7.4), counters, dead letters; also what a task reports itself.

use super::config::ErrorConfig;
use super::dead_letter::{DeadLetters, Failure};
use super::policy::Tolerance;
use crate::running::Counters;
use bytes::Bytes;
use connect_api::raw_record::RawRecord;
use connect_api::record::TimestampType;
use connect_api::{ConnectError, ErrantRecordReporter, SinkRecord, Stage};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A record as it came from Kafka.
#[derive(Debug, Clone)]
pub(crate) struct StoredRecord {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

impl StoredRecord {
    fn describe(&self) -> String {
        let mut text = format!(
            "{{topic='{}', partition={}, offset={}",
            self.topic, self.partition, self.offset
        );
        if let Some(timestamp) = self.timestamp_ms {
            let kind = match self.timestamp_type {
                TimestampType::NoTimestamp => "NoTimestampType",
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            };
            text.push_str(&format!(", timestamp={timestamp}, timestampType={kind}"));
        }
        text.push('}');
        text
    }
}

/// Reports of one task.
pub(crate) struct Reporter {
    pub(crate) connector: Arc<str>,
    pub(crate) task: usize,
    pub(crate) task_class: &'static str,
    pub(crate) config: Arc<ErrorConfig>,
    pub(crate) dead_letters: Option<DeadLetters>,
    pub(crate) counters: Arc<Counters>,
    /// the batch that the task has at hand, before converters and transforms; kept only where there is a dead letter topic
    pub(crate) batch: Mutex<Vec<StoredRecord>>,
}

impl Reporter {
    /// Whether reports of a connector go anywhere.
    pub(crate) fn keeps_records(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// The task has ended: waits, at most `timeout`, until its reports are written.
    pub(crate) fn finish(&self, timeout: Duration) {
        if let Some(dead_letters) = &self.dead_letters {
            dead_letters.finish(timeout);
        }
    }

    fn log(&self, stage: Stage, class: &str, error: &ConnectError, record: impl FnOnce() -> String) {
        self.counters.last_error_now();
        if !self.config.log {
            return;
        }
        self.counters.errors_logged.add(1);
        let shown = if self.config.log_records {
            record()
        } else {
            String::new()
        };
        tracing::error!(
            "Error encountered in task {}-{}. Executing stage '{}' with class '{class}'{shown}.\n{}",
            self.connector,
            self.task,
            stage.name(),
            error.trace()
        );
    }

    /// A record from Kafka failed in `stage`.
    pub(crate) fn sink(&self, record: &StoredRecord, stage: Stage, class: &str, error: &ConnectError, own: bool) {
        self.counters.record_errors.add(1);
        self.log(stage, class, error, || {
            format!(", where consumed record is {}", record.describe())
        });
        if let Some(dead_letters) = &self.dead_letters {
            let failure = Failure {
                connector: &self.connector,
                task: self.task,
                stage,
                class,
                error,
            };
            dead_letters.send(record, &failure, own);
        }
    }

    /// A record on its way to Kafka failed in `stage`.
    pub(crate) fn source(&self, describe: impl FnOnce() -> String, stage: Stage, class: &str, error: &ConnectError) {
        self.counters.record_errors.add(1);
        self.log(stage, class, error, || {
            format!(", where source record is = {}", describe())
        });
    }

    fn verdict(&self, error: &ConnectError) -> Result<(), ConnectError> {
        match self.config.tolerance {
            Tolerance::All => {
                self.counters.records_skipped.add(1);
                Ok(())
            }
            Tolerance::None => Err(ConnectError::fatal("Tolerance exceeded in error handler").caused_by(error.clone())),
        }
    }

    fn stored(&self, record: &SinkRecord) -> StoredRecord {
        let batch = self.batch.lock();
        let original = batch.iter().find(|stored| {
            stored.offset == record.offset
                && stored.partition == record.partition
                && stored.topic == *record.original_topic()
        });
        match original {
            Some(original) => original.clone(),
            // reported after its put has returned: what the record itself still has of its origin
            None => StoredRecord {
                topic: Arc::clone(record.original_topic()),
                partition: record.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                timestamp_type: record.timestamp_type,
                key: record.key().raw().flatten(),
                value: record.value().raw().flatten(),
                headers: Vec::new(),
            },
        }
    }
}

impl ErrantRecordReporter for Reporter {
    fn report(&self, record: &SinkRecord, error: &ConnectError) -> Result<(), ConnectError> {
        self.counters.record_failures.add(1);
        self.sink(&self.stored(record), Stage::TaskPut, self.task_class, error, true);
        self.verdict(error)
    }

    fn report_raw(&self, record: &RawRecord<'_>, stage: Stage, error: &ConnectError) -> Result<(), ConnectError> {
        let mut headers = Vec::new();
        record.headers.visit(&mut |name, value| {
            headers.push((name.to_owned(), value.map(Bytes::copy_from_slice)));
            true
        });
        let stored = StoredRecord {
            topic: record.topic.into(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            timestamp_type: record.timestamp_type,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers,
        };
        self.counters.record_failures.add(1);
        self.sink(&stored, stage, self.task_class, error, true);
        self.verdict(error)
    }

    fn flush(&self, timeout: Duration) -> Result<(), ConnectError> {
        match &self.dead_letters {
            Some(dead_letters) => dead_letters.flush(timeout),
            None => Ok(()),
        }
    }
}
