//! The thin shell around the pure parts: one loop that carries out commands, one after the other, hands changes of the
//! cluster's state to the connectors' actors, and does what the group says. It waits for the config topic, with
//! deadlines, and for nothing else.

use super::command::Command;
use super::connector::{self, ActorHandle, Desired, Message};
use super::herder::Shared;
use super::position::Position;
use crate::cluster::fold::{Change, ClusterState};
use crate::cluster::restart::RestartRequest;
use crate::cluster::round::{Dealt, Owners};
use crate::cluster::share::Shares;
use crate::logging::Loggers;
use crate::membership::Member;
use crate::membership::machine::Notice;
use crate::storage::{ConfigTopic, OffsetStore, StatusTopic};
use parking_lot::RwLock;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Time for writing the last statuses when work is given up.
pub(super) const LAST_STATUSES: Duration = Duration::from_secs(5);

/// The same where Kafka cannot be reached.
const UNREACHABLE: Duration = Duration::from_millis(500);

/// What a shell is made of.
pub(super) struct ShellParts {
    pub(super) shared: Arc<Shared>,
    pub(super) cluster: Arc<RwLock<ClusterState>>,
    pub(super) config: ConfigTopic,
    pub(super) status: Arc<StatusTopic>,
    pub(super) offsets: Arc<dyn OffsetStore>,
    pub(super) loggers: Loggers,
    pub(super) member: Member,
    pub(super) position: watch::Sender<Option<Position>>,
    pub(super) joined: Arc<AtomicBool>,
}

pub(super) struct Shell {
    pub(super) shared: Arc<Shared>,
    pub(super) cluster: Arc<RwLock<ClusterState>>,
    pub(super) config: ConfigTopic,
    pub(super) status: Arc<StatusTopic>,
    pub(super) offsets: Arc<dyn OffsetStore>,
    loggers: Loggers,
    pub(super) member: Member,
    pub(super) position: watch::Sender<Option<Position>>,
    /// set when the worker is in its group for the first time
    pub(super) joined: Arc<AtomicBool>,
    /// what this worker runs
    pub(super) shares: Shares,
    /// what the round under way, or the last one, was dealt from, if this worker dealt it
    pub(super) dealt: Option<Dealt>,
    /// where everything runs, if this worker dealt it
    pub(super) owners: Arc<Owners>,
    pub(super) actors: HashMap<String, ActorHandle>,
    /// URLs of Java workers that were warned of
    pub(super) java_workers: BTreeSet<String>,
    version: u64,
}

impl Shell {
    pub(super) fn new(parts: ShellParts) -> Self {
        Self {
            shared: parts.shared,
            cluster: parts.cluster,
            config: parts.config,
            status: parts.status,
            offsets: parts.offsets,
            loggers: parts.loggers,
            member: parts.member,
            position: parts.position,
            joined: parts.joined,
            shares: Shares::new(),
            dealt: None,
            owners: Arc::default(),
            actors: HashMap::new(),
            java_workers: BTreeSet::new(),
            version: 0,
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut changes: mpsc::UnboundedReceiver<Change>,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut stopping: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        loop {
            tokio::select! {
                biased;
                stop = &mut stopping => {
                    drop(commands);
                    self.stop().await;
                    if let Ok(done) = stop {
                        // nobody waits any more
                        let _ = done.send(());
                    }
                    return;
                }
                Some(notice) = notices.recv() => self.follow(notice).await,
                Some(change) = changes.recv() => self.hand_on(change),
                Some(command) = commands.recv() => self.carry_out(command).await,
            }
        }
    }

    fn hand_on(&mut self, change: Change) {
        match change {
            Change::Connector(name) => {
                self.update_actor(&name);
                self.ask_for_a_round();
            }
            Change::Restart {
                connector,
                include_tasks,
                only_failed,
            } => {
                let request = RestartRequest {
                    include_tasks,
                    only_failed,
                };
                // a connector that is gone has nothing to restart
                let _ = self.tell(&connector, Message::Restart(request));
            }
            Change::Logger { namespace, level } => {
                if let Err(error) = self.loggers.set(&namespace, &level) {
                    tracing::warn!(%namespace, %level, %error, "level of a logger could not be set");
                }
            }
            Change::SessionKey => {}
        }
    }

    /// Hands the connector's state and this worker's share of it to its actor; starts one for a share that is new, ends
    /// that of a deleted connector.
    pub(super) fn update_actor(&mut self, name: &str) {
        self.version += 1;
        let state = self.cluster.read().connector(name).cloned();
        let share = self.shares.get(name).cloned().unwrap_or_default();
        let has_share = share.connector || !share.tasks.is_empty();
        let desired = state.map(|state| Desired {
            state,
            share,
            version: self.version,
        });
        match (self.actors.remove(name), desired) {
            (Some(actor), Some(desired)) if actor.incarnation == desired.state.incarnation => {
                actor.desired.send_replace(Some(desired));
                self.actors.insert(name.to_owned(), actor);
            }
            (predecessor, Some(desired)) if has_share => {
                let predecessor = predecessor.map(|actor| actor.ended().task);
                let actor = connector::spawn(Arc::clone(&self.shared), name.into(), desired, predecessor);
                self.actors.insert(name.to_owned(), actor);
            }
            (Some(actor), _) => {
                // kept, so that a connector of the same name waits for it; it ends by itself
                self.actors.insert(name.to_owned(), actor.ended());
                self.actors.retain(|_, actor| !actor.task.is_finished());
            }
            (None, _) => {}
        }
    }

    /// As `update_actor`, of every connector that has an actor or is to have one.
    pub(super) fn update_actors(&mut self) {
        let mut names: Vec<String> = self.actors.keys().chain(self.shares.keys()).cloned().collect();
        names.sort();
        names.dedup();
        for name in names {
            self.update_actor(&name);
        }
    }

    /// Completes when what runs is what is desired now.
    pub(super) fn settles(&self) -> impl Future<Output = ()> + use<> {
        let settles: Vec<_> = self.actors.values().map(ActorHandle::settles).collect();
        async move {
            futures::future::join_all(settles).await;
        }
    }

    pub(super) fn tell(&self, connector: &str, message: Message) -> Result<(), Message> {
        match self.actors.get(connector) {
            Some(actor) => actor.inbox.send(message).map_err(|unsent| unsent.0),
            None => Err(message),
        }
    }

    async fn stop(mut self) {
        self.position.send_replace(None);
        self.shares.clear();
        self.update_actors();
        self.settles().await;
        let actors = std::mem::take(&mut self.actors);
        let ends = actors.into_values().map(|actor| {
            // all of it is stopped; an actor that nobody tells what to do ends
            drop(actor.desired);
            actor.task
        });
        futures::future::join_all(ends).await;
        // without Kafka nothing can be written, however long it is tried
        let limit = match self.member.reaches_its_coordinator() {
            true => LAST_STATUSES,
            false => UNREACHABLE,
        };
        self.status.flush(limit).await;
        self.status.stop(limit).await;
        self.member.leave().await;
        self.config.stop().await;
    }
}
