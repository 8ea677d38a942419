//! Laws about the membership of groups.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_client::{ClientConfig, Consumer, RebalanceListener, TopicPartition};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};

use super::wire::{Wire, text};
use super::{PATIENCE, eventually, unique};

const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

/// A member of a group, on a connection of its own.
pub struct Member {
    wire: Wire,
    group: String,
    protocol_type: &'static str,
    protocol: &'static str,
    metadata: &'static str,
    /// Its id, once it has one.
    pub id: String,
    /// The generation it joined last.
    pub generation: i32,
}

impl Member {
    /// Not a member yet.
    ///
    /// # Errors
    /// When the coordinator is not there.
    pub async fn new(bootstrap: &str, group: &str, protocol_type: &'static str) -> Result<Self> {
        Ok(Self {
            wire: Wire::to_coordinator(bootstrap, group, 0).await?,
            group: group.to_owned(),
            protocol_type,
            protocol: "sessioned",
            metadata: "https://127.0.0.1:8083/",
            id: String::new(),
            generation: -1,
        })
    }

    /// Joins once.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn join_once(&mut self, session_timeout_ms: i32) -> Result<JoinGroupResponse> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(self.protocol))
            .with_metadata(Bytes::from_static(self.metadata.as_bytes()));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(session_timeout_ms)
            .with_rebalance_timeout_ms(30_000)
            .with_member_id(text(&self.id))
            .with_protocol_type(text(self.protocol_type))
            .with_protocols(vec![protocol]);
        let wire = &self.wire;
        let request = &request;
        let answer = eventually("the coordinator", || async move {
            let answer = wire.call(request, 7).await?;
            Ok((!matches!(answer.error_code, 14..=16)).then_some(answer))
        })
        .await?;
        if matches!(answer.error_code, 0 | MEMBER_ID_REQUIRED) {
            self.id = answer.member_id.to_string();
            self.generation = answer.generation_id;
        }
        Ok(answer)
    }

    /// Joins as a new member does: is given an id, and comes back with it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn join(&mut self) -> Result<JoinGroupResponse> {
        let mut answer = self.join_once(30_000).await?;
        if answer.error_code == MEMBER_ID_REQUIRED {
            answer = self.join_once(30_000).await?;
        }
        ensure!(answer.error_code == 0, "join refused: {}", answer.error_code);
        Ok(answer)
    }

    /// Syncs; the leader with assignments.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn sync(&self, assignments: &[(&str, &'static str)]) -> Result<SyncGroupResponse> {
        let assignments = assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from_static(assignment.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_protocol_type(Some(text(self.protocol_type)))
            .with_protocol_name(Some(text(self.protocol)))
            .with_assignments(assignments.collect());
        self.wire.call(&request, 5).await
    }

    /// A heartbeat; the error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn heartbeat(&self) -> Result<i16> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        Ok(self.wire.call(&request, 3).await?.error_code)
    }

    /// Leaves; the error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn leave(&self) -> Result<i16> {
        let member = MemberIdentity::default().with_member_id(text(&self.id));
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_members(vec![member]);
        let answer = self.wire.call(&request, 3).await?;
        Ok(answer.members.first().context("no member in the answer")?.error_code)
    }

    /// Waits until it is told to join again, and does.
    async fn rejoin(&mut self) -> Result<JoinGroupResponse> {
        let member = &*self;
        eventually("a rebalance", || async move {
            Ok((member.heartbeat().await? == REBALANCE_IN_PROGRESS).then_some(()))
        })
        .await?;
        self.join().await
    }
}

/// Two members of type `connect` join; the leader is told both, each gets what the leader gave it, and when one leaves the
/// other is told to join again.
///
/// # Errors
/// When the law does not hold.
pub async fn members_of_any_protocol_type_share_work(bootstrap: &str) -> Result<()> {
    let group = unique("connect");
    let mut first = Member::new(bootstrap, &group, "connect").await?;
    let answer = first.join_once(30_000).await?;
    ensure!(
        answer.error_code == MEMBER_ID_REQUIRED,
        "the first join: {}",
        answer.error_code
    );
    ensure!(!answer.member_id.is_empty(), "no member id");
    let joined = first.join().await?;
    ensure!(
        joined.leader == joined.member_id && joined.members.len() == 1,
        "leads alone"
    );
    ensure!(
        joined
            .protocol_name
            .as_ref()
            .is_some_and(|name| name.as_str() == "sessioned"),
        "protocol"
    );
    let alone = first.sync(&[(&first.id, "all")]).await?;
    ensure!(
        alone.error_code == 0 && alone.assignment.as_ref() == b"all",
        "alone: {alone:?}"
    );
    ensure!(first.heartbeat().await? == 0, "a heartbeat is refused");

    let mut second = Member::new(bootstrap, &group, "connect").await?;
    let (again, joined) = tokio::join!(first.rejoin(), second.join());
    let (again, joined) = (again?, joined?);
    ensure!(
        again.generation_id == joined.generation_id && again.generation_id > 1,
        "generations"
    );
    ensure!(
        again.leader == joined.leader && again.leader.as_str() == first.id,
        "the leader stays"
    );
    let told: BTreeSet<String> = again
        .members
        .iter()
        .map(|member| member.member_id.to_string())
        .collect();
    let members = BTreeSet::from([first.id.clone(), second.id.clone()]);
    ensure!(
        told == members && joined.members.is_empty(),
        "the leader is told {told:?}"
    );
    let metadata = again
        .members
        .iter()
        .all(|member| member.metadata.as_ref() == first.metadata.as_bytes());
    ensure!(metadata, "metadata of members");
    let assignments = [(first.id.as_str(), "one"), (second.id.as_str(), "two")];
    let (one, two) = tokio::join!(first.sync(&assignments), second.sync(&[]));
    let (one, two) = (one?.assignment, two?.assignment);
    ensure!(
        one.as_ref() == b"one" && two.as_ref() == b"two",
        "assignments: {one:?} {two:?}"
    );

    ensure!(first.leave().await? == 0, "leaving is refused");
    let joined = second.rejoin().await?;
    ensure!(
        joined.leader.as_str() == second.id && joined.members.len() == 1,
        "leads alone"
    );
    ensure!(
        second.sync(&[(&second.id, "all")]).await?.assignment.as_ref() == b"all",
        "takes over"
    );
    ensure!(second.leave().await? == 0, "leaving is refused");
    Ok(())
}

/// A member that is silent for its session timeout is out, and the others are told to join again.
///
/// # Errors
/// When the law does not hold.
pub async fn a_silent_member_is_expired(bootstrap: &str) -> Result<()> {
    let group = unique("silent");
    let mut silent = Member::new(bootstrap, &group, "connect").await?;
    silent.join_once(6_000).await?;
    ensure!(silent.join_once(6_000).await?.error_code == 0, "join refused");
    ensure!(silent.sync(&[]).await?.error_code == 0, "sync refused");
    let mut other = Member::new(bootstrap, &group, "connect").await?;
    // The silent member never joins again: the other's join ends when it has expired.
    let joined = other.join().await?;
    ensure!(
        joined.members.len() == 1 && joined.leader.as_str() == other.id,
        "still there: {joined:?}"
    );
    ensure!(silent.heartbeat().await? == UNKNOWN_MEMBER_ID, "still a member");
    ensure!(
        silent.join_once(6_000).await?.error_code == UNKNOWN_MEMBER_ID,
        "joins with an old id"
    );
    Ok(())
}

/// Codes for those who do not belong: unknown member 25, old generation 22, another protocol type 23, a session timeout out
/// of bounds 26.
///
/// # Errors
/// When the law does not hold.
pub async fn strangers_are_refused(bootstrap: &str) -> Result<()> {
    let group = unique("strangers");
    let mut member = Member::new(bootstrap, &group, "connect").await?;
    member.join().await?;
    ensure!(member.sync(&[]).await?.error_code == 0, "sync refused");

    let mut stranger = Member::new(bootstrap, &group, "consumer").await?;
    let code = stranger.join_once(30_000).await?.error_code;
    ensure!(code == INCONSISTENT_GROUP_PROTOCOL, "another protocol type: {code}");
    stranger.protocol_type = "connect";
    stranger.protocol = "other";
    let code = stranger.join_once(30_000).await?.error_code;
    ensure!(code == INCONSISTENT_GROUP_PROTOCOL, "another protocol: {code}");
    stranger.protocol = "sessioned";
    let code = stranger.join_once(1).await?.error_code;
    ensure!(code == INVALID_SESSION_TIMEOUT, "a short session: {code}");
    stranger.id = "nobody".to_owned();
    stranger.generation = member.generation;
    ensure!(
        stranger.join_once(30_000).await?.error_code == UNKNOWN_MEMBER_ID,
        "join of nobody"
    );
    ensure!(stranger.heartbeat().await? == UNKNOWN_MEMBER_ID, "heartbeat of nobody");
    ensure!(
        stranger.sync(&[]).await?.error_code == UNKNOWN_MEMBER_ID,
        "sync of nobody"
    );
    ensure!(stranger.leave().await? == UNKNOWN_MEMBER_ID, "leaving of nobody");
    member.generation -= 1;
    ensure!(member.heartbeat().await? == ILLEGAL_GENERATION, "an old generation");
    ensure!(
        member.sync(&[]).await?.error_code == ILLEGAL_GENERATION,
        "sync of an old generation"
    );
    Ok(())
}

/// A leader that joins again begins a rebalance, also with nothing changed: so a Connect leader asks for one.
///
/// # Errors
/// When the law does not hold.
pub async fn the_leader_is_told_again_when_it_rejoins(bootstrap: &str) -> Result<()> {
    let group = unique("leader");
    let mut leader = Member::new(bootstrap, &group, "connect").await?;
    leader.join().await?;
    leader.sync(&[(&leader.id, "first")]).await?;
    let first = leader.generation;
    let joined = leader.join().await?;
    ensure!(
        joined.generation_id == first + 1,
        "generation {} after {first}",
        joined.generation_id
    );
    ensure!(joined.members.len() == 1, "the leader is not told its members");
    let synced = leader.sync(&[(&leader.id, "second")]).await?;
    ensure!(
        synced.assignment.as_ref() == b"second",
        "assignment {:?}",
        synced.assignment
    );
    Ok(())
}

struct Owned(Arc<Mutex<BTreeSet<i32>>>);

impl RebalanceListener for Owned {
    fn assigned(&mut self, _consumer: &Consumer, partitions: &[TopicPartition]) {
        let mut owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owned.extend(partitions.iter().map(|partition| partition.partition));
    }

    fn revoked(&mut self, _consumer: &Consumer, partitions: &[TopicPartition]) {
        let mut owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owned.retain(|owned| partitions.iter().all(|partition| partition.partition != *owned));
    }

    fn lost(&mut self, consumer: &Consumer, partitions: &[TopicPartition]) {
        self.revoked(consumer, partitions);
    }
}

/// Two consumers of a group divide its topic's partitions; when one goes, the other has them all.
///
/// # Errors
/// When the law does not hold.
pub async fn consumers_divide_partitions(bootstrap: &str) -> Result<()> {
    let topic = unique("divided");
    Wire::connect(bootstrap).await?.create_topic(&topic, 4, &[]).await?;
    let mut config = ClientConfig::new(bootstrap);
    config.set("group.id", &unique("divided"));
    tokio::task::block_in_place(|| {
        let subscribe = || -> Result<(Consumer, Arc<Mutex<BTreeSet<i32>>>)> {
            let owned = Arc::default();
            let consumer = Consumer::new(&config)?;
            consumer.subscribe(std::slice::from_ref(&topic), Box::new(Owned(Arc::clone(&owned))))?;
            Ok((consumer, owned))
        };
        let count = |owned: &Mutex<BTreeSet<i32>>| owned.lock().unwrap_or_else(PoisonError::into_inner).len();
        let (first, first_owned) = subscribe()?;
        let (second, second_owned) = subscribe()?;
        let start = Instant::now();
        while count(&first_owned) != 2 || count(&second_owned) != 2 {
            ensure!(
                start.elapsed() < PATIENCE,
                "not divided: {first_owned:?} {second_owned:?}"
            );
            first.fetch(1, Duration::from_millis(20))?;
            second.fetch(1, Duration::from_millis(20))?;
        }
        second.close()?;
        drop(second);
        while count(&first_owned) != 4 {
            ensure!(start.elapsed() < PATIENCE * 2, "not taken over: {first_owned:?}");
            first.fetch(1, Duration::from_millis(20))?;
        }
        Ok(())
    })
}
