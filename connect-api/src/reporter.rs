//! Where tasks report single records that they cannot process.

use crate::error::{ConnectError, Stage};
use crate::raw_record::RawRecord;
use crate::record::SinkRecord;
use std::time::Duration;

/// Reports single records that a task cannot process (KIP-610): logged, counted, and sent to the dead letter topic with
/// upstream's headers, as the connector's `errors.*` options say.
pub trait ErrantRecordReporter: Send + Sync {
    /// Reports a record of `put`. Fails with `Tolerance exceeded in error handler` when `errors.tolerance=none`; the
    /// task returns that error.
    fn report(&self, record: &SinkRecord, error: &ConnectError) -> Result<(), ConnectError>;

    /// Reports a raw record that failed in `stage`. Same rule.
    fn report_raw(&self, record: &RawRecord<'_>, stage: Stage, error: &ConnectError) -> Result<(), ConnectError>;

    /// Waits until every record reported so far is in the dead letter topic. To be called before a position behind a
    /// reported record becomes durable.
    fn flush(&self, timeout: Duration) -> Result<(), ConnectError>;
}
