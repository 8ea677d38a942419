//! Connectors: create, change, delete, look at (contract 1.5 to 1.7).

use super::answer::Answer;
use super::body;
use super::state::{Ready, RestState};
use crate::cluster::fold::ConnectorState;
use crate::cluster::restart::RestartRequest;
use crate::config::config_json;
use crate::herder::Command;
use crate::plugins::Plugins;
use crate::records::config_record::TargetState;
use crate::records::status_table::{ConnectorStatuses, State, Status};
use connect_api::ConfigMap;
use connect_api::java_parse::trim;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

type Outcome = Result<Answer, Answer>;

/// What is escaped in a segment of a path (RFC 3986): `/` so that it does not cut the name, not what Java leaves alone.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

fn type_of(plugins: &Plugins, config: &ConfigMap) -> &'static str {
    let class = config
        .get("connector.class")
        .and_then(Option::as_deref)
        .unwrap_or_default();
    plugins
        .connector(class.trim())
        .map_or("unknown", |plugin| plugin.kind().name())
}

fn info_json(plugins: &Plugins, name: &str, state: &ConnectorState) -> Value {
    let tasks: Vec<Value> = (0..state.tasks.len())
        .map(|task| json!({ "connector": name, "task": task }))
        .collect();
    json!({ "name": name, "config": config_json(&state.config), "tasks": tasks, "type": type_of(plugins, &state.config) })
}

fn put_status(object: &mut Map<String, Value>, status: &Status) {
    object.insert("state".to_owned(), json!(status.state.name()));
    object.insert("worker_id".to_owned(), json!(status.worker_id));
    if let Some(trace) = status.trace.as_ref().filter(|trace| !trace.is_empty()) {
        object.insert("trace".to_owned(), json!(trace));
    }
    if let Some(version) = &status.version {
        object.insert("version".to_owned(), json!(version));
    }
}

fn status_json(name: &str, kind: &str, statuses: &ConnectorStatuses) -> Option<Value> {
    let mut connector = Map::new();
    put_status(&mut connector, statuses.connector.as_ref()?);
    let tasks: Vec<Value> = statuses
        .tasks
        .iter()
        .map(|(task, status)| {
            let mut object = Map::from_iter([("id".to_owned(), json!(task))]);
            put_status(&mut object, status);
            Value::Object(object)
        })
        .collect();
    Some(json!({ "name": name, "connector": connector, "tasks": tasks, "type": kind }))
}

fn found(ready: &Ready, name: &str) -> Result<ConnectorState, Answer> {
    let state = ready.herder.cluster().read().connector(name).cloned();
    state.ok_or_else(|| Answer::error(404, format!("Connector {name} not found")))
}

pub(super) fn list(state: &RestState, ready: &Ready, query: &[(String, String)]) -> Outcome {
    let expand: Vec<&str> = query
        .iter()
        .filter(|(name, _)| name == "expand")
        .flat_map(|(_, value)| value.split(','))
        .collect();
    let cluster = ready.herder.cluster().read();
    if expand.is_empty() {
        return Ok(Answer::ok(json!(cluster.connectors().keys().collect::<Vec<_>>())));
    }
    let statuses = ready.herder.statuses().read();
    let mut all = Map::new();
    'connectors: for (name, connector) in cluster.connectors() {
        let mut expanded = Map::new();
        for what in &expand {
            match *what {
                "info" => {
                    expanded.insert("info".to_owned(), info_json(&state.plugins, name, connector));
                }
                "status" => {
                    let kind = type_of(&state.plugins, &connector.config);
                    let held = statuses.connector(name).and_then(|held| status_json(name, kind, held));
                    // One that no worker has taken yet is left out, as upstream does.
                    let Some(status) = held else { continue 'connectors };
                    expanded.insert("status".to_owned(), status);
                }
                other => tracing::info!(expand = other, "unknown expansion is ignored"),
            }
        }
        all.insert(name.clone(), Value::Object(expanded));
    }
    Ok(Answer::ok(Value::Object(all)))
}

pub(super) async fn create(state: &RestState, ready: &Ready, bytes: &[u8]) -> Outcome {
    let request = body::create_connector(bytes)?;
    let name = trim(&request.name.unwrap_or_default()).to_owned();
    let initial = request.initial_state.as_deref().map(|initial| match initial {
        "PAUSED" => TargetState::Paused,
        "STOPPED" => TargetState::Stopped,
        _ => TargetState::Started,
    });
    let Some(config) = request.config else {
        return Err(Answer::error(
            500,
            "The config of the connector is missing: the body must hold name and config",
        ));
    };
    ready.require_leader().await?;
    if ready.herder.cluster().read().connector(&name).is_some() {
        return Err(Answer::error(409, format!("Connector {name} already exists")));
    }
    put(state, ready, name, config, initial, true).await
}

pub(super) async fn put_config(state: &RestState, ready: &Ready, name: String, bytes: &[u8]) -> Outcome {
    let config = body::config_map(bytes)?;
    ready.require_leader().await?;
    put(state, ready, name, config, None, false).await
}

/// A merge patch: a null value removes its option.
pub(super) async fn patch_config(state: &RestState, ready: &Ready, name: String, bytes: &[u8]) -> Outcome {
    if body::is_nothing(bytes) {
        // as upstream, which looks for the connector before it looks at the patch
        found(ready, &name)?;
    }
    let patch = body::config_map(bytes)?;
    ready.require_leader().await?;
    let mut config = (*found(ready, &name)?.config).clone();
    for (option, value) in patch {
        match value {
            Some(value) => {
                config.insert(option, Some(value));
            }
            None if option == "name" => {
                let missing = "Missing required configuration \"name\" which has no default value.";
                return Err(crate::validate::refusal(&[missing]).into());
            }
            None => {
                config.shift_remove(&option);
            }
        }
    }
    put(state, ready, name, config, None, false).await
}

async fn put(
    state: &RestState,
    ready: &Ready,
    name: String,
    mut config: ConfigMap,
    initial: Option<TargetState>,
    create: bool,
) -> Outcome {
    match config.get("name") {
        None | Some(None) => {
            config.insert("name".to_owned(), Some(name.clone()));
        }
        Some(Some(configured)) if *configured == name => {}
        Some(Some(configured)) => {
            return Err(Answer::error(
                400,
                format!("Connector name configuration ({configured}) doesn't match connector name in the URL ({name})"),
            ));
        }
    }
    let unread = ready.validator.validate(&config).await?.into_result()?;
    for option in unread {
        tracing::warn!(connector = %name, option = %option.name, "{}", option.message);
    }
    let created = ready
        .ask(|reply| Command::PutConnector {
            name: name.clone(),
            config,
            initial,
            create,
            reply,
        })
        .await?;
    let mut answer = Answer::json(
        if created { 201 } else { 200 },
        info_json(&state.plugins, &name, &found(ready, &name)?),
    );
    if created {
        let path = utf8_percent_encode(&name, SEGMENT);
        answer.location = Some(format!("http://{}/connectors/{path}", state.worker_id));
    }
    Ok(answer)
}

pub(super) async fn delete(ready: &Ready, name: String) -> Outcome {
    ready.require_leader().await?;
    ready.ask(|reply| Command::DeleteConnector { name, reply }).await?;
    Ok(Answer::empty(204))
}

pub(super) fn get(state: &RestState, ready: &Ready, name: &str) -> Outcome {
    Ok(Answer::ok(info_json(&state.plugins, name, &found(ready, name)?)))
}

pub(super) fn get_config(ready: &Ready, name: &str) -> Outcome {
    Ok(Answer::ok(config_json(&found(ready, name)?.config)))
}

pub(super) fn get_tasks(ready: &Ready, name: &str) -> Outcome {
    let tasks: Vec<Value> = found(ready, name)?
        .tasks
        .iter()
        .enumerate()
        .map(|(task, config)| json!({ "id": { "connector": name, "task": task }, "config": config_json(config) }))
        .collect();
    Ok(Answer::ok(json!(tasks)))
}

pub(super) fn get_status(state: &RestState, ready: &Ready, name: &str) -> Outcome {
    let kind = match ready.herder.cluster().read().connector(name) {
        Some(connector) => type_of(&state.plugins, &connector.config),
        None => "unknown",
    };
    ready
        .herder
        .statuses()
        .read()
        .connector(name)
        .and_then(|held| status_json(name, kind, held))
        .map(Answer::ok)
        .ok_or_else(|| Answer::error(404, format!("No status found for connector {name}")))
}

/// The number in a path; with one that is none, it is no path, but, as upstream, one that a resource has answered for.
fn task_number(text: &str) -> Result<i32, Answer> {
    text.parse().map_err(|_| Answer::error(404, "HTTP 404 Not Found"))
}

pub(super) fn get_task_status(ready: &Ready, name: &str, task: &str) -> Outcome {
    let number = task_number(task)?;
    let statuses = ready.herder.statuses().read();
    let status = usize::try_from(number)
        .ok()
        .and_then(|number| statuses.connector(name)?.tasks.get(&number))
        .ok_or_else(|| Answer::error(404, format!("No status found for task {name}-{number}")))?;
    let mut object = Map::from_iter([("id".to_owned(), json!(number))]);
    put_status(&mut object, status);
    Ok(Answer::ok(Value::Object(object)))
}

pub(super) async fn set_target(ready: &Ready, name: String, target: TargetState) -> Outcome {
    if target == TargetState::Stopped {
        ready.require_leader().await?;
    }
    ready.ask(|reply| Command::SetTarget { name, target, reply }).await?;
    Ok(Answer::empty(if target == TargetState::Stopped { 204 } else { 202 }))
}

/// A task set that a connector of a follower has generated (contract 1.11).
pub(super) async fn publish_tasks(ready: &Ready, name: String, bytes: &[u8]) -> Outcome {
    if body::is_null(bytes) {
        found(ready, &name)?;
    }
    let tasks = body::task_configs(bytes)?;
    ready.require_leader().await?;
    ready
        .ask(|reply| Command::PublishTasks {
            name,
            made_from: None,
            tasks,
            reply,
        })
        .await?;
    Ok(Answer::empty(204))
}

pub(super) fn fence(ready: &Ready, name: &str) -> Outcome {
    found(ready, name)?;
    Err(Answer::error(
        501,
        "Fencing of source connectors is not supported: exactly.once.source.support of this worker is disabled",
    ))
}

pub(super) async fn restart_task(ready: &Ready, name: String, task: &str) -> Outcome {
    let number = task_number(task)?;
    let Ok(task) = usize::try_from(number) else {
        let known = ready.herder.cluster().read().connector(&name).is_some();
        return Err(Answer::error(
            404,
            match known {
                true => format!("Unknown task: {name}-{number}"),
                false => format!("Unknown connector: {name}"),
            },
        ));
    };
    ready.position().await;
    ready.ask(|reply| Command::RestartTask { name, task, reply }).await?;
    Ok(Answer::empty(204))
}

pub(super) async fn restart(state: &RestState, ready: &Ready, name: String, query: &[(String, String)]) -> Outcome {
    let asked = |option: &str| {
        query
            .iter()
            .any(|(name, value)| name == option && value.trim().eq_ignore_ascii_case("true"))
    };
    let request = RestartRequest {
        include_tasks: asked("includeTasks"),
        only_failed: asked("onlyFailed"),
    };
    if !request.include_tasks && !request.only_failed {
        ready.position().await;
        ready.ask(|reply| Command::RestartConnector { name, reply }).await?;
        return Ok(Answer::empty(204));
    }
    ready.require_leader().await?;
    let kind = match ready.herder.cluster().read().connector(&name) {
        Some(connector) => type_of(&state.plugins, &connector.config),
        None => "unknown",
    };
    let held = ready.herder.statuses().read().connector(&name).cloned();
    let plan = ready
        .ask(|reply| Command::PlanRestart {
            name: name.clone(),
            request,
            reply,
        })
        .await?;
    // what was shown when the request came, with everything that is going to be restarted
    let mut statuses = held.unwrap_or_default();
    if plan.connector
        && let Some(status) = &mut statuses.connector
    {
        status.state = State::Restarting;
    }
    for task in plan.tasks {
        if let Some(status) = statuses.tasks.get_mut(&task) {
            status.state = State::Restarting;
        }
    }
    status_json(&name, kind, &statuses)
        .map(|body| Answer::json(202, body))
        .ok_or_else(|| Answer::error(404, format!("Status for connector {name} not found")))
}

pub(super) fn get_topics(state: &RestState, ready: &Ready, name: &str) -> Outcome {
    if !state.worker.topic_tracking_enable {
        return Err(Answer::error(403, "Topic tracking is disabled."));
    }
    let statuses = ready.herder.statuses().read();
    let topics: Vec<&String> = statuses
        .connector(name)
        .map(|held| held.topics.keys().collect())
        .unwrap_or_default();
    let mut body = Map::new();
    body.insert(name.to_owned(), json!({ "topics": topics }));
    Ok(Answer::ok(Value::Object(body)))
}

pub(super) async fn reset_topics(state: &RestState, ready: &Ready, name: String) -> Outcome {
    if !state.worker.topic_tracking_enable {
        return Err(Answer::error(403, "Topic tracking is disabled."));
    }
    if !state.worker.parsed().boolean("topic.tracking.allow.reset") {
        return Err(Answer::error(403, "Topic tracking reset is disabled."));
    }
    ready.ask(|reply| Command::ResetTopics { name, reply }).await?;
    Ok(Answer::empty(202))
}

pub(super) async fn get_offsets(state: &RestState, ready: &Ready, name: &str) -> Outcome {
    let connector = found(ready, name)?;
    let offsets = match type_of(&state.plugins, &connector.config) {
        "sink" => {
            let (providers, config) = (
                std::sync::Arc::clone(&ready.validator.providers),
                connector.config.clone(),
            );
            let resolved = tokio::task::spawn_blocking(move || providers.resolve(&config))
                .await
                .map_err(|error| Answer::error(500, error.to_string()))??;
            crate::herder::group_offsets(&state.worker, name, &resolved).await?
        }
        _ => ready.herder.offsets().read_all(name).await?,
    };
    let offsets: Vec<Value> = offsets
        .into_iter()
        .map(|(partition, offset)| json!({ "partition": partition, "offset": offset }))
        .collect();
    Ok(Answer::ok(json!({ "offsets": offsets })))
}

pub(super) async fn change_offsets(ready: &Ready, name: String, bytes: Option<&[u8]>) -> Outcome {
    let changes = bytes.map(body::offsets).transpose()?;
    ready.require_leader().await?;
    let message = ready
        .ask(|reply| Command::ChangeOffsets { name, changes, reply })
        .await?;
    Ok(Answer::ok(json!({ "message": message })))
}
