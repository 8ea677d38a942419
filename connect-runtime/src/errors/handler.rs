//! Runs an operation under a connector's error options: retries, reports, skips or fails.

use super::config::ErrorConfig;
use super::policy::{Action, action};
use super::reporter::Reporter;
use super::retry;
use crate::running::Control;
use connect_api::{ConnectError, Stage};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What became of an operation.
pub(crate) enum Handled<T> {
    /// it succeeded
    Done(T),
    /// it failed, was reported, and the record is to be left out
    Skipped,
}

/// The record at hand, for reports; made only when something failed.
pub(crate) trait FailedRecord {
    /// Reports the record.
    fn report(&self, reporter: &Reporter, stage: Stage, class: &str, error: &ConnectError);
}

/// A connector's error handling at work in one task.
#[derive(Clone)]
pub(crate) struct ErrorHandler {
    pub(crate) config: Arc<ErrorConfig>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) control: Arc<Control>,
}

impl ErrorHandler {
    /// Runs `operation` of `class` in `stage` on `record`, again while the options allow it. Ends early when the task is
    /// told to stop; the record counts as failed then.
    pub(crate) async fn run<T>(
        &self,
        stage: Stage,
        class: &str,
        record: &impl FailedRecord,
        mut operation: impl FnMut() -> Result<T, ConnectError>,
    ) -> Result<Handled<T>, ConnectError> {
        let mut error = match operation() {
            Ok(done) => return Ok(Handled::Done(done)),
            Err(error) => error,
        };
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let counters = &self.control.counters;
            counters.record_failures.add(1);
            let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
            let may_retry = retry::may_retry(self.config.retry_timeout_ms, elapsed) && !self.control.stopping();
            match action(error.kind(), stage, self.config.tolerance, may_retry) {
                Action::Retry => {
                    counters.retries.add(1);
                    let wait = retry::delay(
                        attempt,
                        self.config.retry_delay_max_ms,
                        self.config.retry_timeout_ms,
                        elapsed,
                        random(),
                    );
                    self.control.sleep(Duration::from_millis(wait.unsigned_abs())).await;
                    attempt += 1;
                    match operation() {
                        Ok(done) => return Ok(Handled::Done(done)),
                        Err(next) => error = next,
                    }
                }
                Action::Skip => {
                    record.report(&self.reporter, stage, class, &error);
                    counters.records_skipped.add(1);
                    return Ok(Handled::Skipped);
                }
                Action::Exceeded => {
                    record.report(&self.reporter, stage, class, &error);
                    return Err(ConnectError::fatal("Tolerance exceeded in error handler").caused_by(error));
                }
                Action::Unhandled => {
                    counters.record_errors.add(1);
                    return Err(ConnectError::fatal("Unhandled exception in error handler").caused_by(error));
                }
            }
        }
    }
}

/// 0 up to 1; good enough for spreading retries.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
