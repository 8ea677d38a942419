//! What must be there before a task computes its first event: the feature log's topic, and global stores that can be looked up in.

use super::Open;
use crate::failure::failed;
use crate::metrics::ShedReason;
use crate::service::Readiness;
use connect_api::error::ConnectError;
use kafka_client::{Admin, ConfigChange, ErrorCode, KafkaError, NewTopic, TopicId};
use std::time::{Duration, Instant};

/// How long a task waits for global stores before it says so and is opened again.
const GLOBAL_STORES_WAIT: Duration = Duration::from_secs(2);
/// How long brokers may take to know of a topic that was made just now.
const NEW_TOPIC_WAIT: Duration = Duration::from_secs(10);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(50);

impl Open {
    /// Makes the feature log's topic, and learns where its partitions end.
    pub(super) fn make_feature_log(&mut self, admin: &Admin, numbers: &[i32]) -> Result<(), ConnectError> {
        let topic = self.log_reader.topic().clone();
        let retention = self.log_retention();
        let new = NewTopic::new(&*topic, self.partition_count, -1)
            .with("cleanup.policy", "delete")
            .with("retention.ms", &retention.to_string());
        self.create_topic(admin, new)?;
        self.keep_log_for(admin, retention);
        let partitions: Vec<_> = numbers
            .iter()
            .map(|n| kafka_client::TopicPartition::new(topic.clone(), *n))
            .collect();
        let isolation = kafka_client::IsolationLevel::ReadCommitted;
        let ends = self.started.runtime.block_on(admin.end_offsets(&partitions, isolation));
        for (partition, end) in ends.map_err(failed("feature log"))? {
            self.log_ends.insert(partition.partition, end);
        }
        let found = self.started.runtime.block_on(admin.topic(&topic));
        let id = found.map_err(failed("feature log"))?.and_then(|found| found.id);
        self.follow_log(id);
        Ok(())
    }

    /// Positions of detached models are of one feature log: where it is another topic now, they go on at its beginning.
    fn follow_log(&mut self, id: Option<TopicId>) {
        let topic = self.log_reader.topic();
        for (number, partition) in &mut self.partitions {
            for (model, entries) in partition.follow_log(id) {
                tracing::warn!(
                    model = %model, topic = %topic, partition = number, lost_at_most = entries,
                    "the feature log was deleted and made again: what the detached model had not run is lost"
                );
                let tenant = model.split('/').next().unwrap_or(&model);
                let entries = u64::try_from(entries).unwrap_or(0);
                self.metrics.shed(tenant, ShedReason::FeatureLog, entries);
            }
        }
    }

    /// How long the feature log keeps entries, in milliseconds: as long as the tenant that asks for most. The topic is
    /// everybody's.
    pub(super) fn log_retention(&self) -> u64 {
        let deployment = self.started.deployment();
        let tenants = deployment.resources.tenants.values();
        let longest = tenants.map(|tenant| tenant.feature_log.retention.as_millis()).max();
        longest.unwrap_or(7 * 86_400_000)
    }

    /// Brings the topic of the feature log up to what tenants ask for now. A worker without the right to do that says so, and
    /// tries again when tenants change.
    pub(super) fn keep_log_for(&mut self, admin: &Admin, retention: u64) {
        if self.log_retention_ms == Some(retention) {
            return;
        }
        let topic = self.log_reader.topic().to_string();
        match self.started.runtime.block_on(keep_for(admin, &topic, retention)) {
            Ok(()) => self.log_retention_ms = Some(retention),
            Err(error) => tracing::warn!(
                topic, retention_ms = retention, error = %error,
                "the retention of the feature log cannot be set as tenants ask for: set it by hand"
            ),
        }
    }

    /// Waits until the global stores have been read as far as their topics went when they were opened: an event that came
    /// before would be given the defaults of its lookups. A store that cannot be read is waited for a while; then the views
    /// that need it get no events until it can be, and the others go on.
    pub(super) fn wait_for_global_stores(&self) -> Result<(), ConnectError> {
        let until = Instant::now() + GLOBAL_STORES_WAIT;
        for name in &self.compile().global_stores {
            let globals = &self.started.globals;
            if let Some(store) = globals.store(name) {
                let left = until.saturating_duration_since(Instant::now());
                store.wait_until(left, |_| store.caught_up());
            }
            match globals.readiness(name) {
                Readiness::Ready => {}
                Readiness::Trouble(_, time) if time >= self.options.store_wait => {}
                Readiness::Reading(why) | Readiness::Trouble(why, _) => {
                    return Err(ConnectError::retriable(format!("global store {name}: {why}")));
                }
            }
        }
        Ok(())
    }
}

/// Sets `retention.ms` where it is another. A topic that another task has just made is not known to every broker yet.
async fn keep_for(admin: &Admin, topic: &str, retention: u64) -> Result<(), KafkaError> {
    let retention = retention.to_string();
    let until = Instant::now() + NEW_TOPIC_WAIT;
    let now = loop {
        match admin.describe_topic_config(topic).await {
            Err(error) if error.code == ErrorCode::UnknownTopicOrPartition && Instant::now() < until => {
                tokio::time::sleep(LOOK).await;
            }
            found => break found?,
        }
    };
    if now.get("retention.ms") == Some(&retention) {
        return Ok(());
    }
    let change = ("retention.ms".to_owned(), ConfigChange::Set(retention));
    admin.alter_topic_config(topic, &[change]).await
}
