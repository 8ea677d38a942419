//! One group: its members, as a state machine over explicit time; how it comes to a new generation is in `rebalance`.
//!
//! ```text
//! Empty --join--> PreparingRebalance --all joined or time is up--> CompletingRebalance
//!   ^                 ^      ^                                        | leader syncs
//!   |                 |      +---- join, leave, expiry -- Stable <----+
//!   +--last member out+
//! ```

mod rebalance;

use std::time::{Duration, Instant};

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::member::{JoinAnswer, JoinRefused, JoinRequest, Member, SyncAnswer, SyncRequest, Synced};
use crate::committed_offsets::GroupOffsets;

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// No member; there may be offsets.
    Empty,
    /// Waiting for its members to join.
    PreparingRebalance,
    /// Waiting for its leader's assignments.
    CompletingRebalance,
    /// Everyone has an assignment.
    Stable,
}

impl GroupState {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

/// One group.
#[derive(Debug)]
pub struct Group {
    state: GroupState,
    /// Counts rebalances.
    pub generation: i32,
    /// `consumer`, `connect`, ...; kept when the last member is out.
    pub protocol_type: Option<StrBytes>,
    /// The protocol of this generation.
    pub protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    /// Members in order of joining.
    members: IndexMap<StrBytes, Member>,
    /// Member ids that were given out and have not come back, with when they lapse.
    pending: FxHashMap<StrBytes, Instant>,
    /// When the rebalance goes on without those who have not joined, or have not synced.
    rebalance_deadline: Option<Instant>,
    /// The first rebalance of an empty group lasts its whole delay, to gather more members.
    gathering: bool,
    /// Committed offsets.
    pub offsets: GroupOffsets,
    /// Set when something happened that a restart must know of (the generation).
    pub generation_changed: bool,
}

impl Group {
    /// An empty group that goes on after `generation`.
    pub fn new(generation: i32) -> Group {
        Group {
            state: GroupState::Empty,
            generation,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: IndexMap::new(),
            pending: FxHashMap::default(),
            rebalance_deadline: None,
            gathering: false,
            offsets: GroupOffsets::default(),
            generation_changed: false,
        }
    }

    /// Where it is.
    pub fn state(&self) -> GroupState {
        self.state
    }

    /// Its members in order of joining.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether nobody is or is about to be a member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member joins, for the first time or again. The answer comes through `answer`, at once or
    /// when the rebalance is through.
    pub fn join(
        &mut self,
        request: &JoinRequest,
        initial_delay: Duration,
        now: Instant,
        answer: oneshot::Sender<JoinAnswer>,
    ) {
        let mut request = request.clone();
        if let Err(error) = self.check_join(&request) {
            return refuse(answer, error, &request.member_id);
        }
        if request.member_id.is_empty() {
            match self.admit(&request, now) {
                Ok(member_id) => request.member_id = member_id,
                Err(refused) => {
                    let _ = answer.send(Err(refused));
                    return;
                }
            }
        }
        let member_id = request.member_id.clone();
        self.pending.remove(&member_id);
        let known = self.members.get(&member_id);
        let changed = known.is_none_or(|member| member.protocols != request.protocols);
        let is_leader = self.leader.as_ref() == Some(&member_id);
        let rejoins_in_place = match self.state {
            GroupState::CompletingRebalance => !changed,
            GroupState::Stable => !changed && !is_leader,
            GroupState::Empty | GroupState::PreparingRebalance => false,
        };
        match self.members.get_mut(&member_id) {
            Some(member) => member.update(&request, now),
            None => {
                let member = Member::new(member_id.clone(), &request, now);
                self.members.insert(member_id.clone(), member);
            }
        }
        if rejoins_in_place {
            let joined = self.joined(&member_id);
            let _ = answer.send(Ok(joined));
            return;
        }
        self.protocol_type = Some(request.protocol_type.clone());
        if let Some(member) = self.members.get_mut(&member_id) {
            // A join that is sent twice replaces the first, whose connection is gone.
            member.joining = Some(answer);
        }
        if self.state == GroupState::PreparingRebalance {
            self.complete_if_all_joined(now);
        } else {
            self.prepare_rebalance(initial_delay, now);
        }
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), ResponseError> {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let others: Vec<&Member> = self
            .members
            .values()
            .filter(|member| member.id != request.member_id)
            .collect();
        if !others.is_empty() {
            let same_type = self.protocol_type.as_ref() == Some(&request.protocol_type);
            let shared = request
                .protocols
                .iter()
                .any(|(name, _)| others.iter().all(|member| member.supports(name)));
            if !same_type || !shared {
                return Err(ResponseError::InconsistentGroupProtocol);
            }
        }
        if request.member_id.is_empty() {
            return Ok(());
        }
        self.check_instance(&request.member_id, request.instance_id.as_ref())?;
        let known = self.members.contains_key(&request.member_id) || self.pending.contains_key(&request.member_id);
        if known {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    /// Gives a new member its id; a static member takes the place of its predecessor.
    fn admit(&mut self, request: &JoinRequest, now: Instant) -> Result<StrBytes, JoinRefused> {
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let id = StrBytes::from_string(format!("{}-{}", prefix.as_str(), Uuid::new_v4()));
        if let Some(instance_id) = &request.instance_id {
            self.replace_static_member(instance_id, &id);
        } else if request.requires_known_member_id {
            self.pending.insert(id.clone(), now + request.session_timeout);
            return Err(JoinRefused {
                error: ResponseError::MemberIdRequired,
                member_id: id,
            });
        }
        Ok(id)
    }

    /// Renames the member of that static name, so that it keeps its place and assignment.
    fn replace_static_member(&mut self, instance_id: &StrBytes, new_id: &StrBytes) {
        let Some(old_id) = self.static_member(instance_id) else {
            return;
        };
        let Some(index) = self.members.get_index_of(&old_id) else {
            return;
        };
        let Some((_, mut member)) = self.members.shift_remove_index(index) else {
            return;
        };
        member.answer_join(Err(JoinRefused {
            error: ResponseError::FencedInstanceId,
            member_id: old_id.clone(),
        }));
        member.answer_sync(Err(ResponseError::FencedInstanceId));
        member.id = new_id.clone();
        self.members.insert(new_id.clone(), member);
        if self.leader.as_ref() == Some(&old_id) {
            self.leader = Some(new_id.clone());
        }
    }

    fn static_member(&self, instance_id: &StrBytes) -> Option<StrBytes> {
        let mut members = self.members.values();
        let found = members.find(|member| member.instance_id.as_ref() == Some(instance_id));
        found.map(|member| member.id.clone())
    }

    fn check_instance(&self, member_id: &StrBytes, instance_id: Option<&StrBytes>) -> Result<(), ResponseError> {
        let Some(instance_id) = instance_id else { return Ok(()) };
        match self.static_member(instance_id) {
            Some(current) if current != *member_id => Err(ResponseError::FencedInstanceId),
            _ => Ok(()),
        }
    }

    /// The assignment of a member: its leader's, once it is there.
    pub fn sync(&mut self, request: SyncRequest, now: Instant, answer: oneshot::Sender<SyncAnswer>) {
        let SyncRequest {
            member_id,
            instance_id,
            generation,
            protocol,
            assignments,
        } = request;
        let check = self
            .check_member(&member_id, instance_id.as_ref(), generation)
            .and_then(|()| {
                let same = protocol.is_none_or(|(protocol_type, name)| {
                    self.protocol_type.as_ref() == Some(&protocol_type) && self.protocol.as_ref() == Some(&name)
                });
                if same {
                    Ok(())
                } else {
                    Err(ResponseError::InconsistentGroupProtocol)
                }
            });
        if let Err(error) = check {
            let _ = answer.send(Err(error));
            return;
        }
        match self.state {
            GroupState::Empty => {
                let _ = answer.send(Err(ResponseError::UnknownMemberId));
            }
            GroupState::PreparingRebalance => {
                let _ = answer.send(Err(ResponseError::RebalanceInProgress));
            }
            GroupState::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.heard_of(now);
                    member.synced = true;
                    member.syncing = Some(answer);
                }
                if self.leader.as_ref() == Some(&member_id) {
                    self.assign(assignments, now);
                }
            }
            GroupState::Stable => {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.heard_of(now);
                    member.synced = true;
                    member.syncing = Some(answer);
                }
                self.answer_syncs();
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(StrBytes, Bytes)>, now: Instant) {
        let mut assignments: FxHashMap<StrBytes, Bytes> = assignments.into_iter().collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            member.heard_of(now);
        }
        self.state = GroupState::Stable;
        self.answer_syncs();
    }

    fn answer_syncs(&mut self) {
        let protocol_type = self.protocol_type.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        for member in self.members.values_mut() {
            let assignment = member.assignment.clone();
            member.answer_sync(Ok(Synced {
                protocol_type: protocol_type.clone(),
                protocol: protocol.clone(),
                assignment,
            }));
        }
        if self.members.values().all(|member| member.synced) {
            self.rebalance_deadline = None;
        }
    }

    /// A sign of life.
    ///
    /// # Errors
    /// What tells the member to join again.
    pub fn heartbeat(
        &mut self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check_member(member_id, instance_id, generation)?;
        if let Some(member) = self.members.get_mut(member_id) {
            member.heard_of(now);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            GroupState::Empty => Err(ResponseError::UnknownMemberId),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Whether that member, at that generation, may speak for the group.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `ILLEGAL_GENERATION`, `FENCED_INSTANCE_ID`.
    pub fn check_member(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.check_instance(member_id, instance_id)?;
        if !self.members.contains_key(member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    /// A member goes.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub fn leave(
        &mut self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if self.pending.remove(member_id).is_some() {
            return Ok(());
        }
        let member_id = match instance_id {
            Some(instance_id) if member_id.is_empty() => {
                self.static_member(instance_id).ok_or(ResponseError::UnknownMemberId)?
            }
            _ => member_id.clone(),
        };
        self.check_instance(&member_id, instance_id)?;
        if !self.members.contains_key(&member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(&member_id, now);
        Ok(())
    }

    fn remove(&mut self, member_id: &StrBytes, now: Instant) {
        let Some(mut member) = self.members.shift_remove(member_id) else {
            return;
        };
        let error = ResponseError::UnknownMemberId;
        member.answer_join(Err(JoinRefused {
            error,
            member_id: member_id.clone(),
        }));
        member.answer_sync(Err(error));
        if self.leader.as_ref() == Some(member_id) {
            self.leader = None;
        }
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(Duration::ZERO, now);
            }
            GroupState::PreparingRebalance => self.complete_if_all_joined(now),
            GroupState::Empty => {}
        }
    }
}

fn refuse(answer: oneshot::Sender<JoinAnswer>, error: ResponseError, member_id: &StrBytes) {
    let _ = answer.send(Err(JoinRefused {
        error,
        member_id: member_id.clone(),
    }));
}
