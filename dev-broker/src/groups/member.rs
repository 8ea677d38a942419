//! A member of a group, and the answers it waits for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

/// What a join is answered with.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Generation that the member is in.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: StrBytes,
    /// The protocol that all members support.
    pub protocol: StrBytes,
    /// Member id of the leader.
    pub leader: StrBytes,
    /// The member's own id.
    pub member_id: StrBytes,
    /// Every member with its metadata for the leader, nobody for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Debug, Clone)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: StrBytes,
    /// Its static name.
    pub instance_id: Option<StrBytes>,
    /// Its metadata of the chosen protocol.
    pub metadata: Bytes,
}

/// A refused join: the error and the member id to go with it.
#[derive(Debug, Clone)]
pub struct JoinRefused {
    /// What Kafka answers.
    pub error: ResponseError,
    /// The id that the member should use, with `MEMBER_ID_REQUIRED`; else the one it sent.
    pub member_id: StrBytes,
}

/// What a sync is answered with.
#[derive(Debug, Clone)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: StrBytes,
    /// The chosen protocol.
    pub protocol: StrBytes,
    /// The member's assignment as its leader wrote it.
    pub assignment: Bytes,
}

/// Answer to a join, once there is one.
pub type JoinAnswer = Result<Joined, JoinRefused>;
/// Answer to a sync, once there is one.
pub type SyncAnswer = Result<Synced, ResponseError>;

/// What a member says of itself when it joins.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// Its id; empty the first time.
    pub member_id: StrBytes,
    /// Its static name (KIP-345).
    pub instance_id: Option<StrBytes>,
    /// Name of the client.
    pub client_id: StrBytes,
    /// Where it is.
    pub client_host: StrBytes,
    /// Without a heartbeat for so long it is out.
    pub session_timeout: Duration,
    /// So long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect`, or whatever the members share.
    pub protocol_type: StrBytes,
    /// Protocols it supports with its metadata, best first.
    pub protocols: Vec<(StrBytes, Bytes)>,
    /// Whether a first join is refused with an id to come back with (join v4 on, KIP-394).
    pub requires_known_member_id: bool,
}

/// What a member asks its assignment with.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// Its id.
    pub member_id: StrBytes,
    /// Its static name.
    pub instance_id: Option<StrBytes>,
    /// The generation it has joined.
    pub generation: i32,
    /// Type and name of the protocol that it thinks was chosen, where the version says it.
    pub protocol: Option<(StrBytes, StrBytes)>,
    /// What each member is to do: from the leader only.
    pub assignments: Vec<(StrBytes, Bytes)>,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Its id.
    pub id: StrBytes,
    /// Its static name.
    pub instance_id: Option<StrBytes>,
    /// Name of the client.
    pub client_id: StrBytes,
    /// Where it is.
    pub client_host: StrBytes,
    /// See [`JoinRequest::session_timeout`].
    pub session_timeout: Duration,
    /// See [`JoinRequest::rebalance_timeout`].
    pub rebalance_timeout: Duration,
    /// See [`JoinRequest::protocols`].
    pub protocols: Vec<(StrBytes, Bytes)>,
    /// What its leader gave it.
    pub assignment: Bytes,
    /// Out when it has not been heard of by then.
    pub session_deadline: Instant,
    /// Set while it waits for the rebalance.
    pub joining: Option<oneshot::Sender<JoinAnswer>>,
    /// Set while it waits for the leader.
    pub syncing: Option<oneshot::Sender<SyncAnswer>>,
    /// Whether it has synced in this generation.
    pub synced: bool,
}

impl Member {
    /// A member that is joining.
    pub fn new(id: StrBytes, request: &JoinRequest, now: Instant) -> Member {
        let mut member = Member {
            id,
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            session_deadline: now,
            joining: None,
            syncing: None,
            synced: false,
        };
        member.heard_of(now);
        member
    }

    /// Takes what a member says when it joins again.
    pub fn update(&mut self, request: &JoinRequest, now: Instant) {
        self.client_id = request.client_id.clone();
        self.client_host = request.client_host.clone();
        self.session_timeout = request.session_timeout;
        self.rebalance_timeout = request.rebalance_timeout;
        self.protocols = request.protocols.clone();
        self.heard_of(now);
    }

    /// Starts its session timeout anew.
    pub fn heard_of(&mut self, now: Instant) {
        self.session_deadline = now + self.session_timeout;
    }

    /// Whether it waits for an answer of ours: then it is not its turn to be heard of.
    pub fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    /// Whether it supports the protocol.
    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name.as_str() == protocol)
    }

    /// Its metadata of that protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name.as_str() == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Answers its join, if it waits for one.
    pub fn answer_join(&mut self, answer: JoinAnswer) {
        if let Some(joining) = self.joining.take() {
            // A member whose connection is gone does not hear it: its session runs out.
            let _ = joining.send(answer);
        }
    }

    /// Answers its sync, if it waits for one.
    pub fn answer_sync(&mut self, answer: SyncAnswer) {
        if let Some(syncing) = self.syncing.take() {
            let _ = syncing.send(answer);
        }
    }
}
