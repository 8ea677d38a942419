//! What a task counts (contract part 10).

use crate::task_runner::TaskMetric;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
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
    count: Counter,
    micros: Counter,
    longest_micros: Gauge,
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

/// Everything that one task counts. Groups that do not fit the task's kind stay out of the answer.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) is_source: AtomicBool,
    pub(crate) record_failures: Counter,
    pub(crate) record_errors: Counter,
    pub(crate) records_skipped: Counter,
    pub(crate) retries: Counter,
    pub(crate) errors_logged: Counter,
    pub(crate) dead_letter_requests: Counter,
    pub(crate) dead_letter_failures: Counter,
    last_error_ms: Gauge,
    /// records polled from the source, or read from Kafka: before transforms
    pub(crate) records_in: Counter,
    /// records acknowledged by Kafka, or given to `put`
    pub(crate) records_out: Counter,
    /// records between being read and being acknowledged
    pub(crate) active: Gauge,
    pub(crate) batch: Timer,
    pub(crate) commit: Timer,
    pub(crate) commit_successes: Counter,
    pub(crate) commit_failures: Counter,
    pub(crate) partitions: Gauge,
    pub(crate) commit_sequence: Gauge,
}

impl Counters {
    pub(crate) fn last_error_now(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_error_ms
            .set(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    }

    pub(crate) fn metrics(&self) -> Vec<TaskMetric> {
        let mut all = Vec::with_capacity(24);
        let mut put = |group: &'static str, name: &'static str, value: f64| all.push(TaskMetric { group, name, value });
        let errors = "task-error-metrics";
        put(errors, "total-record-failures", self.record_failures.get() as f64);
        put(errors, "total-record-errors", self.record_errors.get() as f64);
        put(errors, "total-records-skipped", self.records_skipped.get() as f64);
        put(errors, "total-retries", self.retries.get() as f64);
        put(errors, "total-errors-logged", self.errors_logged.get() as f64);
        put(
            errors,
            "deadletterqueue-produce-requests",
            self.dead_letter_requests.get() as f64,
        );
        put(
            errors,
            "deadletterqueue-produce-failures",
            self.dead_letter_failures.get() as f64,
        );
        put(errors, "last-error-timestamp", self.last_error_ms.get() as f64);
        let task = "connector-task-metrics";
        put(task, "offset-commit-avg-time-ms", self.commit.average_ms());
        put(task, "offset-commit-max-time-ms", self.commit.longest_ms());
        let commits = (self.commit_successes.get() + self.commit_failures.get()).max(1) as f64;
        put(
            task,
            "offset-commit-success-percentage",
            self.commit_successes.get() as f64 / commits,
        );
        put(
            task,
            "offset-commit-failure-percentage",
            self.commit_failures.get() as f64 / commits,
        );
        if self.is_source.load(Ordering::Relaxed) {
            let source = "source-task-metrics";
            put(source, "source-record-poll-total", self.records_in.get() as f64);
            put(source, "source-record-write-total", self.records_out.get() as f64);
            put(source, "source-record-active-count", self.active.get() as f64);
            put(source, "poll-batch-avg-time-ms", self.batch.average_ms());
            put(source, "poll-batch-max-time-ms", self.batch.longest_ms());
        } else {
            let sink = "sink-task-metrics";
            put(sink, "sink-record-read-total", self.records_in.get() as f64);
            put(sink, "sink-record-send-total", self.records_out.get() as f64);
            put(sink, "sink-record-active-count", self.active.get() as f64);
            put(sink, "put-batch-avg-time-ms", self.batch.average_ms());
            put(sink, "put-batch-max-time-ms", self.batch.longest_ms());
            put(sink, "partition-count", self.partitions.get() as f64);
            put(sink, "offset-commit-seq-no", self.commit_sequence.get() as f64);
            put(
                sink,
                "offset-commit-completion-total",
                self.commit_successes.get() as f64,
            );
        }
        all
    }
}
