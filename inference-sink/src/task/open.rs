//! Opening a task: layout, fencing, changelog topics, restore, and where to read each partition.

use super::output_topics::OutputTopics;
use super::partition::{PROGRESS, PartitionState};
use super::quiet::QuietInput;
use super::restore::{restore, state_error};
use super::stored_row::StoredRow;
use super::topic_names::{changelog_topic, features_topic, sharer};
use super::topology::{ServingModel, StoreSlot, Topology};
use super::{Open, TaskModel};
use crate::barrier::Committer;
use crate::connector::ConnectorOptions;
use crate::detach::LogReader;
use crate::expiry::Archiver;
use crate::failure::{failed, kafka_failure};
use crate::flow::{Outbox, RowBlock};
use crate::limits::RateLimit;
use crate::metrics::Metrics;
use crate::output::{OutputSender, writer_config};
use crate::registry::{Kind, Layout, RecordKey};
use crate::service::{Started, client_config};
use crate::trigger::BatchTrigger;
use connect_api::delivery::TopicPartition;
use connect_api::error::{ConnectError, ErrorKind};
use connect_api::partitioned::{PartitionedTaskContext, StartAt};
use feature_engine::resource::Trigger;
use kafka_client::{Admin, ErrorCode, KafkaError, NewTopic, TopicChange, TopicIdentity};
use state_store::{KeyedPartition, KeyedSpec, StateValue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

impl Open {
    #[allow(clippy::same_name_method, clippy::self_named_constructors)] // `PartitionedSinkTask::open` is what it does
    pub(super) fn open(
        started: Arc<Started>,
        metrics: Arc<Metrics>,
        context: PartitionedTaskContext,
        options: ConnectorOptions,
        owned: &[TopicPartition],
    ) -> Result<(Open, Vec<(TopicPartition, StartAt)>), ConnectError> {
        let topics: Arc<[Arc<str>]> = crate::connector::topics(&context.config)
            .into_iter()
            .map(Arc::from)
            .collect::<Vec<_>>()
            .into();
        if let Some((model, error)) = started.deployment().awaited(&topics) {
            return Err(ConnectError::retriable(format!(
                "model {model} cannot be loaded yet: {error}"
            )));
        }
        let admin = Admin::new(&client_config(&context.clients.admin)?).map_err(failed("admin client"))?;
        let inputs = describe_inputs(&started, &admin, &topics)?;
        let counts: BTreeMap<String, i32> = inputs
            .iter()
            .map(|topic| (topic.name.to_string(), topic.partitions))
            .collect();
        let partition_count = counts.values().copied().max().unwrap_or(0);
        let layout = agree_on_layout(&started, &context, &counts)?;
        let earlier = layout.earlier_ids(&context.group_id, &context.connector);
        if !earlier.is_empty() {
            started
                .runtime
                .block_on(admin.fence_producers(&earlier))
                .map_err(failed("fence tasks of earlier layouts"))?;
        }
        crash_point::reached("open.layout_agreed");
        let transactional_id = layout.transactional_id(&context.group_id, &context.connector, context.task);
        let on_waiting = waiting_in(&started, &context);
        let refused = |error| no_writer(&started, &admin, &context, &transactional_id, &error);
        let committer = Committer::start(
            &context,
            &transactional_id,
            inputs,
            metrics.clone(),
            on_waiting,
            refused,
        )?;
        crash_point::reached("open.producer_initialised");
        let sender = match options.exactly_once {
            true => None,
            false => {
                let mut config = writer_config(&context.clients.producer)?;
                config.unset("transactional.id");
                let name = format!("{}-{}", context.connector, context.task);
                Some(OutputSender::start(&config, &name).map_err(failed("output producer"))?)
            }
        };
        let features_topic: Arc<str> = features_topic(&context.connector).into();
        let outbox = Arc::new(Outbox::new(topics.clone(), sender, context.wake.clone()));
        let mut open = Open {
            log_reader: LogReader::new(features_topic, client_config(&context.clients.consumer)?),
            log_ends: BTreeMap::new(),
            log_retention_ms: None,
            candidates: BTreeSet::new(),
            refusals: super::refusals::Refusals::default(),
            output_topics: OutputTopics::default(),
            metrics,
            options,
            partition_count,
            partitions: BTreeMap::new(),
            topology: Topology::default(),
            models: Vec::new(),
            limits: BTreeMap::new(),
            outbox,
            committer,
            in_flight: None,
            made: Vec::new(),
            shed: Vec::new(),
            changed: false,
            dead_letters: 0,
            view_letters: 0,
            view_letters_from: None,
            last_barrier: Instant::now(),
            durable: None,
            rewind: None,
            full: false,
            publish_modes: false,
            last_expiry: Instant::now(),
            last_store_look: Instant::now(),
            quiet: None,
            topics,
            context,
            started,
        };
        let mut numbers: Vec<i32> = owned.iter().map(|partition| partition.partition).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if open.options.idle_after_ms.is_some() {
            open.quiet = Some(QuietInput::new(&open.context, &open.topics, &numbers)?);
        }
        open.wait_for_global_stores()?;
        let topology = open.compile();
        let progress = open.open_store(&admin, &numbers, PROGRESS, None, false)?;
        let mut stores = open.open_stores(&admin, &numbers, &topology.stores)?;
        for (number, progress) in progress {
            let own: Vec<_> = stores.iter_mut().filter_map(|store| store.remove(&number)).collect();
            check_progress(&progress, &own)?;
            let group = &open.context.group_id;
            let state = PartitionState::new(group, progress, own, &open.topics, open.options.idle_after_ms)
                .map_err(|error| ConnectError::config(format!("progress of partition {number}: {error}")))?;
            open.partitions.insert(number, state);
        }
        open.make_feature_log(&admin, &numbers)?;
        open.install(topology)?;
        open.open_archivers()?;
        open.assume_log_ends();
        open.decide_starts(&admin, owned)?;
        crash_point::reached("open.restored");
        let starts = owned
            .iter()
            .map(|partition| (partition.clone(), open.start_of(partition)))
            .collect();
        Ok((open, starts))
    }

    fn start_of(&self, partition: &TopicPartition) -> StartAt {
        let topic = self.topics.iter().position(|topic| *topic == partition.topic);
        let position = topic.and_then(|topic| self.partitions.get(&partition.partition)?.position(topic));
        position.map_or(StartAt::Beginning, StartAt::Offset)
    }

    /// Decides where partitions begin that nothing was committed of, as `auto.offset.reset` says. From then on that is their
    /// position, whatever becomes of the topic's ends: a commit that fails leads back there and nowhere else.
    fn decide_starts(&mut self, admin: &Admin, owned: &[TopicPartition]) -> Result<(), ConnectError> {
        let settings = &self.context.clients.consumer;
        let reset = settings
            .get("auto.offset.reset")
            .map(|reset| reset.trim().to_ascii_lowercase());
        let fresh: Vec<kafka_client::TopicPartition> = owned
            .iter()
            .filter(|partition| self.start_of(partition) == StartAt::Beginning)
            .map(|partition| kafka_client::TopicPartition::new(partition.topic.clone(), partition.partition))
            .collect();
        let Some(first) = fresh.first() else { return Ok(()) };
        let runtime = &self.started.runtime;
        let isolation = kafka_client::IsolationLevel::ReadCommitted;
        let starts = match reset.as_deref() {
            Some("none") => {
                return Err(ConnectError::config(format!(
                    "nothing was committed of {first} yet, and auto.offset.reset is none: set \
                     consumer.override.auto.offset.reset to earliest or latest"
                )));
            }
            Some("latest") => runtime.block_on(admin.end_offsets(&fresh, isolation)),
            _ => runtime.block_on(admin.beginning_offsets(&fresh)),
        };
        for (partition, offset) in starts.map_err(failed("where to begin"))? {
            let topic = self.topics.iter().position(|topic| *topic == partition.topic);
            if let (Some(topic), Some(state)) = (topic, self.partitions.get_mut(&partition.partition)) {
                state.starts_at(topic, offset);
                self.changed = true;
            }
        }
        Ok(())
    }

    pub(super) fn compile(&self) -> Topology {
        Topology::compile(&self.started.deployment(), &self.topics, &self.started.globals)
    }

    /// Opens one store in all partitions, its changelog made if it is not there, and restores it.
    fn open_store<V: StateValue>(
        &self,
        admin: &Admin,
        numbers: &[i32],
        store: &str,
        ttl: Option<state_store::Ttl>,
        archive: bool,
    ) -> Result<BTreeMap<i32, KeyedPartition<V>>, ConnectError> {
        let connector = &self.context.connector;
        let topic = changelog_topic(connector, store);
        if let Some((other, others)) = sharer(&self.started.registry.resources(), connector, store) {
            return Err(ConnectError::config(format!(
                "store {store} of connector {connector} and store {others} of connector {other} would share the changelog \
                 topic {topic}: give one of the stores or connectors another name"
            )));
        }
        self.create_topic(
            admin,
            NewTopic::new(&topic, self.partition_count, -1).with("cleanup.policy", "compact"),
        )?;
        let database = self
            .started
            .database()
            .map_err(|error| ConnectError::config(error.to_string()))?;
        let mut opened = BTreeMap::new();
        for number in numbers {
            let spec = KeyedSpec {
                connector: self.context.connector.to_string(),
                store: store.to_owned(),
                partition: *number,
                ttl,
                archive,
            };
            let partition = KeyedPartition::open(&database, spec).map_err(|error| state_error(&error))?;
            opened.insert(*number, partition);
        }
        restore(
            &self.started,
            &client_config(&self.context.clients.consumer)?,
            &topic,
            &mut opened,
        )?;
        Ok(opened)
    }

    fn open_stores(
        &self,
        admin: &Admin,
        numbers: &[i32],
        slots: &[StoreSlot],
    ) -> Result<Vec<BTreeMap<i32, KeyedPartition<StoredRow>>>, ConnectError> {
        slots
            .iter()
            .map(|slot| self.open_store(admin, numbers, &slot.name, slot.ttl, slot.archive))
            .collect()
    }

    /// Takes over a new topology between two intervals: nothing runs and nothing is in flight.
    pub(super) fn replace_topology(&mut self) -> Result<(), ConnectError> {
        let topology = self.compile();
        let admin = Admin::new(&client_config(&self.context.clients.admin)?).map_err(failed("admin client"))?;
        let retention = self.log_retention();
        self.keep_log_for(&admin, retention);
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        // Stores that stay are kept open; a changed time to live means closing and opening again.
        let mut kept: BTreeMap<i32, BTreeMap<usize, KeyedPartition<StoredRow>>> = BTreeMap::new();
        let old_slots = std::mem::take(&mut self.topology.stores);
        for (number, partition) in &mut self.partitions {
            for (store, slot) in std::mem::take(&mut partition.stores).into_iter().zip(&old_slots) {
                if let Some(index) = topology.stores.iter().position(|new| new == slot) {
                    kept.entry(*number).or_default().insert(index, store);
                }
            }
        }
        for (index, slot) in topology.stores.iter().enumerate() {
            let missing: Vec<i32> = numbers
                .iter()
                .copied()
                .filter(|n| !kept.get(n).is_some_and(|stores| stores.contains_key(&index)))
                .collect();
            if missing.is_empty() {
                continue;
            }
            for (number, store) in self.open_store(&admin, &missing, &slot.name, slot.ttl, slot.archive)? {
                kept.entry(number).or_default().insert(index, store);
            }
        }
        for (number, partition) in &mut self.partitions {
            partition.stores = kept.remove(number).unwrap_or_default().into_values().collect();
        }
        self.install(topology)?;
        self.open_archivers()
    }

    /// Takes up the archive's open intents as they were committed.
    pub(super) fn open_archivers(&mut self) -> Result<(), ConnectError> {
        let failed = |error: state_store::StateError| ConnectError::config(error.to_string());
        let archive = self.started.archive.clone();
        for partition in self.partitions.values_mut() {
            partition.archivers = partition
                .stores
                .iter()
                .zip(&self.topology.stores)
                .map(|(store, slot)| {
                    let archive = archive.as_ref().filter(|_| slot.archive);
                    let open = |archive: &state_store::archive::Archive| {
                        Archiver::open(
                            store,
                            archive.clone(),
                            self.started.runtime.clone(),
                            self.context.wake.clone(),
                        )
                    };
                    archive.map(open).transpose().map_err(failed)
                })
                .collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// Makes flows and limits for a topology.
    fn install(&mut self, topology: Topology) -> Result<(), ConnectError> {
        for (number, partition) in &mut self.partitions {
            partition
                .follow_views(&topology.views)
                .map_err(|error| ConnectError::retriable(format!("progress of partition {number}: {error}")))?;
            partition.adopt_windows(topology.windows(), &self.topics);
            partition.trim_signatures();
        }
        let deployment = self.started.deployment();
        // Another version may write elsewhere.
        self.refusals.retain(|model| {
            let served = |index: &usize| topology.models.get(*index).map(|model| &model.served);
            let next = topology.by_identity.get(model).and_then(served);
            let known = |known: &&TaskModel| known.pending.model.identity == *model;
            let now = self.models.iter().find(known).map(|model| &model.pending.model);
            matches!((now, next), (Some(now), Some(next)) if Arc::ptr_eq(now, next))
        });
        let mut before: BTreeMap<Arc<str>, TaskModel> = std::mem::take(&mut self.models)
            .into_iter()
            .map(|model| (model.pending.model.identity.clone(), model))
            .collect();
        for ServingModel { served, runtime, .. } in &topology.models {
            let trigger = match &served.document.trigger {
                Trigger::Batch {
                    max_batch_size,
                    max_queue_delay,
                } => BatchTrigger {
                    max_batch_size: Some(*max_batch_size as usize),
                    max_queue_delay_us: max_queue_delay.as_millis().saturating_mul(1000),
                },
                _ => BatchTrigger::EACH,
            };
            let flow = match before.remove(&served.identity) {
                Some(old) => {
                    old.flow.set_trigger(trigger);
                    old.flow
                }
                None => self.started.pool.flow(runtime, &self.outbox, trigger),
            };
            self.models.push(TaskModel {
                flow,
                pending: RowBlock::new(served),
            });
        }
        for gone in before.into_values() {
            self.started.pool.remove(&gone.flow);
        }
        self.limits.clear();
        for tenant in &topology.tenants {
            let rate = deployment
                .resources
                .tenants
                .get(&**tenant)
                .and_then(|tenant| tenant.rate);
            if let Some(rate) = rate {
                let limit = RateLimit::new(
                    &rate,
                    self.partitions.len(),
                    usize::try_from(self.partition_count).unwrap_or(1),
                );
                self.limits.insert(tenant.to_string(), limit);
            }
        }
        self.topology = topology;
        self.say_lost_windows();
        self.divert_held();
        self.prepare_outputs();
        self.publish();
        Ok(())
    }

    /// Rows of models that may not run wait in the feature log from here on.
    pub(super) fn divert_held(&mut self) {
        for model in &self.models {
            let served = &model.pending.model;
            let Some(reason) = self.topology.held.get(&*served.identity) else {
                continue;
            };
            for partition in self.partitions.values_mut() {
                partition.hold(served, *reason);
                self.changed = true;
            }
        }
    }

    /// Windows that could not be read are counted where their model's user looks.
    pub(super) fn say_lost_windows(&mut self) {
        let deployment = self.started.deployment();
        for (number, partition) in &mut self.partitions {
            for (model, error) in partition.take_lost_windows() {
                tracing::error!(model = %model, partition = *number, error, "an open window is lost");
                if let Some(runtime) = deployment.runtimes.get(&*model) {
                    runtime.refused_input(format!("an open window of partition {number}: {error}"));
                }
                self.changed = true;
            }
        }
    }

    /// Tells REST what is open.
    pub(super) fn publish(&self) {
        let connector = self.context.connector.to_string();
        let mut open = self.started.open_partitions.lock();
        for (number, partition) in &self.partitions {
            open.readers
                .retain(|(owner, _, other), _| *owner != connector || other != number);
            open.modes
                .retain(|(_, owner, other), _| *owner != connector || other != number);
            for (store, slot) in partition.stores.iter().zip(&self.topology.stores) {
                open.readers
                    .insert((connector.clone(), slot.name.clone(), *number), store.reader());
            }
            for model in &self.models {
                let identity = &model.pending.model.identity;
                open.modes.insert(
                    (identity.to_string(), connector.clone(), *number),
                    partition.mode(identity),
                );
            }
        }
    }

    /// Takes back what REST was told.
    pub(super) fn withdraw(&self) {
        let connector = self.context.connector.to_string();
        let mut open = self.started.open_partitions.lock();
        open.readers
            .retain(|(owner, _, number), _| *owner != connector || !self.partitions.contains_key(number));
        open.modes
            .retain(|(_, owner, number), _| *owner != connector || !self.partitions.contains_key(number));
        open.archive_waits
            .retain(|(owner, _, number), _| *owner != connector || !self.partitions.contains_key(number));
    }

    pub(super) fn create_topic(&self, admin: &Admin, topic: NewTopic) -> Result<(), ConnectError> {
        let created = self
            .started
            .runtime
            .block_on(admin.create_topics(std::slice::from_ref(&topic)));
        for (name, result) in created.map_err(failed("create topics"))? {
            match result {
                Err(error) if error.code != ErrorCode::TopicAlreadyExists => {
                    return Err(kafka_failure(format!("create topic {name}"), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// State without progress: the input would be read again on top of what it has done already.
fn check_progress<V: StateValue, S: StateValue>(
    progress: &KeyedPartition<V>,
    stores: &[KeyedPartition<S>],
) -> Result<(), ConnectError> {
    let with_state = stores
        .iter()
        .find(|store| progress.position().is_none() && store.position().is_some());
    let Some(store) = with_state else { return Ok(()) };
    let connector = &progress.spec().connector;
    Err(ConnectError::config(format!(
        "{} holds what the input did, and the connector's progress ({}), which says up to where, is gone: reading on would \
         count events twice. Stop the connector and delete all topics connect-{connector}-* to begin anew",
        store.spec(),
        changelog_topic(connector, PROGRESS),
    )))
}

/// Tells REST whether the task waits for Kafka. REST may outlive the task, and the service the committer's last word.
fn waiting_in(started: &Arc<Started>, context: &PartitionedTaskContext) -> crate::barrier::OnWaiting {
    let (started, place) = (Arc::downgrade(started), (context.connector.to_string(), context.task));
    Box::new(move |waits| {
        let Some(started) = started.upgrade() else { return };
        let mut open = started.open_partitions.lock();
        match waits {
            true => open.waiting.insert(place.clone()),
            false => open.waiting.remove(&place),
        };
    })
}

/// The input topics as they are now; all must have as many partitions.
fn describe_inputs(started: &Started, admin: &Admin, topics: &[Arc<str>]) -> Result<Vec<TopicIdentity>, ConnectError> {
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let described = started.runtime.block_on(admin.describe_topics(&names));
    let mut inputs = Vec::new();
    for (name, found) in described.map_err(failed("describe topics"))? {
        let found = found.map_err(failed(format!("describe topic {name}")))?;
        let gone = || {
            ConnectError::new(
                ErrorKind::NotFound,
                TopicChange::Gone { topic: name.into() }.to_string(),
            )
        };
        inputs.push(TopicIdentity::of(&found.ok_or_else(gone)?));
    }
    let different: BTreeSet<i32> = inputs.iter().map(|topic| topic.partitions).collect();
    if different.len() > 1 {
        let each: Vec<String> = inputs
            .iter()
            .map(|topic| format!("{} has {}", topic.name, topic.partitions))
            .collect();
        return Err(ConnectError::config(format!(
            "all input topics of an inference connector need equal numbers of partitions, since state is kept by partition: {}",
            each.join(", ")
        )));
    }
    Ok(inputs)
}

/// Why the task has no writer of transactions.
fn no_writer(
    started: &Started,
    admin: &Admin,
    context: &PartitionedTaskContext,
    transactional_id: &str,
    error: &KafkaError,
) -> ConnectError {
    const OPTION: &str = "transaction.timeout.ms";
    if error.code != ErrorCode::InvalidTransactionTimeout {
        return kafka_failure(format!("transactional producer {transactional_id}"), error);
    }
    let own = context.clients.producer.get(OPTION).map_or("60000", String::as_str);
    let limit = started
        .runtime
        .block_on(admin.broker_option("transaction.max.timeout.ms"));
    let limit = limit.ok().flatten().unwrap_or_else(|| "smaller".to_owned());
    ConnectError::config(format!(
        "producer.override.{OPTION} is {own}, and the brokers' transaction.max.timeout.ms is {limit}: lower the one or raise the \
         other ({error})"
    ))
}

/// The layout of this connector, written to the registry if it is new.
fn agree_on_layout(
    started: &Started,
    context: &PartitionedTaskContext,
    counts: &BTreeMap<String, i32>,
) -> Result<Layout, ConnectError> {
    let name = context.connector.to_string();
    started
        .runtime
        .block_on(started.registry.refresh())
        .map_err(failed("read the registry"))?;
    let recorded = started.registry.resources().layouts.get(&name).cloned();
    let layout = Layout::next(recorded.as_ref(), context.tasks, counts).map_err(ConnectError::config)?;
    if recorded.as_ref() != Some(&layout) {
        let value = serde_json::to_vec(&layout).unwrap_or_default();
        let key = RecordKey::new(Kind::Layout, name);
        started
            .runtime
            .block_on(started.registry.write(&key, Some(&value)))
            .map_err(failed("write the layout"))?;
    }
    Ok(layout)
}
