//! Requests of the group protocol, over one connection to the group's coordinator.

use super::machine::{Answer, Joined, Request};
use bytes::Bytes;
use kafka_client::{ClientConfig, KafkaError, RawConnection, host_and_port};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

const PROTOCOL_TYPE: &str = "connect";
/// The eager protocol (contract 3.1).
const EAGER: &str = "default";
/// What a join or sync may take beyond the rebalance, as in Java.
const REBALANCE_GRACE: Duration = Duration::from_secs(5);

/// How the group is reached and what it is told.
#[derive(Clone)]
pub struct GroupSettings {
    /// `group.id`
    pub group: String,
    /// `bootstrap.servers`
    pub bootstrap: Vec<String>,
    /// the worker's own client settings
    pub client: ClientConfig,
    /// `session.timeout.ms`
    pub session_timeout: Duration,
    /// `rebalance.timeout.ms`
    pub rebalance_timeout: Duration,
    /// `request.timeout.ms`
    pub request_timeout: Duration,
    /// `group.membership.enable`: without it the worker is answered as the only member of a group would be
    pub membership: bool,
}

/// The connection, made anew after every failure.
pub(super) struct Coordinator {
    settings: GroupSettings,
    connection: Option<RawConnection>,
    /// of a worker without a group
    generation: i32,
}

impl Coordinator {
    pub(super) fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            connection: None,
            generation: 0,
        }
    }

    /// Sends a request and waits for its answer, within the time that its kind may take. `metadata` is this member's.
    pub(super) async fn send(&mut self, request: Request, metadata: Bytes) -> Answer {
        if !self.settings.membership {
            return self.alone(request, metadata);
        }
        let limit = match request {
            Request::Join { .. } | Request::Sync { .. } => self.settings.rebalance_timeout + REBALANCE_GRACE,
            _ => self.settings.request_timeout.min(self.settings.session_timeout),
        };
        let doing = request_name(&request);
        let answer = match tokio::time::timeout(limit, self.exchange(request, metadata)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(group = %self.settings.group, request = doing, %error, "the group's coordinator cannot be reached");
                Answer::Unreachable
            }
            Err(_) => {
                tracing::warn!(group = %self.settings.group, request = doing, after_ms = limit.as_millis(), "the group's coordinator does not answer");
                Answer::Unreachable
            }
        };
        if answer == Answer::Unreachable {
            self.connection = None;
        }
        answer
    }

    async fn exchange(&mut self, request: Request, metadata: Bytes) -> Result<Answer, KafkaError> {
        if request == Request::FindCoordinator {
            return self.find().await;
        }
        let group = GroupId(text(&self.settings.group));
        let connection = match &self.connection {
            Some(connection) => connection,
            None => return Ok(Answer::Unreachable),
        };
        match request {
            Request::FindCoordinator => Ok(Answer::Unreachable),
            Request::Join { member } => {
                if member.is_empty()
                    && let Err(error) = warn_of_another_protocol(connection, &self.settings.group).await
                {
                    // Joining itself tells what is wrong with the connection.
                    tracing::debug!(group = %self.settings.group, error = %error, "the group's protocol is not known");
                }
                let protocol = JoinGroupRequestProtocol::default()
                    .with_name(text(EAGER))
                    .with_metadata(metadata);
                let request = JoinGroupRequest::default()
                    .with_group_id(group)
                    .with_session_timeout_ms(millis(self.settings.session_timeout))
                    .with_rebalance_timeout_ms(millis(self.settings.rebalance_timeout))
                    .with_member_id(text(&member))
                    .with_protocol_type(text(PROTOCOL_TYPE))
                    .with_protocols(vec![protocol]);
                let version = connection.version::<JoinGroupRequest>(7)?;
                let answer = connection.call(&request, version).await?;
                if answer.error_code != 0 {
                    return Ok(refused(answer.error_code, &answer.member_id));
                }
                let members = answer.members.into_iter();
                Ok(Answer::Joined(Joined {
                    member: answer.member_id.to_string(),
                    generation: answer.generation_id,
                    leader: answer.leader.to_string(),
                    members: members
                        .map(|member| (member.member_id.to_string(), member.metadata))
                        .collect(),
                }))
            }
            Request::Sync {
                member,
                generation,
                assignments,
            } => {
                let assignments = assignments.into_iter().map(|(member, assignment)| {
                    SyncGroupRequestAssignment::default()
                        .with_member_id(text(&member))
                        .with_assignment(assignment)
                });
                let mut request = SyncGroupRequest::default()
                    .with_group_id(group)
                    .with_generation_id(generation)
                    .with_member_id(text(&member))
                    .with_assignments(assignments.collect());
                let version = connection.version::<SyncGroupRequest>(5)?;
                if version >= 5 {
                    request = request
                        .with_protocol_type(Some(text(PROTOCOL_TYPE)))
                        .with_protocol_name(Some(text(EAGER)));
                }
                let answer = connection.call(&request, version).await?;
                Ok(match answer.error_code {
                    0 => Answer::Synced(answer.assignment),
                    code => refused(code, ""),
                })
            }
            Request::Heartbeat { member, generation } => {
                let request = HeartbeatRequest::default()
                    .with_group_id(group)
                    .with_generation_id(generation)
                    .with_member_id(text(&member));
                let version = connection.version::<HeartbeatRequest>(4)?;
                Ok(done(connection.call(&request, version).await?.error_code))
            }
            Request::Leave { member } => {
                let version = connection.version::<LeaveGroupRequest>(4)?;
                let request = LeaveGroupRequest::default().with_group_id(group);
                let request = match version {
                    0..=2 => request.with_member_id(text(&member)),
                    _ => request.with_members(vec![MemberIdentity::default().with_member_id(text(&member))]),
                };
                Ok(done(connection.call(&request, version).await?.error_code))
            }
        }
    }

    /// Asks the bootstrap servers, one after the other, and connects to the coordinator that they name.
    async fn find(&mut self) -> Result<Answer, KafkaError> {
        self.connection = None;
        let mut last = Ok(Answer::Unreachable);
        for server in &self.settings.bootstrap {
            last = self.find_through(server).await.map(|(answer, connection)| {
                self.connection = connection;
                answer
            });
            if matches!(last, Ok(Answer::Found)) {
                break;
            }
        }
        last
    }

    async fn find_through(&self, server: &str) -> Result<(Answer, Option<RawConnection>), KafkaError> {
        let asked = RawConnection::connect_with(server, &self.settings.client).await?;
        let request = FindCoordinatorRequest::default()
            .with_key(text(&self.settings.group))
            .with_key_type(0);
        let version = asked.version::<FindCoordinatorRequest>(3)?;
        let answer = asked.call(&request, version).await?;
        if answer.error_code != 0 {
            return Ok((refused(answer.error_code, ""), None));
        }
        let address = host_and_port(&answer.host, answer.port);
        let connection = RawConnection::connect_with(&address, &self.settings.client).await?;
        tracing::info!(group = %self.settings.group, coordinator = %address, "found the group's coordinator");
        Ok((Answer::Found, Some(connection)))
    }

    /// The answers of a group that nobody else can join.
    fn alone(&mut self, request: Request, metadata: Bytes) -> Answer {
        const ALONE: &str = "alone";
        match request {
            Request::FindCoordinator => {
                tracing::warn!(group = %self.settings.group, "group.membership.enable is false: this must be the only worker of its group");
                Answer::Found
            }
            Request::Join { .. } => {
                self.generation += 1;
                Answer::Joined(Joined {
                    member: ALONE.to_owned(),
                    generation: self.generation,
                    leader: ALONE.to_owned(),
                    members: vec![(ALONE.to_owned(), metadata)],
                })
            }
            Request::Sync { assignments, .. } => {
                let own = assignments.into_iter().next().map(|(_, assignment)| assignment);
                own.map_or(Answer::Unreachable, Answer::Synced)
            }
            Request::Heartbeat { .. } | Request::Leave { .. } => Answer::Done,
        }
    }

    /// A call was given up: its answer would be taken for that of the next.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }
}

/// Says what comes of joining a group that speaks another protocol than the eager one. A worker that offers more than that
/// one is told nothing of what it loses when the group falls back to it, and goes on running it.
async fn warn_of_another_protocol(connection: &RawConnection, group: &str) -> Result<(), KafkaError> {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    let version = connection.version::<DescribeGroupsRequest>(4)?;
    let answer = connection.call(&request, version).await?;
    for found in &answer.groups {
        let protocol = found.protocol_data.as_str();
        if matches!(protocol, "compatible" | "sessioned") && !found.members.is_empty() {
            tracing::warn!(
                %group,
                %protocol,
                members = found.members.len(),
                "the group has workers with connect.protocol={protocol}: set it to eager on each of them and restart them; \
                 until then they go on running what the group takes from them, and their sources write everything twice"
            );
        }
    }
    Ok(())
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn refused(code: i16, member: &str) -> Answer {
    Answer::Refused {
        code,
        member: member.to_owned(),
    }
}

fn done(code: i16) -> Answer {
    match code {
        0 => Answer::Done,
        code => refused(code, ""),
    }
}

fn request_name(request: &Request) -> &'static str {
    match request {
        Request::FindCoordinator => "FindCoordinator",
        Request::Join { .. } => "JoinGroup",
        Request::Sync { .. } => "SyncGroup",
        Request::Heartbeat { .. } => "Heartbeat",
        Request::Leave { .. } => "LeaveGroup",
    }
}
