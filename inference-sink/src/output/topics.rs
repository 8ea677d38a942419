//! The topics that outputs go to: whether they are there, and that no write makes one.
//!
//! ```text
//! task is opened, or gets another deployment -> look: describe -> missing? ask brokers as a producer does -> describe
//!     still missing: the models that write to it are detached, with the reason in their status; looked at again every few seconds
//! PUT of a model or a tenant -> missing: describe; would the brokers make it?
//! ```
//! A write that had topics made would make a changelog with the brokers' defaults, or a topic that somebody has just deleted.

use crate::service::client_config;
use connect_api::error::ConnectError;
use indexmap::IndexMap;
use kafka_client::{Admin, ClientConfig, KafkaError};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long brokers may take to make a topic that was asked for.
const MAKING: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// The option by which brokers make topics by themselves.
const AUTO_CREATE: &str = "auto.create.topics.enable";

/// The configuration of a writer of outputs: it has no topic made.
pub(crate) fn writer_config(settings: &IndexMap<String, String>) -> Result<ClientConfig, ConnectError> {
    let mut config = client_config(settings)?;
    config.set("allow.auto.create.topics", "false");
    Ok(config)
}

/// What is to be done about a topic that is not there.
pub(crate) fn advice(topic: &str) -> String {
    format!(
        "topic {topic} does not exist, and the brokers do not make it ({AUTO_CREATE}): create it; the model goes on by itself then"
    )
}

/// Whether the producer's settings leave it to the brokers to make topics that outputs go to (Java's always do).
fn brokers_may_make(settings: &IndexMap<String, String>) -> bool {
    let allowed = settings.get("allow.auto.create.topics");
    !allowed.is_some_and(|value| value.trim().eq_ignore_ascii_case("false"))
}

/// Those of `topics` that are not there. Of one that may not be described nothing is known: the write will tell.
pub(crate) async fn not_there(admin: &Admin, topics: &BTreeSet<String>) -> Result<BTreeSet<String>, KafkaError> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let described = admin.describe_topics(&names).await?;
    let absent = described.into_iter().filter(|(_, found)| matches!(found, Ok(None)));
    Ok(absent.map(|(name, _)| name).collect())
}

/// Asks for topics as a producer does, where brokers may make topics by themselves and `producer` does not forbid it. False:
/// nobody makes them.
pub(crate) async fn ask_for(
    admin: &Admin,
    producer: &IndexMap<String, String>,
    topics: &BTreeSet<String>,
) -> Result<bool, KafkaError> {
    if topics.is_empty()
        || !brokers_may_make(producer)
        || admin.broker_option(AUTO_CREATE).await?.as_deref() == Some("false")
    {
        return Ok(false);
    }
    let topics: Vec<String> = topics.iter().cloned().collect();
    admin.ask_as_a_writer(&topics).await.map(|()| true)
}

/// Gives brokers the time to make topics that were asked for; those that are missing all the same.
pub(crate) async fn wait_until_made(admin: &Admin, topics: BTreeSet<String>) -> Result<BTreeSet<String>, KafkaError> {
    let deadline = Instant::now() + MAKING;
    let mut absent = topics;
    loop {
        absent = not_there(admin, &absent).await?;
        if absent.is_empty() || Instant::now() >= deadline {
            return Ok(absent);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those of `topics` that are not there and that the brokers will not make at the first output. Changes nothing.
pub(crate) async fn missing(admin: &Admin, topics: &BTreeSet<String>) -> Result<BTreeSet<String>, KafkaError> {
    let absent = not_there(admin, topics).await?;
    if absent.is_empty() || admin.broker_option(AUTO_CREATE).await?.as_deref() != Some("false") {
        return Ok(BTreeSet::new());
    }
    Ok(absent)
}
