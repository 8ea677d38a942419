//! All groups, and the timer that expires members and ends rebalances.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::group::Group;
use super::member::{JoinAnswer, JoinRequest};
use crate::committed_offsets::{CommittedOffset, PartitionKey};
use crate::restored::RestoredGroup;
use crate::storage::journal::{Entry, Journal};

/// Limits that a member's timeouts must keep to.
#[derive(Debug, Clone, Copy)]
pub struct GroupLimits {
    /// Shortest session timeout.
    pub min_session_timeout: Duration,
    /// Longest session timeout.
    pub max_session_timeout: Duration,
    /// How long an empty group waits for more members after the first.
    pub initial_rebalance_delay: Duration,
}

/// All groups.
#[derive(Debug)]
pub struct GroupCoordinator {
    groups: Mutex<BTreeMap<String, Group>>,
    limits: GroupLimits,
    timers_changed: Notify,
    journal: Journal,
}

impl GroupCoordinator {
    /// Goes on with the groups that a journal holds; their members must join again.
    pub fn new(limits: GroupLimits, journal: Journal, restored: BTreeMap<String, RestoredGroup>) -> GroupCoordinator {
        let groups = restored.into_iter().map(|(id, restored)| {
            let mut group = Group::new(restored.generation);
            group.protocol_type = restored.protocol_type.map(StrBytes::from_string);
            group.offsets = restored.offsets;
            (id, group)
        });
        GroupCoordinator {
            groups: Mutex::new(groups.collect()),
            limits,
            timers_changed: Notify::new(),
            journal,
        }
    }

    /// A member joins; the answer comes when it is there. A group is created by its first member.
    pub fn join(&self, group_id: &str, request: &JoinRequest, answer: oneshot::Sender<JoinAnswer>) {
        let allowed = self.limits.min_session_timeout..=self.limits.max_session_timeout;
        let error = if group_id.is_empty() {
            Some(ResponseError::InvalidGroupId)
        } else if !allowed.contains(&request.session_timeout) {
            Some(ResponseError::InvalidSessionTimeout)
        } else {
            None
        };
        let refuse = |answer: oneshot::Sender<JoinAnswer>, error| {
            let member_id = request.member_id.clone();
            let _ = answer.send(Err(super::member::JoinRefused { error, member_id }));
        };
        if let Some(error) = error {
            return refuse(answer, error);
        }
        let mut groups = self.groups.lock();
        if !groups.contains_key(group_id) && !request.member_id.is_empty() {
            return refuse(answer, ResponseError::UnknownMemberId);
        }
        let group = groups.entry(group_id.to_owned()).or_insert_with(|| Group::new(0));
        group.join(request, self.limits.initial_rebalance_delay, Instant::now(), answer);
        self.after_change(group_id, group);
    }

    /// Runs `act` on a group and sees to its timers and its generation afterwards.
    pub fn with_group<T>(&self, group_id: &str, act: impl FnOnce(Option<&mut Group>) -> T) -> T {
        let mut groups = self.groups.lock();
        let mut group = groups.get_mut(group_id);
        let result = act(group.as_deref_mut());
        if let Some(group) = group {
            self.after_change(group_id, group);
        }
        result
    }

    /// As [`GroupCoordinator::with_group`], with a new group if there is none.
    pub fn with_group_created<T>(&self, group_id: &str, act: impl FnOnce(&mut Group) -> T) -> T {
        let mut groups = self.groups.lock();
        let group = groups.entry(group_id.to_owned()).or_insert_with(|| Group::new(0));
        let result = act(group);
        self.after_change(group_id, group);
        result
    }

    /// Runs `read` on every group.
    pub fn for_each(&self, mut read: impl FnMut(&str, &Group)) {
        for (id, group) in self.groups.lock().iter() {
            read(id, group);
        }
    }

    fn after_change(&self, group_id: &str, group: &mut Group) {
        if std::mem::take(&mut group.generation_changed) {
            self.journal.record(&Entry::Generation {
                group: group_id.to_owned(),
                generation: group.generation,
                protocol_type: group.protocol_type.as_ref().map(|text| text.to_string()),
            });
        }
        self.timers_changed.notify_one();
    }

    /// Notes offsets that a group committed (they are in the group already).
    pub fn record_offsets(&self, group: &str, offsets: Vec<(PartitionKey, CommittedOffset)>) {
        if !offsets.is_empty() {
            self.journal.record(&Entry::Offsets {
                group: group.to_owned(),
                offsets,
            });
        }
    }

    /// Ends a producer's transaction in the groups that it touched.
    pub fn end_transaction<'a>(&self, groups: impl IntoIterator<Item = &'a String>, producer_id: i64, commit: bool) {
        for group_id in groups {
            let committed = self.with_group(group_id, |group| {
                group.map(|group| group.offsets.end_transaction(producer_id, commit))
            });
            if committed.is_some() {
                let group = group_id.clone();
                self.journal.record(&Entry::PendingEnded {
                    group,
                    producer_id,
                    commit,
                });
            }
        }
    }

    /// Deletes a group with its offsets.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, `NON_EMPTY_GROUP`.
    pub fn delete(&self, group_id: &StrBytes) -> Result<(), ResponseError> {
        let mut groups = self.groups.lock();
        let group = groups.get(group_id.as_str()).ok_or(ResponseError::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(ResponseError::NonEmptyGroup);
        }
        groups.remove(group_id.as_str());
        self.journal.record(&Entry::GroupDeleted {
            group: group_id.to_string(),
        });
        Ok(())
    }

    /// Deletes the offsets of a topic that is gone, in every group.
    pub fn forget_topic(&self, topic: &str) {
        for group in self.groups.lock().values_mut() {
            group.offsets.forget_topic(topic);
        }
    }

    /// Expires members and ends rebalances when they are due, for ever.
    pub async fn run_timers(&self) {
        loop {
            let next = self.groups.lock().values().filter_map(Group::next_deadline).min();
            tokio::select! {
                () = sleep_until(next) => self.tick(Instant::now()),
                () = self.timers_changed.notified() => {}
            }
        }
    }

    fn tick(&self, now: Instant) {
        for (id, group) in self.groups.lock().iter_mut() {
            if group.next_deadline().is_some_and(|deadline| deadline <= now) {
                group.tick(now);
                if std::mem::take(&mut group.generation_changed) {
                    self.journal.record(&Entry::Generation {
                        group: id.clone(),
                        generation: group.generation,
                        protocol_type: group.protocol_type.as_ref().map(|text| text.to_string()),
                    });
                }
            }
        }
    }
}

/// Sleeps until then; without a time, for ever.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
