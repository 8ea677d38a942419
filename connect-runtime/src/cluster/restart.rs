//! Restarts with options (KIP-745; contract 1.7): which of a connector's parts are restarted. Pure.

use crate::records::status_table::{ConnectorStatuses, State};

/// What somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartRequest {
    /// whether tasks are restarted too
    pub include_tasks: bool,
    /// whether only what has failed is restarted
    pub only_failed: bool,
}

impl RestartRequest {
    /// Of several pending requests the one that restarts more is carried out.
    fn rank(self) -> u8 {
        match (self.only_failed, self.include_tasks) {
            (true, false) => 0,
            (true, true) => 1,
            (false, false) => 2,
            (false, true) => 3,
        }
    }

    /// The one of two that restarts more.
    pub fn larger(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }
}

/// What is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPlan {
    /// the connector itself
    pub connector: bool,
    /// tasks by number
    pub tasks: Vec<usize>,
}

/// The plan for `request`, from the statuses of the connector.
pub fn plan(request: RestartRequest, statuses: &ConnectorStatuses) -> RestartPlan {
    let wanted = |state: State| !request.only_failed || state == State::Failed;
    RestartPlan {
        connector: statuses.connector.as_ref().is_some_and(|status| wanted(status.state)),
        tasks: statuses
            .tasks
            .iter()
            .filter(|(_, status)| request.include_tasks && wanted(status.state))
            .map(|(task, _)| *task)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::status_table::Status;

    fn statuses(connector: State, tasks: &[State]) -> ConnectorStatuses {
        let status = |state| Status {
            state,
            trace: None,
            worker_id: "h:1".to_owned(),
            generation: 1,
            version: None,
        };
        ConnectorStatuses {
            connector: Some(status(connector)),
            tasks: tasks.iter().map(|state| status(*state)).enumerate().collect(),
            ..ConnectorStatuses::default()
        }
    }

    fn request(include_tasks: bool, only_failed: bool) -> RestartRequest {
        RestartRequest {
            include_tasks,
            only_failed,
        }
    }

    #[test]
    fn only_what_failed_and_only_what_was_asked_for() {
        let statuses = statuses(State::Running, &[State::Failed, State::Running]);
        let plan = |include_tasks, only_failed| super::plan(request(include_tasks, only_failed), &statuses);
        assert_eq!(
            plan(true, true),
            RestartPlan {
                connector: false,
                tasks: vec![0]
            }
        );
        assert_eq!(
            plan(true, false),
            RestartPlan {
                connector: true,
                tasks: vec![0, 1]
            }
        );
        assert_eq!(
            plan(false, true),
            RestartPlan {
                connector: false,
                tasks: vec![]
            }
        );
        assert_eq!(
            plan(false, false),
            RestartPlan {
                connector: true,
                tasks: vec![]
            }
        );
    }

    #[test]
    fn the_larger_request_wins() {
        let order = [
            request(false, true),
            request(true, true),
            request(false, false),
            request(true, false),
        ];
        for (index, smaller) in order.iter().enumerate() {
            for larger in &order[index..] {
                assert_eq!(smaller.larger(*larger), *larger);
                assert_eq!(larger.larger(*smaller), *larger);
            }
        }
    }
}
