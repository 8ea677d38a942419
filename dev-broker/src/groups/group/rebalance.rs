//! Rebalances: everyone is asked to join again, a protocol and a leader are chosen, and who does not come in time is out.

use std::time::{Duration, Instant};

use indexmap::IndexMap;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::{Group, GroupState};
use crate::groups::member::{Joined, JoinedMember, Member};

impl Group {
    /// Asks everyone to join again. An empty group waits `initial_delay` for more members; another
    /// waits for those it has, at most for the longest of their rebalance timeouts.
    pub(super) fn prepare_rebalance(&mut self, initial_delay: Duration, now: Instant) {
        for member in self.members.values_mut() {
            member.answer_sync(Err(ResponseError::RebalanceInProgress));
        }
        let was_empty = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        if was_empty {
            match initial_delay.is_zero() {
                true => self.complete_rebalance(now),
                false => {
                    self.gathering = true;
                    self.rebalance_deadline = Some(now + initial_delay);
                }
            }
            return;
        }
        self.rebalance_deadline = Some(now + self.longest_rebalance_timeout());
        self.complete_if_all_joined(now);
    }

    fn longest_rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Instant) {
        let all_joined = self.members.values().all(|member| member.joining.is_some());
        let may_complete = self.state == GroupState::PreparingRebalance && !self.gathering;
        if may_complete && all_joined && self.pending.is_empty() {
            self.complete_rebalance(now);
        }
    }

    /// The members that have joined are the next generation.
    fn complete_rebalance(&mut self, now: Instant) {
        self.gathering = false;
        self.members
            .retain(|_, member| member.joining.is_some() || member.instance_id.is_some());
        self.generation = self.generation.wrapping_add(1).max(1);
        self.generation_changed = true;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            self.leader = None;
            self.rebalance_deadline = None;
            return;
        }
        self.protocol = self.vote();
        let leader_is_here = self
            .leader
            .as_ref()
            .is_some_and(|leader| self.members.contains_key(leader));
        if !leader_is_here {
            self.leader = self.members.keys().next().cloned();
        }
        self.state = GroupState::CompletingRebalance;
        self.rebalance_deadline = Some(now + self.longest_rebalance_timeout());
        let ids: Vec<StrBytes> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.heard_of(now);
                member.synced = false;
                member.answer_join(Ok(joined));
            }
        }
    }

    /// Each member votes for the first of its protocols that all support; the most votes win.
    fn vote(&self) -> Option<StrBytes> {
        let mut votes: IndexMap<&StrBytes, usize> = IndexMap::new();
        for member in self.members.values() {
            let supported_by_all = |name: &&StrBytes| self.members.values().all(|other| other.supports(name));
            let mut names = member.protocols.iter().map(|(name, _)| name);
            if let Some(choice) = names.find(supported_by_all) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name.clone())
    }

    pub(super) fn joined(&self, member_id: &StrBytes) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let leader = self.leader.clone().unwrap_or_default();
        let members = if leader == *member_id {
            let described = self.members.values().map(|member| JoinedMember {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(&protocol),
            });
            described.collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            leader,
            member_id: member_id.clone(),
            members,
        }
    }

    /// When [`Group::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|member| !member.is_waiting());
        sessions
            .map(|member| member.session_deadline)
            .chain(self.pending.values().copied())
            .chain(self.rebalance_deadline)
            .min()
    }

    /// Does what time has made due: expires members, goes on with a rebalance.
    pub fn tick(&mut self, now: Instant) {
        self.pending.retain(|_, deadline| *deadline > now);
        let silent = |member: &&Member| !member.is_waiting() && member.session_deadline <= now;
        let expired: Vec<StrBytes> = self
            .members
            .values()
            .filter(silent)
            .map(|member| member.id.clone())
            .collect();
        for member_id in expired {
            tracing::info!(member = %member_id.as_str(), "group member expired");
            self.remove(&member_id, now);
        }
        self.complete_if_all_joined(now);
        if self.rebalance_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.rebalance_deadline = None;
        match self.state {
            GroupState::PreparingRebalance => self.complete_rebalance(now),
            GroupState::CompletingRebalance | GroupState::Stable => self.remove_unsynced(now),
            GroupState::Empty => {}
        }
    }

    fn remove_unsynced(&mut self, now: Instant) {
        let unsynced = self.members.values().filter(|member| !member.synced);
        let unsynced: Vec<StrBytes> = unsynced.map(|member| member.id.clone()).collect();
        for member_id in unsynced {
            tracing::info!(member = %member_id.as_str(), "group member did not sync in time");
            self.remove(&member_id, now);
        }
    }
}
