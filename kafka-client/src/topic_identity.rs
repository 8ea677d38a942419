//! Whether a topic is still the one that somebody has read, or has kept positions of. Pure.

use std::fmt;
use std::sync::Arc;

use crate::cluster_description::TopicDescription;
use crate::topic_partition::TopicId;

/// A topic as it was at one moment, as far as positions in it depend on that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicIdentity {
    /// Its name.
    pub name: Arc<str>,
    /// `None`: the brokers do not know ids yet.
    pub id: Option<TopicId>,
    /// How many partitions it has.
    pub partitions: i32,
}

/// What has become of a topic. Positions in it, and what was computed from it by key, do not fit it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicChange {
    /// It is not there now.
    Gone {
        /// its name
        topic: Arc<str>,
    },
    /// It was deleted and made again: its records and offsets are others.
    MadeAgain {
        /// its name
        topic: Arc<str>,
        /// the id that it had
        before: TopicId,
        /// the id that it has
        now: TopicId,
    },
    /// It has another number of partitions: its keys lie in others than before.
    Repartitioned {
        /// its name
        topic: Arc<str>,
        /// partitions that it had
        before: i32,
        /// partitions that it has
        now: i32,
    },
}

impl TopicIdentity {
    /// What brokers say of a topic.
    pub fn of(topic: &TopicDescription) -> Self {
        Self {
            name: topic.name.as_str().into(),
            id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        }
    }

    /// What has become of it since, if anything.
    pub fn change(&self, now: Option<&TopicIdentity>) -> Option<TopicChange> {
        let topic = Arc::clone(&self.name);
        let Some(now) = now.filter(|now| now.partitions > 0) else {
            return Some(TopicChange::Gone { topic });
        };
        match (self.id, now.id) {
            (Some(before), Some(now)) if before != now => Some(TopicChange::MadeAgain { topic, before, now }),
            _ if now.partitions != self.partitions => Some(TopicChange::Repartitioned {
                topic,
                before: self.partitions,
                now: now.partitions,
            }),
            _ => None,
        }
    }
}

/// What happened, and what to do.
impl fmt::Display for TopicChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicChange::Gone { topic } => write!(
                f,
                "topic {topic} does not exist: create it (a worker never makes a topic that it reads), or take it out of topics"
            ),
            TopicChange::MadeAgain { topic, before, now } => write!(
                f,
                "topic {topic} was deleted and made again (its id is {now}, and was {before} when the task started): positions \
                 and state are of the topic that is gone; make a connector with another name for the new one"
            ),
            TopicChange::Repartitioned { topic, before, now } => write!(
                f,
                "topic {topic} has {now} partitions now, {before} when the task started: keys may lie in other partitions \
                 than their state; make a connector with another name, which reads the topic from its beginning"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u8, partitions: i32) -> TopicIdentity {
        TopicIdentity {
            name: "events".into(),
            id: TopicId::from_bytes([id; 16]),
            partitions,
        }
    }

    #[test]
    fn a_topic_that_is_another_one_is_noticed_by_name() {
        let before = topic(1, 4);
        for same in [topic(1, 4), topic(0, 4)] {
            assert_eq!(before.change(Some(&same)), None);
            assert_eq!(same.change(Some(&before)), None);
        }
        for (now, words) in [
            (None, "topic events does not exist"),
            (Some(topic(1, 0)), "topic events does not exist"),
            (Some(topic(2, 4)), "topic events was deleted and made again"),
            (Some(topic(2, 1)), "topic events was deleted and made again"),
            (Some(topic(1, 8)), "topic events has 8 partitions now, 4 when"),
            (Some(topic(0, 1)), "topic events has 1 partitions now, 4 when"),
        ] {
            let change = before.change(now.as_ref()).map(|change| change.to_string());
            assert!(change.as_ref().is_some_and(|text| text.contains(words)), "{change:?}");
        }
    }
}
