//! What a model does on this worker, whatever its version: breaker, suspension, counters, latency.

use crate::breaker::{Breaker, BreakerPolicy, BreakerState, Run};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where a model is in its life, as `status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LifeCycle {
    /// its artifact is being loaded
    Validating,
    /// it runs
    Serving,
    /// this version could not be loaded; the one before it goes on
    Failed,
    /// somebody paused it
    Paused,
    /// its breaker is open, or a run took too long
    Suspended,
}

/// Counters of one model on this worker.
#[derive(Debug)]
pub struct ModelRuntime {
    /// `tenant/name`
    pub identity: Arc<str>,
    /// tenant
    pub tenant: Arc<str>,
    breaker: Mutex<Breaker>,
    suspended: AtomicBool,
    last_error: Mutex<Option<String>>,
    /// why its topic takes no outputs, as long as it does not
    outputs_refused: Mutex<Option<String>>,
    last_input_error: Mutex<Option<String>>,
    latency: Mutex<Histogram<u64>>,
    /// rows that gave an output
    pub predictions: AtomicU64,
    /// rows that failed
    pub errors: AtomicU64,
    /// events that gave it no row: a feature was no element of its tensor
    pub input_errors: AtomicU64,
    /// rows that came in
    pub rows: AtomicU64,
    /// CPU nanoseconds of its runs
    pub cpu_ns: AtomicU64,
    /// batches
    pub batches: AtomicU64,
    /// predictions that came after the model's deadline
    pub deadlines_missed: AtomicU64,
    /// events of closed windows
    pub late: AtomicU64,
    /// events that it was given no row of, though it may have wanted them: they were none for its view or its windows
    pub unusable: AtomicU64,
    /// rows that went to the feature log
    pub detached_rows: AtomicU64,
}

/// Figures of one model, for status and metrics.
#[derive(Clone, Debug, serde::Serialize)]
#[allow(missing_docs)] // named as the counters
pub struct RuntimeFigures {
    pub rows: u64,
    pub predictions: u64,
    pub errors: u64,
    pub input_errors: u64,
    pub batches: u64,
    pub cpu_us: u64,
    pub cpu_us_per_row: f64,
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    pub deadlines_missed: u64,
    pub late: u64,
    pub unusable: u64,
    pub detached_rows: u64,
    pub last_error: Option<String>,
    /// why its outputs wait, as long as they do
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs_refused: Option<String>,
    pub last_input_error: Option<String>,
}

/// A histogram of microseconds up to an hour, three digits.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // constant bounds: 1 <= low, 2 * low <= high, at most 5 digits
    Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("bounds of a latency histogram")
}

impl ModelRuntime {
    /// A model that has not run.
    pub fn new(identity: &str, policy: BreakerPolicy) -> ModelRuntime {
        ModelRuntime {
            identity: identity.into(),
            tenant: identity.split('/').next().unwrap_or(identity).into(),
            breaker: Mutex::new(Breaker::new(policy)),
            suspended: AtomicBool::new(false),
            last_error: Mutex::new(None),
            outputs_refused: Mutex::new(None),
            last_input_error: Mutex::new(None),
            latency: Mutex::new(latency_histogram()),
            predictions: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            input_errors: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            deadlines_missed: AtomicU64::new(0),
            late: AtomicU64::new(0),
            unusable: AtomicU64::new(0),
            detached_rows: AtomicU64::new(0),
        }
    }

    /// Takes over a new document's `on_error`, and gives a suspended model another chance.
    pub fn renew(&self, policy: BreakerPolicy) {
        self.breaker.lock().renew(policy);
        self.suspended.store(false, Ordering::Release);
    }

    /// Whether a run may start now.
    pub fn allows(&self, now_ms: i64) -> bool {
        !self.is_suspended() && self.breaker.lock().allows(now_ms)
    }

    /// Starts a run if one may start now; whoever does tells how it ended.
    pub fn start(&self, now_ms: i64) -> Option<Run> {
        match self.is_suspended() {
            true => None,
            false => self.breaker.lock().start(now_ms),
        }
    }

    /// Whether none of its rows will run for a while: the breaker is open, or it is suspended.
    pub fn is_stopped(&self, now_ms: i64) -> bool {
        let waits = |state| matches!(state, BreakerState::Open { until_ms } if now_ms < until_ms);
        self.is_suspended() || waits(self.breaker.lock().state())
    }

    /// Whether its breaker has opened, and no run has gone well since.
    pub fn is_broken(&self) -> bool {
        self.breaker.lock().state() != BreakerState::Closed
    }

    /// Whether a run took too long; only a new version or `resume` lifts that.
    pub fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// Suspends it.
    pub fn suspend(&self, error: String) {
        tracing::error!(model = %self.identity, error = %error, "model suspended");
        *self.last_error.lock() = Some(error);
        self.suspended.store(true, Ordering::Release);
    }

    /// Rows gave outputs.
    pub fn succeeded(&self, rows: u64) {
        self.predictions.fetch_add(rows, Ordering::Relaxed);
    }

    /// A row failed, in a run or before it came to one.
    pub fn failed(&self, error: &str, run: Option<Run>, now_ms: i64) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(error.to_owned());
        if self.breaker.lock().failure(run, now_ms) {
            tracing::warn!(model = %self.identity, error = %error, "circuit breaker opened");
        }
    }

    /// A run is over, and its failures are told. True: its model may run again from now on.
    pub fn ended(&self, run: Run) -> bool {
        let closed = self.breaker.lock().ended(run);
        if closed {
            tracing::info!(model = %self.identity, "circuit breaker closed");
        }
        closed
    }

    /// A run had nothing to run.
    pub fn given_back(&self, run: Run) {
        self.breaker.lock().given_back(run);
    }

    /// Its tenant's topics take no records: its outputs wait.
    pub fn outputs_refused(&self, reason: &str) {
        *self.last_error.lock() = Some(reason.to_owned());
        *self.outputs_refused.lock() = Some(reason.to_owned());
    }

    /// Its outputs have gone out again.
    pub fn outputs_taken(&self) {
        *self.outputs_refused.lock() = None;
    }

    /// An event gave it no row. That is the event's fault and not the model's: its breaker does not move.
    pub fn refused_input(&self, error: String) {
        self.input_errors.fetch_add(1, Ordering::Relaxed);
        *self.last_input_error.lock() = Some(error);
    }

    /// An event was none for its view or its windows. That is no error of the model, which goes on.
    pub fn unusable(&self, error: &str) {
        self.unusable.fetch_add(1, Ordering::Relaxed);
        self.note(error.to_owned());
    }

    /// Notes an error for the status.
    pub fn note(&self, error: String) {
        *self.last_error.lock() = Some(error);
    }

    /// Notes how long rows took from event to prediction, in microseconds.
    pub fn took(&self, micros: impl Iterator<Item = u64>, deadline_us: Option<u64>) {
        let mut latency = self.latency.lock();
        let mut missed = 0;
        for us in micros {
            latency.saturating_record(us);
            missed += u64::from(deadline_us.is_some_and(|deadline| us > deadline));
        }
        self.deadlines_missed.fetch_add(missed, Ordering::Relaxed);
    }

    /// Adds its latencies to a histogram over several models.
    pub fn add_latency_to(&self, all: &mut Histogram<u64>) {
        // Both have the same bounds.
        let _ = all.add(&*self.latency.lock());
    }

    /// The figures.
    pub fn figures(&self) -> RuntimeFigures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (p50, p99) = {
            let latency = self.latency.lock();
            (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99))
        };
        let (cpu_ns, rows) = (get(&self.cpu_ns), get(&self.predictions) + get(&self.errors));
        RuntimeFigures {
            rows: get(&self.rows),
            predictions: get(&self.predictions),
            errors: get(&self.errors),
            input_errors: get(&self.input_errors),
            batches: get(&self.batches),
            cpu_us: cpu_ns / 1_000,
            cpu_us_per_row: cpu_ns as f64 / 1e3 / rows.max(1) as f64,
            latency_p50_ms: p50 as f64 / 1e3,
            latency_p99_ms: p99 as f64 / 1e3,
            deadlines_missed: get(&self.deadlines_missed),
            late: get(&self.late),
            unusable: get(&self.unusable),
            detached_rows: get(&self.detached_rows),
            last_error: self.last_error.lock().clone(),
            outputs_refused: self.outputs_refused.lock().clone(),
            last_input_error: self.last_input_error.lock().clone(),
        }
    }
}
