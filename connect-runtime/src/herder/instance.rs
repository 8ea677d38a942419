//! The connector object, where this worker runs it.

use super::command::Command;
use super::connector::{ConnectorActor, Desired, Message};
use super::isolation::isolated;
use crate::cluster::fold::ConnectorState;
use crate::cluster::task_configs::{enforce_maximum, tasks_max, to_publish};
use crate::records::config_record::TargetState;
use crate::records::status_table::State;
use connect_api::{ConfigMap, ConnectError, Connector, ConnectorContext};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

const START_DEADLINE: Duration = Duration::from_secs(30);
const TASK_CONFIGS_DEADLINE: Duration = Duration::from_secs(30);
/// As upstream's.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What the connector object is doing.
pub(super) enum Instance {
    /// it is not this worker's
    Elsewhere,
    /// there is none, or none yet
    Absent,
    /// it watches its source or sink
    Running(Box<dyn Connector>),
    /// it is not to run now
    Idle(TargetState),
    /// it failed and waits for a restart, another configuration or a stop
    Failed,
}

impl ConnectorActor {
    pub(super) async fn reconcile_instance(&mut self, desired: &Desired) {
        let Desired { state, share, .. } = desired;
        if !share.connector {
            return self.give_up_instance().await;
        }
        if self.config.as_ref() != Some(&state.config) && !matches!(self.instance, Instance::Elsewhere) {
            self.stop_instance().await;
            self.instance = Instance::Absent;
        }
        let missing = matches!(self.instance, Instance::Elsewhere | Instance::Absent);
        if missing && !share.start {
            return;
        }
        self.config = Some(Arc::clone(&state.config));
        if let Ok(plugin) = self.shared.plugin_of(&state.config) {
            self.version = plugin.version();
        }
        match (state.target, &self.instance) {
            (TargetState::Started, Instance::Elsewhere | Instance::Absent | Instance::Idle(_)) => {
                self.start_instance(state).await;
            }
            (TargetState::Paused, Instance::Failed | Instance::Idle(TargetState::Paused | TargetState::Started)) => {}
            (TargetState::Paused, _) => self.idle(TargetState::Paused, State::Paused).await,
            (TargetState::Stopped, Instance::Idle(TargetState::Stopped)) => {}
            (TargetState::Stopped, _) => self.idle(TargetState::Stopped, State::Stopped).await,
            // task records without their commit, as a leader that died leaves them: asked for again
            (TargetState::Started, Instance::Running(_)) => self.generate |= state.inconsistent && self.retry.is_none(),
            (TargetState::Started, Instance::Failed) => {}
        }
    }

    async fn give_up_instance(&mut self) {
        if matches!(self.instance, Instance::Elsewhere) {
            return;
        }
        self.stop_instance().await;
        self.instance = Instance::Elsewhere;
        self.shared
            .statuses
            .connector(&self.name, State::Unassigned, None, self.version);
    }

    async fn idle(&mut self, target: TargetState, status: State) {
        self.stop_instance().await;
        self.instance = Instance::Idle(target);
        self.shared.statuses.connector(&self.name, status, None, self.version);
    }

    async fn start_instance(&mut self, state: &ConnectorState) {
        self.instance = Instance::Absent;
        let released = released(self.desired.clone(), STOP_DEADLINE);
        let started = tokio::select! {
            started = self.try_start(state) => started,
            () = released => {
                tracing::warn!(connector = %self.name, "connector is still starting while it moves to another worker, and is left to itself");
                return;
            }
        };
        match started {
            Ok(connector) => {
                self.shared.counters.connector_successes.fetch_add(1, Ordering::Relaxed);
                self.instance = Instance::Running(connector);
                self.generate = true;
                self.shared
                    .statuses
                    .connector(&self.name, State::Running, None, self.version);
            }
            Err(error) => {
                self.shared.counters.connector_failures.fetch_add(1, Ordering::Relaxed);
                self.fail(&error);
            }
        }
    }

    async fn try_start(&mut self, state: &ConnectorState) -> Result<Box<dyn Connector>, ConnectError> {
        let plugin = self.shared.plugin_of(&state.config)?;
        no_nulls(&state.config)?;
        let config = self.shared.resolve(&state.config).await?;
        let (reconfigure, raise) = (self.own_inbox.clone(), self.own_inbox.clone());
        let context = ConnectorContext {
            connector: Arc::clone(&self.name),
            config,
            // an actor that has ended needs no word from its connector
            request_task_reconfiguration: Arc::new(move || drop(reconfigure.send(Message::Reconfigure))),
            raise_error: Arc::new(move |error| drop(raise.send(Message::Raised(error)))),
        };
        isolated(
            format!("starting connector {}", self.name),
            START_DEADLINE,
            move || async move {
                let mut connector = plugin.connector();
                connector.start(context).await.map(|()| connector)
            },
        )
        .await
    }

    pub(super) async fn stop_instance(&mut self) {
        self.retry = None;
        self.generate = false;
        if let Instance::Running(mut connector) = std::mem::replace(&mut self.instance, Instance::Absent) {
            let stopped = isolated(
                format!("stopping connector {}", self.name),
                STOP_DEADLINE,
                move || async move {
                    connector.stop().await;
                    Ok(())
                },
            );
            if let Err(error) = stopped.await {
                tracing::warn!(connector = %self.name, %error, "connector was not stopped cleanly");
            }
        }
    }

    /// Stops the connector object, and starts it again unless it is to be paused or stopped.
    pub(super) async fn restart_instance(&mut self) {
        self.stop_instance().await;
        self.instance = Instance::Absent;
        let desired = self.desired.borrow().clone();
        if let Some(desired) = desired {
            self.reconcile_instance(&desired).await;
        }
    }

    pub(super) fn fail(&mut self, error: &ConnectError) {
        tracing::error!(connector = %self.name, %error, "connector has failed");
        self.instance = Instance::Failed;
        self.retry = None;
        self.shared
            .statuses
            .connector(&self.name, State::Failed, Some(error.trace()), self.version);
    }

    /// Asks the connector for its tasks, and has them written if they are others than those in force.
    pub(super) async fn publish_tasks(&mut self, state: &ConnectorState) {
        let Instance::Running(connector) = std::mem::replace(&mut self.instance, Instance::Absent) else {
            return;
        };
        self.instance = match self.generate_tasks(state, connector).await {
            (Some(connector), Ok(())) => {
                self.retry = None;
                Instance::Running(connector)
            }
            (Some(connector), Err(error)) if error.java_class().ends_with("TooManyTasksException") => {
                self.instance = Instance::Running(connector);
                self.stop_instance().await;
                return self.fail(&error);
            }
            (Some(connector), Err(error)) => {
                let delay = self
                    .retry
                    .map_or(FIRST_RETRY, |(_, last)| (last * 2).min(LONGEST_RETRY));
                tracing::error!(connector = %self.name, %error, delay_ms = delay.as_millis(), "tasks could not be configured, trying again");
                self.retry = Some((Instant::now() + delay, delay));
                Instance::Running(connector)
            }
            (None, outcome) => {
                let here = self
                    .desired
                    .borrow()
                    .as_ref()
                    .is_some_and(|desired| desired.share.connector);
                if !here {
                    return;
                }
                let lost = || ConnectError::fatal("the connector was lost while its tasks were configured");
                return self.fail(&outcome.err().unwrap_or_else(lost));
            }
        };
    }

    async fn generate_tasks(
        &mut self,
        state: &ConnectorState,
        connector: Box<dyn Connector>,
    ) -> (Option<Box<dyn Connector>>, Result<(), ConnectError>) {
        let prepared = async {
            let plugin = self.shared.plugin_of(&state.config)?;
            Ok::<_, ConnectError>((plugin, self.shared.resolve(&state.config).await?))
        };
        let (plugin, resolved) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return (Some(connector), Err(error)),
        };
        let maximum = tasks_max(&resolved);
        let doing = format!("configuring the tasks of connector {}", self.name);
        let generated = isolated(doing, TASK_CONFIGS_DEADLINE, move || async move {
            let tasks = connector.task_configs(maximum);
            Ok((connector, tasks))
        });
        let generated = tokio::select! {
            generated = generated => generated,
            () = released(self.desired.clone(), STOP_DEADLINE) => Err(ConnectError::retriable("the connector moves to another worker")),
        };
        let (connector, tasks) = match generated {
            Ok((connector, Ok(tasks))) => (connector, tasks),
            Ok((connector, Err(error))) => return (Some(connector), Err(error)),
            Err(error) => return (None, Err(error)),
        };
        if let Err(error) = enforce_maximum(&self.name, &resolved, tasks.len()) {
            return (Some(connector), Err(error));
        }
        let tasks = to_publish(&*plugin, &state.config, &resolved, tasks);
        let outcome = match state.must_publish(&tasks) {
            true => self.send_tasks(state, tasks).await,
            false => Ok(()),
        };
        (Some(connector), outcome)
    }

    async fn send_tasks(&mut self, state: &ConnectorState, tasks: Vec<ConfigMap>) -> Result<(), ConnectError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::PublishTasks {
            name: self.name.to_string(),
            made_from: Some(state.clone()),
            tasks,
            reply,
        };
        let stopping = || ConnectError::retriable("the worker is stopping");
        self.shared.commands.send(command).await.map_err(|_| stopping())?;
        let answer = tokio::select! {
            answer = answer => answer.map_err(|_| stopping())?,
            () = released(self.desired.clone(), Duration::ZERO) => return Ok(()),
        };
        match answer {
            // not written because the connector has changed meanwhile: the new state is on its way here
            Ok(_) => Ok(()),
            Err(refusal) => Err(ConnectError::retriable(refusal.message())),
        }
    }
}

/// A connector's own options may be null in a request; none knows what that would mean. The beginning is upstream's text.
fn no_nulls(config: &ConfigMap) -> Result<(), ConnectError> {
    match config.iter().find(|(_, value)| value.is_none()) {
        None => Ok(()),
        Some((name, _)) => Err(ConnectError::config(format!(
            "Non-string value found in original settings for key {name}: null; give it a value, or leave it out"
        ))),
    }
}

/// Completes when the connector is no longer to run here, and has had `grace` to notice.
async fn released(mut desired: watch::Receiver<Option<Desired>>, grace: Duration) {
    let elsewhere = |desired: &Option<Desired>| !desired.as_ref().is_some_and(|desired| desired.share.connector);
    // an error means that the herder has ended
    if desired.wait_for(elsewhere).await.is_ok() {
        tokio::time::sleep(grace).await;
    }
}
