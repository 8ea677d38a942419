//! What moves a task on between calls: answers, idle time, the feature log, barriers, a new deployment.

use super::Open;
use crate::detach::Reason;
use connect_api::delivery::{Durable, SinkOffsets};
use connect_api::error::ConnectError;
use connect_api::partitioned::Advance;
use std::time::{Duration, Instant};

/// How often the feature log is looked at while a model reads from it.
const LOG_POLL: Duration = Duration::from_millis(20);
/// How often an idle task looks at stream time.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// Outputs that may wait for the transaction, or for the producer.
const OUTPUT_BYTES: usize = 64 << 20;

impl Open {
    pub(super) fn advance(&mut self, now: Instant) -> Result<Advance, ConnectError> {
        self.finish_commit(None)?;
        self.follow_outputs(now);
        if self.rewind.is_none() {
            self.idle();
            self.read_feature_log()?;
            self.expire()?;
            self.bound_memory();
            if self.in_flight.is_none() {
                self.commit_if_due(now)?;
            }
        }
        self.full = self.outbox.output_bytes() > OUTPUT_BYTES || self.needs_commit();
        Ok(Advance {
            durable: self.durable.take().map(Durable::up_to),
            rewind: self.rewind.take(),
            full: self.full,
            wake_at: Some(self.wake_at(now)),
        })
    }

    fn commit_if_due(&mut self, now: Instant) -> Result<(), ConnectError> {
        let ready = self.has_ready_store(now) && self.may_redeploy();
        if ready || self.has_new_deployment() {
            return self.redeploy();
        }
        let due = now.duration_since(self.last_barrier) >= self.options.commit_interval;
        if !due && !self.needs_commit() {
            return Ok(());
        }
        self.gather_results();
        if self.changed || !self.shed.is_empty() || self.has_detached_work() {
            self.last_barrier = Instant::now();
            self.begin_commit(self.options.commit_drain)?;
        }
        Ok(())
    }

    /// Whether what is served has changed, and can be taken over.
    fn has_new_deployment(&self) -> bool {
        self.started.loader.generation() != self.topology.generation && self.may_redeploy()
    }

    /// Not while a new model cannot be loaded: its events would go past it.
    fn may_redeploy(&self) -> bool {
        self.started.deployment().awaited(&self.topics).is_none()
    }

    /// Takes over a new deployment before the records at hand: whoever was told that a document is in effect, and sends an event
    /// then, finds that it is. False: something went wrong with what came before, and all of it is read again.
    pub(super) fn follow_deployment(&mut self) -> Result<bool, ConnectError> {
        if self.has_new_deployment() {
            self.redeploy()?;
        }
        Ok(self.rewind.is_none())
    }

    /// Whether a global store has become ready that a view waits for; looked at now and then.
    fn has_ready_store(&mut self, now: Instant) -> bool {
        if now.duration_since(self.last_store_look) < IDLE_POLL {
            return false;
        }
        self.last_store_look = now;
        self.topology.waits_for_ready_store(&self.started.globals)
    }

    /// Takes over a new deployment: a barrier of everything before, then the new plans.
    fn redeploy(&mut self) -> Result<(), ConnectError> {
        self.barrier_now(Duration::from_secs(60))?;
        if self.rewind.is_some() {
            return Ok(());
        }
        for model in &self.models {
            drop(self.started.pool.take_back(&model.flow));
        }
        // Of what has run since the barrier the reader goes on behind.
        self.gather_results();
        self.log_reader.reset();
        self.replace_topology()
    }

    fn needs_commit(&self) -> bool {
        self.partitions
            .values()
            .any(|partition| partition.stores.iter().any(|store| store.needs_commit()))
    }

    pub(super) fn has_detached_work(&self) -> bool {
        self.partitions
            .values()
            .any(|partition| partition.detached().next().is_some())
    }

    /// Where it is asked for, stream time moves on while no event comes. Windows close by it.
    fn idle(&mut self) {
        if let Some(quiet) = &mut self.quiet {
            let wall_ms = crate::clock::wall_ms();
            for (number, since_ms) in quiet.look(&self.started.runtime, wall_ms) {
                if let Some(partition) = self.partitions.get_mut(number) {
                    partition.idle(*since_ms, wall_ms);
                }
            }
        }
        self.close_windows(self.started.pool.now_us());
    }

    /// A model whose rows take more than its tenant may have waits in the feature log.
    fn bound_memory(&mut self) {
        let deployment = self.started.deployment();
        for tenant in &self.topology.tenants {
            let Some(bound) = deployment
                .resources
                .tenants
                .get(&**tenant)
                .map(|tenant| tenant.memory.as_bytes())
            else {
                continue;
            };
            // Queues may take half of it: the other half is the models' own.
            let bound = usize::try_from(bound / 2).unwrap_or(usize::MAX);
            let own = || {
                self.models
                    .iter()
                    .filter(|model| *model.flow.runtime.tenant == **tenant)
            };
            let bytes: usize = own().map(|model| model.flow.waiting().1).sum();
            if bytes <= bound {
                continue;
            }
            let largest = own().max_by_key(|model| model.flow.waiting().1);
            if let Some(model) = largest {
                for partition in self.partitions.values_mut() {
                    partition.divert(&model.pending.model, Reason::Memory);
                }
            }
        }
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let next_barrier = self.last_barrier + self.options.commit_interval;
        if self.has_detached_work() {
            return now + LOG_POLL;
        }
        let open_work =
            self.changed || self.in_flight.is_some() || self.models.iter().any(|m| m.flow.outstanding() > 0);
        if open_work {
            next_barrier.max(now + Duration::from_millis(1))
        } else {
            now + IDLE_POLL
        }
    }

    pub(super) fn barrier(&mut self, timeout: Duration) -> Result<Durable<SinkOffsets>, ConnectError> {
        self.barrier_now(timeout)?;
        let mut offsets = SinkOffsets::new();
        for (number, partition) in &self.partitions {
            for (index, topic) in self.topics.iter().enumerate() {
                if let Some(next) = partition.position(index) {
                    offsets.insert(connect_api::delivery::TopicPartition::new(topic.clone(), *number), next);
                }
            }
        }
        Ok(Durable::up_to(offsets))
    }

    /// Commits everything accepted and waits for it.
    fn barrier_now(&mut self, timeout: Duration) -> Result<(), ConnectError> {
        let deadline = Instant::now() + timeout;
        let late = || ConnectError::retriable("the commit did not end in time");
        if !self.finish_commit(Some(deadline))? {
            return Err(late());
        }
        if self.rewind.is_some() {
            return Ok(());
        }
        let drain = self.options.commit_drain.min(timeout / 2);
        self.last_barrier = Instant::now();
        self.begin_commit(drain)?;
        if !self.finish_commit(Some(deadline))? {
            return Err(late());
        }
        Ok(())
    }

    /// Gives everything up. A commit under way ends by itself (its thread is waited for); what it wrote is found again in
    /// the changelog.
    pub(super) fn close(self) {
        for model in &self.models {
            self.started.pool.remove(&model.flow);
        }
        self.withdraw();
    }
}
