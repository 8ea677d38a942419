//! What the shell does for each command.

use super::command::{Command, NO_LEADER, Refusal};
use super::connector::Message;
use super::offsets::change_offsets;
use super::position::Position;
use super::shell::{LAST_STATUSES, Shell};
use crate::cluster::fold::ConnectorState;
use crate::cluster::restart::{RestartPlan, RestartRequest, plan};
use crate::records::config_record::{ConfigRecord, TargetState};
use crate::records::status_table::StatusRecord;
use crate::storage::StorageError;
use connect_api::ConfigMap;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Shell {
    fn require_leader(&self) -> Result<(), Refusal> {
        Position::require_leader(self.position.borrow().as_ref())
    }

    fn connector(&self, name: &str, missing: &str) -> Result<ConnectorState, Refusal> {
        let found = self.cluster.read().connector(name).cloned();
        found.ok_or_else(|| Refusal::NotFound(missing.to_owned()))
    }

    pub(super) async fn carry_out(&mut self, command: Command) {
        // an answer that nobody waits for any more is dropped: the request ran out of its time
        match command {
            Command::PutConnector {
                name,
                config,
                initial,
                create,
                reply,
            } => {
                drop(reply.send(self.put_connector(name, config, initial, create).await));
            }
            Command::DeleteConnector { name, reply } => drop(reply.send(self.delete_connector(name).await)),
            Command::SetTarget { name, target, reply } => drop(reply.send(self.set_target(name, target).await)),
            Command::PublishTasks {
                name,
                made_from,
                tasks,
                reply,
            } => {
                self.publish_tasks(name, made_from, tasks, reply).await;
            }
            Command::RestartConnector { name, reply } => self.restart_connector(&name, reply),
            Command::RestartTask { name, task, reply } => self.restart_task(&name, task, reply),
            Command::PlanRestart { name, request, reply } => drop(reply.send(self.plan_restart(name, request).await)),
            Command::ResetTopics { name, reply } => drop(reply.send(self.reset_topics(&name).await)),
            Command::ChangeOffsets { name, changes, reply } => {
                let leads = self.require_leader();
                let outcome = match self.config.read_to_end().await {
                    _ if leads.is_err() => leads.map(|()| String::new()),
                    Ok(()) => change_offsets(&self.shared, &self.cluster, &*self.offsets, &name, changes).await,
                    Err(error) => Err(failed(error)),
                };
                drop(reply.send(outcome));
            }
            Command::SetClusterLogger {
                namespace,
                level,
                reply,
            } => {
                let written = self.config.write(&[ConfigRecord::Logger(namespace, level)]).await;
                drop(reply.send(written.map_err(failed)));
            }
            Command::Ping { reply } => drop(reply.send(Ok(()))),
        }
    }

    async fn put_connector(
        &self,
        name: String,
        config: ConfigMap,
        initial: Option<TargetState>,
        create: bool,
    ) -> Result<bool, Refusal> {
        self.require_leader()?;
        let exists = self.cluster.read().connector(&name).is_some();
        if exists && create {
            return Err(Refusal::Conflict(format!("Connector {name} already exists")));
        }
        let mut records = Vec::with_capacity(2);
        if let Some(target) = initial.filter(|_| !exists) {
            records.push(ConfigRecord::Target(name.clone(), Some(target)));
        }
        records.push(ConfigRecord::Connector(name, Some(config)));
        self.config
            .write(&records)
            .await
            .map_err(|error| Refusal::Failed(format!("Error writing connector configuration to Kafka: {error}")))?;
        Ok(!exists)
    }

    async fn delete_connector(&self, name: String) -> Result<(), Refusal> {
        self.require_leader()?;
        self.connector(&name, &format!("Connector {name} not found"))?;
        let records = [
            ConfigRecord::Connector(name.clone(), None),
            ConfigRecord::Target(name, None),
        ];
        self.config
            .write(&records)
            .await
            .map_err(|error| Refusal::Failed(format!("Error removing connector configuration from Kafka: {error}")))
    }

    async fn set_target(&self, name: String, target: TargetState) -> Result<(), Refusal> {
        self.connector(&name, &format!("Unknown connector {name}"))?;
        if target == TargetState::Stopped {
            self.require_leader()?;
            self.config.write_tasks(&name, &[]).await.map_err(failed)?;
        }
        self.config
            .write(&[ConfigRecord::Target(name, Some(target))])
            .await
            .map_err(failed)
    }

    async fn publish_tasks(
        &self,
        name: String,
        made_from: Option<ConnectorState>,
        tasks: Vec<ConfigMap>,
        reply: oneshot::Sender<Result<bool, Refusal>>,
    ) {
        match (self.require_leader(), &made_from) {
            (Ok(()), _) => drop(reply.send(self.write_tasks(&name, made_from.as_ref(), &tasks).await)),
            // this worker's own connector: the leader writes for it
            (Err(Refusal::Elsewhere(leader)), Some(_)) => {
                let client = Arc::clone(&self.shared.client);
                tokio::spawn(async move {
                    let sent = client.publish_tasks(&leader, &name, &tasks).await;
                    drop(reply.send(sent.map(|()| true).map_err(Refusal::Failed)));
                });
            }
            (Err(refusal), _) => drop(reply.send(Err(refusal))),
        }
    }

    async fn write_tasks(
        &self,
        name: &str,
        made_from: Option<&ConnectorState>,
        tasks: &[ConfigMap],
    ) -> Result<bool, Refusal> {
        let now = self.connector(name, &format!("Connector {name} not found"));
        let current = match (now, made_from) {
            (Err(_), Some(_)) => false,
            (now, None) => now?.must_publish(tasks),
            (Ok(now), Some(made_from)) => {
                now.incarnation == made_from.incarnation
                    && now.config == made_from.config
                    && now.target == TargetState::Started
                    && now.must_publish(tasks)
            }
        };
        if current {
            self.config.write_tasks(name, tasks).await.map_err(failed)?;
        }
        Ok(current)
    }

    fn restart_connector(&self, name: &str, reply: oneshot::Sender<Result<(), Refusal>>) {
        let refusal = match self.connector(name, &format!("Unknown connector: {name}")) {
            Err(refusal) => refusal,
            Ok(_) if self.shares.get(name).is_some_and(|share| share.connector) => {
                let Err(Message::RestartConnector(reply)) = self.tell(name, Message::RestartConnector(reply)) else {
                    return;
                };
                drop(reply.send(Err(Refusal::NotFound(format!("Unknown connector: {name}")))));
                return;
            }
            Ok(_) => Position::way_to_owner(self.position.borrow().as_ref(), |owners| owners.of_connector(name)),
        };
        drop(reply.send(Err(refusal)));
    }

    fn restart_task(&self, name: &str, task: usize, reply: oneshot::Sender<Result<(), Refusal>>) {
        let refusal = match self.connector(name, &format!("Unknown connector: {name}")) {
            Err(refusal) => Some(refusal),
            Ok(state) if state.target == TargetState::Stopped => Some(Refusal::Conflict(NO_LEADER.to_owned())),
            Ok(state) if task >= state.tasks.len() => Some(Refusal::NotFound(format!("Unknown task: {name}-{task}"))),
            Ok(_) if self.shares.get(name).is_some_and(|share| share.tasks.contains(&task)) => None,
            Ok(_) => Some(Position::way_to_owner(self.position.borrow().as_ref(), |owners| {
                owners.of_task(name, task)
            })),
        };
        match refusal {
            Some(refusal) => drop(reply.send(Err(refusal))),
            None => {
                if let Err(Message::RestartTask(_, reply)) = self.tell(name, Message::RestartTask(task, reply)) {
                    drop(reply.send(Err(Refusal::NotFound(format!("Unknown connector: {name}")))));
                }
            }
        }
    }

    async fn plan_restart(&self, name: String, request: RestartRequest) -> Result<RestartPlan, Refusal> {
        self.connector(&name, &format!("Unknown connector: {name}"))?;
        self.require_leader()?;
        let plan = match self.status.table().read().connector(&name) {
            Some(held) => plan(request, held),
            None => return Err(Refusal::NotFound(format!("Status for connector {name} not found"))),
        };
        if plan.connector || !plan.tasks.is_empty() {
            let RestartRequest {
                include_tasks,
                only_failed,
            } = request;
            let record = ConfigRecord::Restart {
                connector: name,
                include_tasks,
                only_failed,
            };
            self.config.write(&[record]).await.map_err(failed)?;
        }
        Ok(plan)
    }

    async fn reset_topics(&self, name: &str) -> Result<(), Refusal> {
        let topics: Vec<String> = match self.status.table().read().connector(name) {
            Some(held) => held.topics.keys().cloned().collect(),
            None => Vec::new(),
        };
        for topic in topics {
            self.status.put(StatusRecord::Topic(topic, name.to_owned(), None));
        }
        self.status.flush(LAST_STATUSES).await;
        Ok(())
    }
}

fn failed(error: StorageError) -> Refusal {
    Refusal::Failed(error.to_string())
}
