//! Membership of groups: join, sync, heartbeat, leave.

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::{RequestContext, code};
use crate::groups::member::{JoinRefused, JoinRequest, Joined, SyncRequest};
use crate::state::Broker;

fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Joins; the answer comes when the rebalance is through.
pub async fn join(broker: &Broker, context: &RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let rebalance_timeout_ms = match context.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    let protocols = request.protocols.into_iter();
    let join = JoinRequest {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
        session_timeout: milliseconds(request.session_timeout_ms),
        rebalance_timeout: milliseconds(rebalance_timeout_ms),
        protocol_type: request.protocol_type,
        protocols: protocols.map(|protocol| (protocol.name, protocol.metadata)).collect(),
        requires_known_member_id: context.version >= 4,
    };
    let (answer, answered) = oneshot::channel();
    broker.groups.join(request.group_id.as_str(), &join, answer);
    let answer = answered.await.unwrap_or_else(|_| {
        let error = ResponseError::CoordinatorNotAvailable;
        Err(JoinRefused {
            error,
            member_id: join.member_id.clone(),
        })
    });
    match answer {
        Ok(joined) => joined_answer(joined),
        Err(refused) => JoinGroupResponse::default()
            .with_error_code(refused.error.code())
            .with_generation_id(-1)
            .with_protocol_name((context.version < 7).then(StrBytes::default))
            .with_member_id(refused.member_id),
    }
}

fn joined_answer(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.instance_id)
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(joined.protocol_type))
        .with_protocol_name(Some(joined.protocol))
        .with_leader(joined.leader)
        .with_member_id(joined.member_id)
        .with_members(members.collect())
}

/// The member's assignment, once its leader has sent it.
pub async fn sync(broker: &Broker, context: &RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let protocol = request.protocol_type.zip(request.protocol_name);
    let assignments = request.assignments.into_iter();
    let sync = SyncRequest {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
        protocol: protocol.filter(|_| context.version >= 5),
        assignments: assignments.map(|item| (item.member_id, item.assignment)).collect(),
    };
    let (answer, answered) = oneshot::channel();
    broker
        .groups
        .with_group(request.group_id.as_str(), |group| match group {
            Some(group) => group.sync(sync, Instant::now(), answer),
            None => {
                let _ = answer.send(Err(ResponseError::UnknownMemberId));
            }
        });
    let answer = answered.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable));
    match answer {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(synced.protocol_type))
            .with_protocol_name(Some(synced.protocol))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

/// A sign of life.
pub fn heartbeat(broker: &Broker, request: HeartbeatRequest) -> HeartbeatResponse {
    let result = broker.groups.with_group(request.group_id.as_str(), |group| {
        let group = group.ok_or(ResponseError::UnknownMemberId)?;
        group.heartbeat(
            &request.member_id,
            request.group_instance_id.as_ref(),
            request.generation_id,
            Instant::now(),
        )
    });
    HeartbeatResponse::default().with_error_code(code(&result))
}

/// Members go: one before version 3, any number since.
pub fn leave(broker: &Broker, context: &RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let leave = |member_id: &StrBytes, instance_id: Option<&StrBytes>| {
        broker.groups.with_group(request.group_id.as_str(), |group| {
            let group = group.ok_or(ResponseError::UnknownMemberId)?;
            group.leave(member_id, instance_id, Instant::now())
        })
    };
    if context.version < 3 {
        let result = leave(&request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code(&result));
    }
    let members = request.members.iter().map(|member| {
        let result = leave(&member.member_id, member.group_instance_id.as_ref());
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code(&result))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
