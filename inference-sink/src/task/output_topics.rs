//! Output topics that are not there: the models that write to them wait, with the reason in their status, and go on by themselves
//! when somebody has made the topic. Nobody else's commit waits for it.

use super::Open;
use crate::output::{RefusedTopic, advice, ask_for, not_there, wait_until_made};
use crate::service::client_config;
use kafka_client::{Admin, ErrorCode, KafkaError};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two looks at topics that were missing.
const LOOK: Duration = Duration::from_secs(3);
/// Between two attempts to have brokers make them.
const ASK: Duration = Duration::from_secs(60);
/// A look that takes longer has no answer: the task's thread waits for it.
const ANSWER: Duration = Duration::from_secs(2);

/// What is known of output topics.
#[derive(Default)]
pub(super) struct OutputTopics {
    admin: Option<Admin>,
    /// those that were not there at the last look
    missing: BTreeSet<String>,
    /// the next look; none: nothing is missing
    next: Option<Instant>,
    /// when brokers may be asked again to make them
    next_ask: Option<Instant>,
}

impl Open {
    /// Looks at the topics of all models, after they were installed.
    pub(super) fn prepare_outputs(&mut self) {
        let outputs = self.models.iter().map(|model| &model.pending.model.output_topic);
        let topics = outputs.chain(self.topology.shed_topics.values());
        let topics: BTreeSet<String> = topics.map(ToString::to_string).collect();
        self.output_topics = OutputTopics::default();
        self.look_at_outputs(topics, true);
    }

    /// Looks again at what was missing, when it is time.
    pub(super) fn follow_outputs(&mut self, now: Instant) {
        if self.output_topics.next.is_some_and(|next| now >= next) {
            let missing = self.output_topics.missing.clone();
            self.look_at_outputs(missing, false);
        }
    }

    /// A write has found that a topic is not there.
    pub(super) fn output_is_missing(&mut self, topic: &str) {
        self.output_topics.missing.insert(topic.to_owned());
        self.output_topics.next = Some(Instant::now());
    }

    /// `patiently`: brokers have their time to make what they make by themselves.
    fn look_at_outputs(&mut self, topics: BTreeSet<String>, patiently: bool) {
        if topics.is_empty() {
            return;
        }
        self.output_topics.next = Some(Instant::now() + LOOK);
        let missing = match self.missing_outputs(&topics, patiently) {
            Ok(missing) => missing,
            Err(error) => {
                // Nothing is known of them: an outage, or no right to look. The next write tells.
                tracing::debug!(error = %error, "output topics could not be looked at");
                return;
            }
        };
        for topic in topics {
            if missing.contains(&topic) {
                self.output_topics.missing.insert(topic.clone());
                self.hold_outputs(topic);
            } else if self.output_topics.missing.remove(&topic) {
                self.output_is_there(&topic);
            }
        }
        let missing = !self.output_topics.missing.is_empty();
        self.output_topics.next = missing.then(|| Instant::now() + LOOK);
        if !missing {
            self.output_topics.admin = None;
        }
    }

    /// Models that write to a topic wait until it is there.
    fn hold_outputs(&mut self, topic: String) {
        let refused = RefusedTopic {
            error: advice(&topic),
            topic: topic.into(),
            of_records: false,
            missing: true,
        };
        let own = self.models.iter().map(|model| &model.pending.model);
        let own = own.filter(|served| served.output_topic == refused.topic);
        let new = own.filter(|served| !self.refusals.is_held(&served.identity));
        let only: BTreeSet<_> = new.map(|served| served.identity.clone()).collect();
        let shed = self.is_shed_topic(&refused.topic);
        if !only.is_empty() || (shed && !self.refusals.leaves_alone(&refused.topic)) {
            self.refuse_topic(&refused, Some(&only));
        }
        for model in self
            .models
            .iter()
            .filter(|model| model.pending.model.output_topic == refused.topic)
        {
            model.flow.runtime.outputs_refused(&refused.reason());
        }
        for model in self.models.iter().filter(|_| shed) {
            let runtime = &model.flow.runtime;
            if self.topology.shed_topics.get(&*runtime.tenant) == Some(&refused.topic) {
                runtime.note(format!("events that are shed are not written: {}", refused.error));
            }
        }
    }

    /// A topic that was missing is there.
    fn output_is_there(&mut self, topic: &str) {
        tracing::info!(topic, "an output topic that was missing is there");
        self.refusals.shed_taken(topic);
        let now = Instant::now();
        for model in self
            .models
            .iter()
            .filter(|model| *model.pending.model.output_topic == *topic)
        {
            self.refusals.release(&model.pending.model.identity, now);
        }
    }

    fn missing_outputs(&mut self, topics: &BTreeSet<String>, patiently: bool) -> Result<BTreeSet<String>, KafkaError> {
        let clients = &self.context.clients;
        let known = &mut self.output_topics;
        let admin = match &known.admin {
            Some(admin) => admin,
            None => {
                let config = client_config(&clients.admin)
                    .map_err(|error| KafkaError::new(ErrorCode::InvalidConfig, error.message()))?;
                known.admin.insert(Admin::new(&config)?.with_timeout(ANSWER))
            }
        };
        let may_ask = known.next_ask.is_none_or(|next| Instant::now() >= next);
        if may_ask {
            known.next_ask = Some(Instant::now() + ASK);
        }
        self.started.runtime.block_on(async {
            let missing = not_there(admin, topics).await?;
            if may_ask && ask_for(admin, &clients.producer, &missing).await? && patiently {
                return wait_until_made(admin, missing).await;
            }
            Ok(missing)
        })
    }
}
