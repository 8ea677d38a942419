//! Changes to topics that brokers know of when the call returns. A controller answers once it has written a change down; what a
//! broker says and does follows a moment later.

use std::collections::BTreeMap;

use anyhow::Result;
use kafka_client::{Admin, ConfigChange};

use crate::broker_laws::eventually;

/// Sets options of a topic.
///
/// # Errors
/// The broker's, or it does not show them in time.
pub async fn set_options(admin: &Admin, topic: &str, options: &[(&str, &str)]) -> Result<()> {
    let set = |(name, value): &(&str, &str)| ((*name).to_owned(), ConfigChange::Set((*value).to_owned()));
    let changes: Vec<_> = options.iter().map(set).collect();
    admin.alter_topic_config(topic, &changes).await?;
    let wanted: BTreeMap<_, _> = options.iter().copied().collect();
    eventually("the topic's options", || async {
        let shown = admin.describe_topic_config(topic).await?;
        let same = wanted
            .iter()
            .all(|(name, value)| shown.get(*name).is_some_and(|shown| shown == value));
        Ok(same.then_some(()))
    })
    .await
}

/// Gives a topic `partitions` partitions in all.
///
/// # Errors
/// The broker's, or it does not show them in time.
pub async fn grow(admin: &Admin, topic: &str, partitions: usize) -> Result<()> {
    admin.create_partitions(topic, partitions).await?;
    eventually("the topic's partitions", || async {
        let shown = admin.topic(topic).await?.map_or(0, |topic| topic.partitions.len());
        Ok((shown == partitions).then_some(()))
    })
    .await
}
