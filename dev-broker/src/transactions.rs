//! The transaction coordinator: producer ids, fencing by epochs, and the end of transactions by
//! markers in every partition and group that they touched (KIP-98, KIP-360, KIP-588).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::committed_offsets::PartitionKey;
use crate::groups::coordinator::{GroupCoordinator, sleep_until};
use crate::restored::{ProducerIdentity, Transactions};
use crate::storage::journal::{Entry, Journal, TransactionState, TransactionalProducer};
use crate::topics::Topics;

/// Milliseconds since 1970, UTC.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// The coordinator. Locks are taken in the order transactions, groups, partition.
#[derive(Debug)]
pub struct TransactionCoordinator {
    transactions: Mutex<Transactions>,
    topics: Arc<Topics>,
    groups: Arc<GroupCoordinator>,
    journal: Journal,
    max_timeout: Duration,
    timers_changed: Notify,
}

impl TransactionCoordinator {
    /// Goes on from `transactions`; those that were decided but not finished are finished.
    pub fn new(
        transactions: Transactions,
        topics: Arc<Topics>,
        groups: Arc<GroupCoordinator>,
        journal: Journal,
        max_timeout: Duration,
    ) -> TransactionCoordinator {
        let coordinator = TransactionCoordinator {
            transactions: Mutex::new(transactions),
            topics,
            groups,
            journal,
            max_timeout,
            timers_changed: Notify::new(),
        };
        coordinator.finish_decided();
        coordinator
    }

    fn finish_decided(&self) {
        let mut transactions = self.transactions.lock();
        for (id, entry) in &mut transactions.by_id {
            match entry.state {
                TransactionState::PrepareCommit => self.finish_after_restart(id, entry, true),
                TransactionState::PrepareAbort => self.finish_after_restart(id, entry, false),
                _ => {}
            }
        }
    }

    /// Partitions without an open transaction of the producer have their marker already.
    fn finish_after_restart(&self, id: &str, entry: &mut TransactionalProducer, commit: bool) {
        entry.partitions.retain(|(topic, index)| {
            let partition = self.topics.partition(topic, *index);
            partition.is_ok_and(|found| found.log.lock().has_open_transaction(entry.producer_id))
        });
        self.finish(id, entry, commit);
    }

    /// The state, for checks that must hold while something is appended.
    pub fn lock(&self) -> MutexGuard<'_, Transactions> {
        self.transactions.lock()
    }

    fn new_producer_id(&self, transactions: &mut Transactions) -> i64 {
        let producer_id = transactions.next_producer_id;
        transactions.next_producer_id += 1;
        self.journal.record(&Entry::NextProducerId {
            next: transactions.next_producer_id,
        });
        producer_id
    }

    /// A producer id for a producer without transactions.
    pub fn initialise_idempotent(&self) -> ProducerIdentity {
        let producer_id = self.new_producer_id(&mut self.transactions.lock());
        ProducerIdentity { producer_id, epoch: 0 }
    }

    /// Initialises a transactional producer: its predecessor's open transaction is aborted and its
    /// epoch fenced. `current` is what a producer sends that goes on after an error (KIP-360).
    ///
    /// # Errors
    /// `INVALID_TRANSACTION_TIMEOUT`, `PRODUCER_FENCED`.
    pub fn initialise(
        &self,
        transactional_id: &str,
        timeout_ms: i32,
        current: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, ResponseError> {
        let allowed = u64::try_from(timeout_ms).is_ok_and(|ms| ms > 0 && Duration::from_millis(ms) <= self.max_timeout);
        if !allowed {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let mut transactions = self.transactions.lock();
        let mut entry = match transactions.by_id.remove(transactional_id) {
            Some(entry) => entry,
            None => TransactionalProducer {
                producer_id: self.new_producer_id(&mut transactions),
                epoch: -1,
                epoch_before_timeout: None,
                timeout_ms,
                state: TransactionState::Empty,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
                started_ms: 0,
            },
        };
        let initialised = self.next_epoch(&mut transactions, transactional_id, &mut entry, current);
        if initialised.is_ok() {
            entry.timeout_ms = timeout_ms;
            entry.state = TransactionState::Empty;
            entry.epoch_before_timeout = None;
            self.record(transactional_id, &entry);
        }
        transactions.by_id.insert(transactional_id.to_owned(), entry);
        initialised
    }

    fn next_epoch(
        &self,
        transactions: &mut Transactions,
        transactional_id: &str,
        entry: &mut TransactionalProducer,
        current: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, ResponseError> {
        if let Some(current) = current {
            let epoch_matches = entry.epoch == current.epoch || entry.epoch_before_timeout == Some(current.epoch);
            if entry.epoch >= 0 && (entry.producer_id != current.producer_id || !epoch_matches) {
                return Err(ResponseError::ProducerFenced);
            }
        }
        if entry.epoch >= i16::MAX - 2 {
            self.abort_if_open(transactional_id, entry);
            entry.producer_id = self.new_producer_id(transactions);
            entry.epoch = 0;
        } else {
            // The markers of the abort carry the new epoch, so the old one is fenced everywhere.
            entry.epoch += 1;
            self.abort_if_open(transactional_id, entry);
        }
        Ok(ProducerIdentity {
            producer_id: entry.producer_id,
            epoch: entry.epoch,
        })
    }

    fn abort_if_open(&self, transactional_id: &str, entry: &mut TransactionalProducer) {
        if entry.state == TransactionState::Ongoing {
            entry.state = TransactionState::PrepareAbort;
            self.record(transactional_id, entry);
            self.finish(transactional_id, entry, false);
        }
    }

    /// Adds partitions or a group to the producer's transaction, which begins with that.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`.
    pub fn add(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: impl IntoIterator<Item = PartitionKey>,
        group: Option<String>,
    ) -> Result<(), ResponseError> {
        let mut transactions = self.transactions.lock();
        transactions.find(transactional_id, producer, ResponseError::ProducerFenced)?;
        let Some(entry) = transactions.by_id.get_mut(transactional_id) else {
            return Err(ResponseError::InvalidProducerIdMapping);
        };
        if entry.state != TransactionState::Ongoing {
            entry.state = TransactionState::Ongoing;
            entry.started_ms = now_ms();
            entry.partitions.clear();
            entry.groups.clear();
        }
        entry.partitions.extend(partitions);
        entry.groups.extend(group);
        self.record(transactional_id, entry);
        self.timers_changed.notify_one();
        Ok(())
    }

    /// Commits or aborts. Asked again for what is done already, it says yes again.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `INVALID_TXN_STATE`.
    pub fn end(&self, transactional_id: &str, producer: ProducerIdentity, commit: bool) -> Result<(), ResponseError> {
        let mut transactions = self.transactions.lock();
        transactions.find(transactional_id, producer, ResponseError::ProducerFenced)?;
        let Some(entry) = transactions.by_id.get_mut(transactional_id) else {
            return Err(ResponseError::InvalidProducerIdMapping);
        };
        match (entry.state, commit) {
            (TransactionState::Ongoing, _) => {
                entry.state = match commit {
                    true => TransactionState::PrepareCommit,
                    false => TransactionState::PrepareAbort,
                };
                self.record(transactional_id, entry);
                self.finish(transactional_id, entry, commit);
                Ok(())
            }
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => Ok(()),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Writes the markers and ends the groups' pending offsets.
    fn finish(&self, transactional_id: &str, entry: &mut TransactionalProducer, commit: bool) {
        for (topic, index) in &entry.partitions {
            let Ok(partition) = self.topics.partition(topic, *index) else {
                continue;
            };
            let marked = partition
                .log
                .lock()
                .append_marker(entry.producer_id, entry.epoch, commit, now_ms());
            if let Err(error) = marked {
                tracing::error!(topic, partition = index, ?error, "transaction marker not written");
            }
            partition.wake_fetches();
        }
        self.groups.end_transaction(&entry.groups, entry.producer_id, commit);
        entry.partitions.clear();
        entry.groups.clear();
        entry.state = match commit {
            true => TransactionState::CompleteCommit,
            false => TransactionState::CompleteAbort,
        };
        self.record(transactional_id, entry);
    }

    fn record(&self, transactional_id: &str, entry: &TransactionalProducer) {
        self.journal.record(&Entry::Transaction {
            transactional_id: transactional_id.to_owned(),
            producer: entry.clone(),
        });
    }

    /// Aborts transactions that take longer than their timeout, for ever.
    pub async fn run_timers(&self) {
        loop {
            let now = now_ms();
            let next = self.abort_overdue(now);
            let next = next.map(|deadline| {
                let wait = u64::try_from(deadline - now).unwrap_or(0);
                Instant::now() + Duration::from_millis(wait)
            });
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.timers_changed.notified() => {}
            }
        }
    }

    /// Aborts what is overdue; returns when the next will be, milliseconds since 1970.
    fn abort_overdue(&self, now: i64) -> Option<i64> {
        let mut next: Option<i64> = None;
        let mut transactions = self.transactions.lock();
        for (id, entry) in &mut transactions.by_id {
            if entry.state != TransactionState::Ongoing {
                continue;
            }
            let deadline = entry.started_ms + i64::from(entry.timeout_ms);
            if deadline > now {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                continue;
            }
            tracing::info!(transactional_id = %id, "transaction took too long and is aborted");
            entry.epoch_before_timeout = Some(entry.epoch);
            entry.epoch = entry.epoch.saturating_add(1);
            self.abort_if_open(id, entry);
        }
        next
    }
}
