//! Offsets of stopped connectors, set or reset by a person (KIP-875; contract 1.8).

use super::command::{OffsetChange, Refusal};
use super::connector::plugin_named;
use super::herder::Shared;
use super::isolation::isolated;
use crate::cluster::fold::{ClusterState, ConnectorState};
use crate::records::config_record::TargetState;
use crate::storage::{OffsetStore, SourceOffset};
use connect_api::record::SourceMap;
use connect_api::{ConfigMap, ConnectError, ConnectorKind, ConnectorPlugin};
use kafka_client::{Admin, ClientConfig, ErrorCode, KafkaError, TopicPartition};
use parking_lot::RwLock;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const ALTER_DEADLINE: Duration = Duration::from_secs(30);

/// Carries out `changes`, or, with `None`, resets everything. The answer is the text for the user.
pub(super) async fn change_offsets(
    shared: &Shared,
    cluster: &RwLock<ClusterState>,
    store: &dyn OffsetStore,
    name: &str,
    changes: Option<OffsetChange>,
) -> Result<String, Refusal> {
    let state = cluster.read().connector(name).cloned();
    let state = state.ok_or_else(|| Refusal::NotFound(format!("Connector {name} not found")))?;
    require_stopped(name, &state)?;
    let plugin = plugin_named(&shared.plugins, &state.config).map_err(failed)?;
    let config = shared.resolve(&state.config).await.map_err(failed)?;
    let reset = changes.is_none();
    let kind = plugin.kind();
    let changes = changes.map(|changes| with_partitions(kind, changes)).transpose()?;
    let external = match kind {
        ConnectorKind::Sink => {
            let group = changes.as_deref().map(|changes| group_changes(name, changes));
            let group = group.transpose()?;
            let altered = alter(name, plugin, config.clone(), changes.unwrap_or_default()).await?;
            change_group(shared, name, &config, group).await?;
            altered
        }
        ConnectorKind::Source => {
            let changes: Changes = match changes {
                Some(changes) => changes,
                None => store
                    .read_all(name)
                    .await
                    .map_err(failed)?
                    .into_iter()
                    .map(|(partition, _)| (partition, None))
                    .collect(),
            };
            let altered = alter(name, plugin, config, changes.clone()).await?;
            let offsets: Vec<SourceOffset> = changes
                .into_iter()
                .map(|(partition, offset)| (Arc::new(partition), offset))
                .collect();
            store.write(name, &offsets).await.map_err(failed)?;
            altered
        }
    };
    let verb = if reset { "reset" } else { "altered" };
    Ok(match external {
        true => format!("The offsets for this connector have been {verb} successfully"),
        false => format!(
            "The Connect framework-managed offsets for this connector have been {verb} successfully. However, if this connector manages offsets externally, they will need to be manually {verb} in the system that the connector uses."
        ),
    })
}

/// Offsets by partition; `None` removes one.
type Changes = Vec<(SourceMap, Option<SourceMap>)>;

/// Refuses a missing partition, in upstream's words.
fn with_partitions(kind: ConnectorKind, changes: OffsetChange) -> Result<Changes, Refusal> {
    let missing = || match kind {
        ConnectorKind::Sink => {
            Refusal::BadRequest("The partition for a sink connector offset cannot be null or missing".to_owned())
        }
        ConnectorKind::Source => Refusal::Failed("Partition objects cannot be null".to_owned()),
    };
    let changes = changes.into_iter();
    changes
        .map(|(partition, offset)| Ok((partition.ok_or_else(missing)?, offset)))
        .collect()
}

/// Has the connector look at the changes. Whether it has taken them over into the system that it works on, or has none.
async fn alter(
    name: &str,
    plugin: Arc<dyn ConnectorPlugin>,
    config: ConfigMap,
    changes: Changes,
) -> Result<bool, Refusal> {
    let altered = isolated(
        format!("altering offsets of connector {name}"),
        ALTER_DEADLINE,
        move || async move { plugin.alter_offsets(&config, &changes).await },
    );
    altered.await.map_err(failed)
}

fn require_stopped(name: &str, state: &ConnectorState) -> Result<(), Refusal> {
    match state.target == TargetState::Stopped && state.tasks.is_empty() {
        true => Ok(()),
        false => Err(Refusal::BadRequest(format!(
            "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
        ))),
    }
}

fn failed(error: ConnectError) -> Refusal {
    Refusal::Failed(error.message().to_owned())
}

/// Offsets of a sink's consumer group, in the form of REST.
pub(crate) async fn group_offsets(
    worker: &crate::config::WorkerConfig,
    name: &str,
    config: &ConfigMap,
) -> Result<Vec<(SourceMap, SourceMap)>, ConnectError> {
    let (admin, group) = group_admin(worker, name, config)?;
    let offsets = admin.group_offsets(&group).await.map_err(|error| {
        ConnectError::fatal(format!(
            "Failed to retrieve consumer group offsets for connector {name}"
        ))
        .caused_by(error)
    })?;
    Ok(offsets
        .into_iter()
        .map(|(partition, offset)| {
            let mut source = SourceMap::new();
            source.insert("kafka_partition".to_owned(), Value::from(partition.partition));
            source.insert("kafka_topic".to_owned(), Value::from(partition.topic.to_string()));
            (
                source,
                SourceMap::from_iter([("kafka_offset".to_owned(), Value::from(offset))]),
            )
        })
        .collect())
}

fn group_admin(
    worker: &crate::config::WorkerConfig,
    name: &str,
    config: &ConfigMap,
) -> Result<(Admin, String), ConnectError> {
    let clients = worker.connector_clients(name, config)?;
    let group = clients
        .consumer
        .get("group.id")
        .cloned()
        .unwrap_or_else(|| format!("connect-{name}"));
    // the cluster that the connector's consumer points at, with the rights of its admin client
    let mut options = clients.admin;
    if let Some(bootstrap) = clients.consumer.get("bootstrap.servers") {
        options.insert("bootstrap.servers".to_owned(), bootstrap.clone());
    }
    let admin = ClientConfig::from_java(options)
        .and_then(|options| Admin::new(&options))
        .map_err(|error| ConnectError::config(error.to_string()))?;
    Ok((admin, group))
}

async fn change_group(
    shared: &Shared,
    name: &str,
    config: &ConfigMap,
    changes: Option<Vec<GroupChange>>,
) -> Result<(), Refusal> {
    let (admin, group) = group_admin(&shared.worker, name, config).map_err(failed)?;
    let outcome = match changes {
        None => match admin.delete_group(&group).await {
            Err(error) if error.code == ErrorCode::GroupIdNotFound => Ok(()),
            outcome => outcome,
        },
        Some(changes) => {
            let set: Vec<(TopicPartition, i64)> = changes
                .iter()
                .filter_map(|(partition, offset)| offset.map(|offset| (partition.clone(), offset)))
                .collect();
            let removed: Vec<TopicPartition> = changes
                .iter()
                .filter(|(_, offset)| offset.is_none())
                .map(|(partition, _)| partition.clone())
                .collect();
            alter_group(&admin, &group, &set, &removed).await
        }
    };
    outcome.map_err(|error| group_refusal(name, &error))
}

async fn alter_group(
    admin: &Admin,
    group: &str,
    set: &[(TopicPartition, i64)],
    removed: &[TopicPartition],
) -> Result<(), KafkaError> {
    if !set.is_empty() {
        admin.alter_group_offsets(group, set).await?;
    }
    if !removed.is_empty() {
        match admin.delete_group_offsets(group, removed).await {
            Err(error) if error.code == ErrorCode::GroupIdNotFound => {}
            outcome => return outcome,
        }
    }
    Ok(())
}

fn group_refusal(name: &str, error: &KafkaError) -> Refusal {
    let active = matches!(
        error.code,
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId | ErrorCode::GroupSubscribedToTopic
    );
    Refusal::Failed(match active {
        true => format!(
            "Failed to alter consumer group offsets for connector {name} either because its tasks haven't stopped completely yet or the connector was resumed before the request to alter its offsets could be successfully completed. If the connector is in a stopped state, this operation can be safely retried. If it doesn't eventually succeed, the Connect cluster may need to be restarted to get rid of the zombie sink tasks."
        ),
        false => format!("Failed to alter consumer group offsets for connector {name}: {error}"),
    })
}

/// An offset of a group; `None` removes it.
type GroupChange = (TopicPartition, Option<i64>);

fn group_changes(name: &str, changes: &[(SourceMap, Option<SourceMap>)]) -> Result<Vec<GroupChange>, Refusal> {
    let changes: Vec<GroupChange> = changes.iter().map(sink_change).collect::<Result<_, _>>()?;
    match changes
        .iter()
        .find(|(_, offset)| offset.is_some_and(|offset| offset < 0))
    {
        Some((partition, _)) => Err(Refusal::Failed(format!(
            "Failed to modify offsets for sink connector {name}: the offset of {partition} is negative"
        ))),
        None => Ok(changes),
    }
}

/// A partition and an offset of a sink, as REST takes them: numbers may be text, and a topic may be a number.
fn sink_change((partition, offset): &(SourceMap, Option<SourceMap>)) -> Result<GroupChange, Refusal> {
    let bad = |text: &str| Refusal::BadRequest(text.to_owned());
    let (Some(topic), Some(number)) = (partition.get("kafka_topic"), partition.get("kafka_partition")) else {
        return Err(bad(
            "The partition for a sink connector offset must contain the keys 'kafka_topic' and 'kafka_partition'",
        ));
    };
    if topic.is_null() {
        return Err(bad("Kafka topic names must be valid strings and may not be null"));
    }
    let topic = shown(topic);
    if number.is_null() {
        return Err(bad("Kafka partitions must be valid numbers and may not be null"));
    }
    let number = integer(number).and_then(|number| i32::try_from(number).ok()).ok_or_else(|| {
        Refusal::BadRequest(format!("Failed to parse the following Kafka partition value in the provided offsets: '{}'. Partition values for sink connectors need to be integers.", shown(number)))
    })?;
    let offset = match offset {
        None => None,
        Some(offset) => match offset.get("kafka_offset") {
            Some(value) => Some(integer(value).ok_or_else(|| {
                Refusal::BadRequest(format!("Failed to parse the following Kafka offset value in the provided offsets: '{}'. Offset values for sink connectors need to be integers.", shown(value)))
            })?),
            None => {
                return Err(bad("The offset for a sink connector should either be null or contain the key 'kafka_offset'"));
            }
        },
    };
    Ok((
        TopicPartition {
            topic: topic.into(),
            partition: number,
        },
        offset,
    ))
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> SourceMap {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn sink_offsets_are_read_leniently_and_refused_clearly() {
        let change = |partition: Value, offset: Value| {
            let offset = if offset.is_null() { None } else { Some(map(offset)) };
            sink_change(&(map(partition), offset))
        };
        let (partition, offset) = change(
            json!({"kafka_topic": "t", "kafka_partition": "3"}),
            json!({"kafka_offset": 5}),
        )
        .unwrap();
        assert_eq!((&*partition.topic, partition.partition, offset), ("t", 3, Some(5)));
        let refused = |partition, offset| change(partition, offset).unwrap_err().message().to_owned();
        assert!(
            refused(json!({"kafka_topic": "t"}), Value::Null)
                .contains("must contain the keys 'kafka_topic' and 'kafka_partition'")
        );
        assert!(
            refused(json!({"kafka_topic": "t", "kafka_partition": "x"}), Value::Null)
                .contains("Partition values for sink connectors need to be integers")
        );
        assert!(
            refused(json!({"kafka_topic": null, "kafka_partition": 1}), Value::Null)
                .contains("Kafka topic names must be valid strings")
        );
        assert!(
            refused(json!({"kafka_topic": "t", "kafka_partition": 1}), json!({"o": 1}))
                .contains("contain the key 'kafka_offset'")
        );
        assert!(
            refused(
                json!({"kafka_topic": "t", "kafka_partition": 1}),
                json!({"kafka_offset": "x"})
            )
            .contains("Offset values for sink connectors need to be integers")
        );
    }
}
