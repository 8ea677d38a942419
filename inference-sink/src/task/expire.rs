//! Deletes what has expired, a few entries at a time: they are invisible already.

use super::Open;
use connect_api::error::ConnectError;
use std::sync::atomic::Ordering;

/// Entries per store, partition and call.
const ENTRIES: usize = 500;

impl Open {
    /// Removes due entries, or archives them first; what that writes goes with the next commit. Not while one is under way:
    /// an archiver's steps are one per commit.
    pub(super) fn expire(&mut self) -> Result<(), ConnectError> {
        if self.in_flight.is_some() || self.last_expiry.elapsed() < self.options.commit_interval {
            return Ok(());
        }
        let now = std::time::Instant::now();
        self.last_expiry = now;
        for (number, partition) in &mut self.partitions {
            // Entries are their views', which see them expire by times of their own: what has expired by the least of those has
            // for all.
            let writers = self.topology.writers.iter();
            let times: Vec<Option<i64>> = writers.map(|views| partition.time_of(views)).collect();
            let archivers = &mut partition.archivers;
            let stores = partition.stores.iter_mut().zip(&self.topology.stores).zip(archivers);
            for (((store, slot), archiver), now_ms) in stores.zip(times) {
                let Some(now_ms) = now_ms.filter(|_| slot.ttl.is_some()) else {
                    continue;
                };
                let failed = |error: state_store::StateError| ConnectError::retriable(error.to_string());
                if slot.archive {
                    if let Some(archiver) = archiver {
                        let waited = archiver.waiting().cloned();
                        self.changed |= archiver.advance(store, now_ms, now).map_err(failed)?;
                        if archiver.waiting() != waited.as_ref() {
                            let key = (self.context.connector.to_string(), slot.name.clone(), *number);
                            self.started.tell_archive_wait(key, archiver.waiting().cloned());
                        }
                    }
                    continue;
                }
                let due = store.due(now_ms, ENTRIES).map_err(failed)?;
                for entry in &due {
                    store.remove_version(&entry.key, entry.version).map_err(failed)?;
                }
                self.changed |= !due.is_empty();
                self.metrics.expired.fetch_add(due.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
