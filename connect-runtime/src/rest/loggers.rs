//! Levels of loggers (contract 1.10).

use super::answer::Answer;
use super::body;
use super::state::RestState;
use crate::herder::Command;
use crate::logging::LoggerLevel;
use serde_json::{Map, Value, json};

type Outcome = Result<Answer, Answer>;

fn level_json(level: &LoggerLevel) -> Value {
    json!({ "level": level.level, "last_modified": level.last_modified_ms })
}

pub(super) fn list(state: &RestState) -> Answer {
    let all: Map<String, Value> = state
        .loggers
        .all()
        .into_iter()
        .map(|(name, level)| (name, level_json(&level)))
        .collect();
    Answer::ok(Value::Object(all))
}

pub(super) fn get(state: &RestState, name: &str) -> Outcome {
    match state.loggers.level(name) {
        Some(level) => Ok(Answer::ok(level_json(&level))),
        None => Err(Answer::error(404, format!("Logger {name} not found."))),
    }
}

pub(super) async fn set(state: &RestState, name: String, query: &[(String, String)], bytes: &[u8]) -> Outcome {
    let level = body::level(bytes)?
        .ok_or_else(|| Answer::error(400, "Desired 'level' parameter was not specified in request."))?;
    let level = level.trim();
    if level.is_empty() {
        return Err(Answer::error(500, "Illegal null or empty Level name."));
    }
    let scope = query
        .iter()
        .find(|(name, _)| name == "scope")
        .map_or("worker", |(_, scope)| scope.as_str());
    if scope.eq_ignore_ascii_case("cluster") {
        if !crate::logging::is_level(level) {
            return Err(Answer::error(404, format!("invalid log level '{level}'.")));
        }
        state
            .ready()?
            .ask(|reply| Command::SetClusterLogger {
                namespace: name,
                level: level.to_uppercase(),
                reply,
            })
            .await?;
        return Ok(Answer::empty(204));
    }
    if !scope.eq_ignore_ascii_case("worker") {
        tracing::warn!(scope, "unknown scope of a logger is treated as worker");
    }
    match state.loggers.set(&name, level) {
        Ok(changed) => Ok(Answer::ok(json!(changed))),
        Err(message) => Err(Answer::error(404, message)),
    }
}
