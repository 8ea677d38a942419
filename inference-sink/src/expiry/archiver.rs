//! Archives a partition's expired entries, one object at a time: each step is one commit, and no step is taken while a
//! commit is under way.

use super::waiting::{ArchiveWait, Retry};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use state_store::archive::{Archive, Intent, IntentLog, Step, encode};
use state_store::{ChangeRecord, ExpiredEntry, KeyedPartition, StateError, StateValue};
use std::sync::Arc;
use std::time::Instant;

/// Entries of one object, at most.
const ENTRIES: usize = 5_000;

/// The archiver of one store in one partition.
pub(crate) struct Archiver {
    log: IntentLog,
    /// entries of one object, at most
    entries: usize,
    archive: Archive,
    runtime: tokio::runtime::Handle,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// the object that is being put
    putting: Option<u64>,
    put: Receiver<(u64, Result<u64, String>)>,
    puts: Sender<(u64, Result<u64, String>)>,
    /// records for the next barrier
    records: Vec<ChangeRecord>,
    /// entries of objects that are finished with the next barrier
    finishing: u64,
    /// an object could not be put: what is waited for
    retry: Retry,
}

impl Archiver {
    /// Takes up what is open in the local copy.
    pub(crate) fn open<V: StateValue>(
        partition: &KeyedPartition<V>,
        archive: Archive,
        runtime: tokio::runtime::Handle,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Archiver, StateError> {
        let (puts, put) = unbounded();
        Ok(Archiver {
            log: IntentLog::open(partition)?,
            entries: ENTRIES,
            archive,
            runtime,
            wake,
            putting: None,
            put,
            puts,
            records: Vec::new(),
            finishing: 0,
            retry: Retry::default(),
        })
    }

    /// Takes the next steps. True: the next barrier has something to write. An object that could not be put is put again
    /// after a while ([`Self::waiting`]); its entries stay where they are until then, invisible.
    pub(crate) fn advance<V: StateValue>(
        &mut self,
        partition: &mut KeyedPartition<V>,
        stream_time_ms: i64,
        now: Instant,
    ) -> Result<bool, StateError> {
        while let Ok((id, result)) = self.put.try_recv() {
            self.putting = None;
            match result {
                Ok(bytes) => {
                    crash_point::reached("archive.object_known");
                    if let Some(wait) = self.retry.succeeded() {
                        tracing::info!(store = %partition.spec(), attempts = wait.attempts, "the archive takes objects again");
                    }
                    self.log.object_written(id, bytes);
                }
                Err(error) => {
                    let wait = self.retry.failed(error, crate::clock::wall_ms(), now);
                    tracing::warn!(
                        store = %partition.spec(),
                        error = %wait.error,
                        attempts = wait.attempts,
                        retry_in_ms = wait.retry_in.as_millis() as u64,
                        "expired entries wait for the archive"
                    );
                }
            }
        }
        if self.log.is_empty() {
            let due = partition.due(stream_time_ms, self.entries)?;
            self.records.extend(self.log.propose(&due));
        }
        match self.log.next_step() {
            Some(Step::PutObject(intent)) if self.putting.is_none() && self.retry.is_due(now) => {
                crash_point::reached("archive.intent_committed");
                self.put_object(partition, intent)?;
            }
            Some(Step::Finish { records, versions }) => {
                for (key, version) in &versions {
                    partition.remove_version(key, *version)?;
                }
                self.finishing += versions.len() as u64;
                self.records.extend(records);
                crash_point::reached("archive.finish_proposed");
            }
            _ => {}
        }
        Ok(!self.records.is_empty())
    }

    fn put_object<V: StateValue>(
        &mut self,
        partition: &mut KeyedPartition<V>,
        intent: Intent,
    ) -> Result<(), StateError> {
        let mut entries: Vec<ExpiredEntry> = Vec::new();
        for (key, version) in &intent.versions {
            entries.extend(partition.version(key, *version)?);
        }
        self.putting = Some(intent.id);
        let (archive, puts, wake) = (self.archive.clone(), self.puts.clone(), self.wake.clone());
        self.runtime.spawn(async move {
            let result = write(&archive, &intent, entries).await;
            // The task may have closed meanwhile.
            let _ = puts.send((intent.id, result));
            wake();
        });
        Ok(())
    }

    /// What is waited for, where an object could not be put.
    pub(crate) fn waiting(&self) -> Option<&ArchiveWait> {
        self.retry.waiting()
    }

    /// Records for the barrier that is being taken.
    pub(crate) fn take_records(&mut self) -> Vec<ChangeRecord> {
        std::mem::take(&mut self.records)
    }

    /// Whether there are any.
    pub(crate) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// The barrier with the records has committed. Returns the entries that are archived by it.
    pub(crate) fn committed(&mut self) -> u64 {
        self.log.barrier_committed();
        let finished = std::mem::take(&mut self.finishing);
        if finished > 0 {
            crash_point::reached("archive.finish_committed");
        }
        finished
    }
}

async fn write(archive: &Archive, intent: &Intent, entries: Vec<ExpiredEntry>) -> Result<u64, String> {
    let encoded = tokio::task::spawn_blocking(move || encode(&entries, |_| None));
    let bytes: Bytes = encoded
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let size = bytes.len() as u64;
    crash_point::reached("archive.object_encoded");
    archive
        .put(&intent.object, bytes)
        .await
        .map_err(|error| error.to_string())?;
    crash_point::reached("archive.object_put");
    Ok(size)
}

#[cfg(test)]
#[path = "archiver_tests.rs"]
mod tests;
