//! A worker's place in its group.

use super::command::{NO_LEADER, Refusal};
use crate::cluster::round::Owners;
use std::sync::Arc;

/// A worker's place in its group, between two rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// generation of the group
    pub generation: i32,
    /// whether this worker leads
    pub leads: bool,
    /// URL of the leader, with a slash at the end
    pub leader_url: String,
    /// where everything runs; only the leader knows
    pub owners: Arc<Owners>,
}

impl Position {
    /// Refuses what only the leader may do, with the way to it.
    ///
    /// # Errors
    /// This worker does not lead.
    pub fn require_leader(position: Option<&Position>) -> Result<(), Refusal> {
        match position {
            Some(position) if position.leads => Ok(()),
            Some(position) if !position.leader_url.is_empty() => Err(Refusal::Elsewhere(position.leader_url.clone())),
            _ => Err(Refusal::Conflict(NO_LEADER.to_owned())),
        }
    }

    /// The way to the worker that runs something which this one does not: a follower knows its leader, the leader the
    /// owner.
    pub fn way_to_owner(position: Option<&Position>, owner: impl FnOnce(&Owners) -> Option<&str>) -> Refusal {
        let url = match position {
            Some(position) if position.leads => owner(&position.owners),
            Some(position) => Some(position.leader_url.as_str()),
            None => None,
        };
        match url.filter(|url| !url.is_empty()) {
            Some(url) => Refusal::Elsewhere(url.to_owned()),
            None => Refusal::Conflict(NO_LEADER.to_owned()),
        }
    }
}
