//! What a task counts (contract part 10).

use super::MetricKind::{self, Counter, Gauge};
use super::TaskMetric;
use crate::clock::now_ms;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub(crate) struct Level(AtomicU64);

impl Level {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations: how many, their sum and the longest.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    count: Count,
    micros: Count,
    longest_micros: Level,
}

impl Timer {
    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.count.add(1);
        self.micros.add(micros);
        self.longest_micros.raise(micros);
    }

    fn average_ms(&self) -> f64 {
        self.micros.get() as f64 / 1000.0 / self.count.get().max(1) as f64
    }

    fn longest_ms(&self) -> f64 {
        self.longest_micros.get() as f64 / 1000.0
    }
}

/// What kind of task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Source,
    Sink,
    /// a sink that commits its positions by itself
    Partitioned,
}

/// Everything that one task counts. Groups that do not fit the task's kind stay out of the answer.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// set once, when the task starts
    pub(crate) kind: OnceLock<TaskKind>,
    pub(crate) record_failures: Count,
    pub(crate) record_errors: Count,
    pub(crate) records_skipped: Count,
    pub(crate) retries: Count,
    pub(crate) errors_logged: Count,
    pub(crate) dead_letter_requests: Count,
    pub(crate) dead_letter_failures: Count,
    last_error_ms: Level,
    /// records polled from the source, or read from Kafka: before transforms
    pub(crate) records_in: Count,
    /// records acknowledged by Kafka, or given to `put`
    pub(crate) records_out: Count,
    /// records of a source that are not acknowledged; offsets of a sink that are not committed
    pub(crate) active: Level,
    pub(crate) batch: Timer,
    pub(crate) commit: Timer,
    pub(crate) commit_successes: Count,
    pub(crate) commit_failures: Count,
    pub(crate) partitions: Level,
    pub(crate) commit_sequence: Level,
}

/// Appends metrics of a group.
fn puts(group: &'static str, all: &mut Vec<TaskMetric>) -> impl FnMut(&'static str, MetricKind, &'static str, f64) {
    move |name, kind, help, value| {
        all.push(TaskMetric {
            group,
            name,
            kind,
            help,
            value,
        });
    }
}

impl Counters {
    pub(crate) fn last_error_now(&self) {
        self.last_error_ms.set(now_ms().unsigned_abs());
    }

    pub(crate) fn metrics(&self) -> Vec<TaskMetric> {
        let mut all = Vec::with_capacity(24);
        let kind = *self.kind.get().unwrap_or(&TaskKind::Sink);
        self.error_metrics(&mut all);
        self.commit_metrics(kind, &mut all);
        match kind {
            TaskKind::Source => self.source_metrics(&mut all),
            TaskKind::Sink | TaskKind::Partitioned => self.sink_metrics(&mut all),
        }
        all
    }

    fn error_metrics(&self, all: &mut Vec<TaskMetric>) {
        let mut put = puts("task-error-metrics", all);
        let mut put = |name, kind, help, value: u64| put(name, kind, help, value as f64);
        put(
            "total-record-failures",
            Counter,
            "Operations on a record that failed, attempts counted singly.",
            self.record_failures.get(),
        );
        put(
            "total-record-errors",
            Counter,
            "Records that failed for good.",
            self.record_errors.get(),
        );
        put(
            "total-records-skipped",
            Counter,
            "Records that were left out because of errors that are tolerated.",
            self.records_skipped.get(),
        );
        put(
            "total-retries",
            Counter,
            "Operations that were tried again.",
            self.retries.get(),
        );
        put(
            "total-errors-logged",
            Counter,
            "Errors that were written to the log.",
            self.errors_logged.get(),
        );
        put(
            "deadletterqueue-produce-requests",
            Counter,
            "Records sent to the dead letter topic.",
            self.dead_letter_requests.get(),
        );
        put(
            "deadletterqueue-produce-failures",
            Counter,
            "Records that the dead letter topic did not take.",
            self.dead_letter_failures.get(),
        );
        put(
            "last-error-timestamp",
            Gauge,
            "Time of the last error, in milliseconds since 1970; 0: there was none.",
            self.last_error_ms.get(),
        );
    }

    fn commit_metrics(&self, kind: TaskKind, all: &mut Vec<TaskMetric>) {
        let mut put = puts("connector-task-metrics", all);
        let mut put = |name, help, value| put(name, Gauge, help, value);
        // How long a task that commits by itself takes is not known here.
        if kind != TaskKind::Partitioned {
            put(
                "offset-commit-avg-time-ms",
                "Average time of a commit of offsets, in milliseconds.",
                self.commit.average_ms(),
            );
            put(
                "offset-commit-max-time-ms",
                "Longest time of a commit of offsets, in milliseconds.",
                self.commit.longest_ms(),
            );
        }
        let commits = (self.commit_successes.get() + self.commit_failures.get()).max(1) as f64;
        put(
            "offset-commit-success-percentage",
            "Part of the commits of offsets that succeeded, from 0 to 1.",
            self.commit_successes.get() as f64 / commits,
        );
        put(
            "offset-commit-failure-percentage",
            "Part of the commits of offsets that failed, from 0 to 1.",
            self.commit_failures.get() as f64 / commits,
        );
    }

    fn source_metrics(&self, all: &mut Vec<TaskMetric>) {
        let mut put = puts("source-task-metrics", all);
        put(
            "source-record-poll-total",
            Counter,
            "Records that the connector gave, before transforms.",
            self.records_in.get() as f64,
        );
        put(
            "source-record-write-total",
            Counter,
            "Records that Kafka has acknowledged.",
            self.records_out.get() as f64,
        );
        put(
            "source-record-active-count",
            Gauge,
            "Records that the connector gave and Kafka has not acknowledged.",
            self.active.get() as f64,
        );
        put(
            "poll-batch-avg-time-ms",
            Gauge,
            "Average time of a poll of the connector, in milliseconds.",
            self.batch.average_ms(),
        );
        put(
            "poll-batch-max-time-ms",
            Gauge,
            "Longest time of a poll of the connector, in milliseconds.",
            self.batch.longest_ms(),
        );
    }

    fn sink_metrics(&self, all: &mut Vec<TaskMetric>) {
        let mut put = puts("sink-task-metrics", all);
        put(
            "sink-record-read-total",
            Counter,
            "Records read from Kafka, before transforms.",
            self.records_in.get() as f64,
        );
        put(
            "sink-record-send-total",
            Counter,
            "Records given to the connector.",
            self.records_out.get() as f64,
        );
        put(
            "sink-record-active-count",
            Gauge,
            "Offsets read and not committed yet.",
            self.active.get() as f64,
        );
        put(
            "put-batch-avg-time-ms",
            Gauge,
            "Average time that the connector took over a batch, in milliseconds.",
            self.batch.average_ms(),
        );
        put(
            "put-batch-max-time-ms",
            Gauge,
            "Longest time that the connector took over a batch, in milliseconds.",
            self.batch.longest_ms(),
        );
        put(
            "partition-count",
            Gauge,
            "Partitions that the task has.",
            self.partitions.get() as f64,
        );
        put(
            "offset-commit-seq-no",
            Gauge,
            "Number of the last commit of offsets.",
            self.commit_sequence.get() as f64,
        );
        put(
            "offset-commit-completion-total",
            Counter,
            "Commits of offsets that succeeded.",
            self.commit_successes.get() as f64,
        );
    }
}
