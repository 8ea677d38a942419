//! Groups from outside: list, describe, delete.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{RequestContext, code};
use crate::groups::group::Group;
use crate::state::Broker;

/// The only type there is: groups of the classic protocol.
const CLASSIC: &str = "classic";

/// All groups, filtered by state and type.
pub fn list(broker: &Broker, request: ListGroupsRequest) -> ListGroupsResponse {
    let matches = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let mut groups = Vec::new();
    broker.groups.for_each(|id, group| {
        let state = group.state().name();
        if matches(&request.states_filter, state) && matches(&request.types_filter, CLASSIC) {
            let listed = ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(id.to_owned())))
                .with_protocol_type(group.protocol_type.clone().unwrap_or_default())
                .with_group_state(StrBytes::from_static_str(state))
                .with_group_type(StrBytes::from_static_str(CLASSIC));
            groups.push(listed);
        }
    });
    ListGroupsResponse::default().with_groups(groups)
}

/// Groups with their members.
pub fn describe(broker: &Broker, context: &RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|group_id| {
        let described = broker.groups.with_group(group_id.as_str(), |group| match group {
            Some(group) => describe_group(group),
            None => {
                let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
                match context.version {
                    6.. => dead
                        .with_error_code(ResponseError::GroupIdNotFound.code())
                        .with_error_message(Some(StrBytes::from_string(format!(
                            "Group {} not found.",
                            group_id.as_str()
                        )))),
                    _ => dead,
                }
            }
        });
        described.with_group_id(group_id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe_group(group: &Group) -> DescribedGroup {
    let protocol = group.protocol.clone().unwrap_or_default();
    let members = group.members().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(member.id.clone())
            .with_group_instance_id(member.instance_id.clone())
            .with_client_id(member.client_id.clone())
            .with_client_host(member.client_host.clone())
            .with_member_metadata(member.metadata(&protocol))
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state().name()))
        .with_protocol_type(group.protocol_type.clone().unwrap_or_default())
        .with_members(members.collect())
        .with_protocol_data(protocol)
}

/// Deletes empty groups with their offsets.
pub fn delete(broker: &Broker, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|group_id| {
        let result = broker.groups.delete(&group_id);
        DeletableGroupResult::default()
            .with_group_id(group_id)
            .with_error_code(code(&result))
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
