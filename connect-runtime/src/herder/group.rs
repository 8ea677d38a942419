//! What the shell does when the group speaks: give up, deal, take what was dealt.
//!
//! ```text
//!   Revoke    shares := none                   actors settle  ->  Revoked
//!   Deal      shares := kept(shares, next)     actors settle  ->  Dealt(assignments)
//!   Assigned  read the config topic as far     shares := next, statuses under the new generation
//! ```

use super::position::Position;
use super::shell::{LAST_STATUSES, Shell};
use crate::cluster::round::{self, Owners, Round};
use crate::cluster::share::{kept, shares};
use crate::membership::machine::{Notice, Told, explained};
use crate::membership::protocol::{AssignmentError, MemberAssignment, MemberMetadata};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Whether a member is a worker of this kind: the broker names members by their client id, which begins with `group.id`
/// here, and with `connect-` or as its `client.id` says on a Java worker.
fn is_own_kind(member: &str, group: &str) -> bool {
    member
        .strip_prefix(group)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        || member == "alone"
}

/// Before joining again after a round that came to nothing.
const FAILED_ROUND: Duration = Duration::from_millis(250);

impl Shell {
    pub(super) async fn follow(&mut self, notice: Notice) {
        match notice {
            Notice::Revoke { round } => {
                tracing::info!("Rebalance started");
                self.position.send_replace(None);
                self.dealt = None;
                self.shares.clear();
                self.settle_then(Told::Revoked { round });
            }
            Notice::Deal { round, member, members } => self.deal(round, &member, members).await,
            Notice::Assigned {
                round,
                generation,
                leads,
                assignment,
            } => self.take(round, generation, leads, &assignment).await,
            Notice::Refused(code) => {
                tracing::error!(group = %self.shared.worker.group_id, code, reason = explained(code), "the worker cannot join its group, trying again");
            }
        }
    }

    /// Has the actors do what is desired now; tells the member when they have, and when others can read it in the
    /// statuses.
    fn settle_then(&mut self, told: Told) {
        let written = self.status.writes();
        self.update_actors();
        let (settles, status, teller) = (self.settles(), Arc::clone(&self.status), self.member.teller());
        tokio::spawn(async move {
            settles.await;
            if status.writes() != written {
                status.flush(LAST_STATUSES).await;
            }
            teller.tell(told);
        });
    }

    async fn deal(&mut self, round: u64, leader: &str, members: Vec<(String, Bytes)>) {
        let members: BTreeMap<String, MemberMetadata> = members
            .into_iter()
            .map(|(member, metadata)| {
                let metadata = MemberMetadata::decode(&metadata).unwrap_or_else(|error| {
                    tracing::error!(%member, %error, "a member of the group is given work, but cannot be reached by others");
                    MemberMetadata {
                        url: String::new(),
                        config_offset: -1,
                    }
                });
                (member, metadata)
            })
            .collect();
        self.warn_of_java_workers(&members);
        self.read_up_to(round::highest_offset(&members)).await;
        let dealt = {
            let cluster = self.cluster.read();
            self.shared.statuses.remove_unknown(&cluster);
            round::deal(leader, &members, &cluster)
        };
        let Round {
            assignments,
            owners,
            dealt,
        } = dealt;
        let next = match assignments.get(leader) {
            Some(own) => shares(&own.work, &self.cluster.read()),
            None => crate::cluster::share::Shares::new(),
        };
        tracing::info!(members = members.len(), "Performing task assignment");
        self.shares = kept(&self.shares, &next);
        self.dealt = dealt;
        self.owners = Arc::new(owners);
        let assignments = assignments
            .into_iter()
            .map(|(member, assignment)| (member, assignment.encode()));
        self.settle_then(Told::Dealt {
            round,
            assignments: assignments.collect(),
        });
    }

    /// Which protocols a member offers besides the one that is spoken, no other member can see: each Java worker is told of
    /// once.
    fn warn_of_java_workers(&mut self, members: &BTreeMap<String, MemberMetadata>) {
        for (member, metadata) in members {
            if !is_own_kind(member, &self.shared.worker.group_id) && self.java_workers.insert(metadata.url.clone()) {
                tracing::warn!(
                    group = %self.shared.worker.group_id,
                    worker = %metadata.url,
                    "a Java worker is a member of the group: it must have been started with connect.protocol=eager. With \
                     another value it goes on running what the group takes from it, and its sources write everything twice"
                );
            }
        }
    }

    async fn take(&mut self, round: u64, generation: i32, leads: bool, assignment: &Bytes) {
        let assignment = match MemberAssignment::decode(assignment) {
            Ok(assignment) => assignment,
            Err(error) => {
                tracing::error!(%error, "the group's leader says what this worker cannot read, joining again");
                return self.join_again();
            }
        };
        self.read_up_to(assignment.config_offset).await;
        if assignment.error == AssignmentError::ConfigMismatch {
            tracing::warn!(
                config_offset = assignment.config_offset,
                "the group's leader could not read the config topic as far as a member has, joining again"
            );
            return self.join_again();
        }
        let offset = self.cluster.read().offset;
        if offset < assignment.config_offset {
            tracing::warn!(
                offset,
                config_offset = assignment.config_offset,
                "the config topic could not be read as far as the assignment wants within worker.sync.timeout.ms, \
                 leaving the group for worker.unsync.backoff.ms"
            );
            self.position.send_replace(None);
            self.member.tell(Told::Unsynced { round });
            return;
        }
        let work = &assignment.work;
        tracing::info!(
            group = %self.shared.worker.group_id,
            generation,
            leads,
            leader = %assignment.leader_url,
            connectors = work.connectors.len(),
            tasks = work.tasks.len(),
            "Joined group"
        );
        self.shared.statuses.set_generation(generation);
        self.shares = shares(work, &self.cluster.read());
        if !leads {
            self.dealt = None;
            self.owners = Arc::new(Owners::default());
        }
        self.joined.store(true, Ordering::Release);
        self.position.send_replace(Some(Position {
            generation,
            leads,
            leader_url: assignment.leader_url,
            owners: Arc::clone(&self.owners),
        }));
        tracing::info!(
            "Starting connectors and tasks using config offset {}",
            assignment.config_offset
        );
        self.update_actors();
        tracing::info!("Finished starting connectors and tasks");
        self.ask_for_a_round();
    }

    /// Asks for another round where the last one is out of date.
    pub(super) fn ask_for_a_round(&self) {
        if self
            .dealt
            .as_ref()
            .is_some_and(|dealt| dealt.is_outdated(&self.cluster.read()))
        {
            self.member.tell(Told::Rejoin);
        }
    }

    /// Reads the config topic where it has not been read up to `offset` yet, for `worker.sync.timeout.ms` at most.
    async fn read_up_to(&self, offset: i64) {
        if self.cluster.read().offset >= offset {
            return;
        }
        let limit = self.shared.worker.worker_sync_timeout;
        match tokio::time::timeout(limit, self.config.read_to_end()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the config topic could not be read"),
            Err(_) => tracing::warn!(limit_ms = limit.as_millis(), "the config topic was not read in time"),
        }
    }

    fn join_again(&self) {
        self.position.send_replace(None);
        let teller = self.member.teller();
        tokio::spawn(async move {
            tokio::time::sleep(FAILED_ROUND).await;
            teller.tell(Told::Rejoin);
        });
    }
}
