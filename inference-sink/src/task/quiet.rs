//! Since when nothing has come to the input: what idle time may be counted from. Kafka is asked, in the background: a broker that
//! is away is no idle input, and neither is what has not been fetched yet.

use crate::service::client_config;
use connect_api::error::ConnectError;
use connect_api::partitioned::PartitionedTaskContext;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_client::{Admin, IsolationLevel, KafkaError, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two questions.
const PACE: Duration = Duration::from_secs(1);

type Ends = Result<Vec<(TopicPartition, i64)>, KafkaError>;

/// What is known of the input's ends.
pub(super) struct QuietInput {
    admin: Arc<Admin>,
    partitions: Arc<[TopicPartition]>,
    answers: Receiver<Ends>,
    answer: Sender<Ends>,
    asked: Option<Instant>,
    waits: bool,
    ends: BTreeMap<(String, i32), i64>,
    /// by partition, of all topics: wall clock of the first look that found the ends where they are
    since_ms: BTreeMap<i32, i64>,
}

impl QuietInput {
    /// Of these partitions of these topics.
    pub fn new(
        context: &PartitionedTaskContext,
        topics: &[Arc<str>],
        numbers: &[i32],
    ) -> Result<QuietInput, ConnectError> {
        let admin = Admin::new(&client_config(&context.clients.admin)?)
            .map_err(|error| ConnectError::retriable(format!("admin client: {error}")))?;
        let partitions = topics
            .iter()
            .flat_map(|topic| numbers.iter().map(|number| TopicPartition::new(topic.clone(), *number)));
        let (answer, answers) = bounded(1);
        Ok(QuietInput {
            admin: Arc::new(admin),
            partitions: partitions.collect(),
            answers,
            answer,
            asked: None,
            waits: false,
            ends: BTreeMap::new(),
            since_ms: BTreeMap::new(),
        })
    }

    /// Since when the partitions are quiet, by the wall clock; without those of which that is not known.
    pub fn look(&mut self, runtime: &tokio::runtime::Handle, wall_ms: i64) -> &BTreeMap<i32, i64> {
        if let Ok(ends) = self.answers.try_recv() {
            self.waits = false;
            self.take(ends, wall_ms);
        }
        if !self.waits && self.asked.is_none_or(|asked| asked.elapsed() >= PACE) {
            (self.waits, self.asked) = (true, Some(Instant::now()));
            let (admin, partitions, answer) = (self.admin.clone(), self.partitions.clone(), self.answer.clone());
            runtime.spawn(async move {
                let ends = admin.end_offsets(&partitions, IsolationLevel::ReadUncommitted).await;
                // Who asked may have gone.
                let _ = answer.try_send(ends.map(|ends| ends.into_iter().collect()));
            });
        }
        &self.since_ms
    }

    fn take(&mut self, ends: Ends, wall_ms: i64) {
        let Ok(ends) = ends else {
            // Whatever has come meanwhile is not known.
            self.ends.clear();
            self.since_ms.clear();
            return;
        };
        for (place, end) in ends {
            let before = self.ends.insert((place.topic.to_string(), place.partition), end);
            if before != Some(end) {
                self.since_ms.insert(place.partition, wall_ms);
            }
        }
    }
}
