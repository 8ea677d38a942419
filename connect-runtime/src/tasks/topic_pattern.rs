//! Topics that a sink names by a pattern (`topics.regex`), found as Java's consumer finds them: the names of all topics
//! are looked at now and then (`metadata.max.age.ms`), and those that the pattern matches whole are subscribed to.
//!
//! librdkafka could subscribe to a pattern itself, but its expressions are not Java's.

use connect_api::ConnectError;
use connect_api::config::java_regex;
use connect_api::java_regex::JavaRegex;
use indexmap::IndexMap;
use std::time::{Duration, Instant};

/// Kafka's own topics, which a pattern does not see unless `exclude.internal.topics=false`.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];
/// `metadata.max.age.ms` where the consumer's settings do not say.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Until the next look after one that failed.
const RETRY: Duration = Duration::from_secs(1);

/// A pattern, and what it matches so far.
pub(super) struct TopicPattern {
    regex: JavaRegex,
    internal_too: bool,
    max_age: Duration,
    next_look: Instant,
    matching: Vec<String>,
}

impl TopicPattern {
    /// The pattern of `topics.regex`; `consumer` are the settings of the task's consumer.
    ///
    /// # Errors
    /// It is no regular expression.
    pub(super) fn new(pattern: &str, consumer: &IndexMap<String, String>, now: Instant) -> Result<Self, ConnectError> {
        let setting = |name: &str| consumer.get(name).map(|value| value.trim());
        let max_age = setting("metadata.max.age.ms").and_then(|value| value.parse().ok());
        Ok(Self {
            regex: java_regex("topics.regex", pattern)?,
            internal_too: setting("exclude.internal.topics").is_some_and(|value| value.eq_ignore_ascii_case("false")),
            max_age: max_age.map_or(MAX_AGE, Duration::from_millis),
            next_look: now,
            matching: Vec::new(),
        })
    }

    /// When the names of the topics are to be looked at.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Takes the names of all topics: those to subscribe to, where they are others than before. Where none matches any
    /// more, the subscription stays as it is.
    ///
    /// # Errors
    /// The pattern takes too many steps on a name.
    pub(super) fn seen(&mut self, names: Vec<String>, now: Instant) -> Result<Option<&[String]>, ConnectError> {
        self.next_look = now + self.max_age;
        let mut matching = Vec::new();
        for name in names {
            let visible = self.internal_too || !INTERNAL_TOPICS.contains(&name.as_str());
            if visible && self.regex.matches(&name)? {
                matching.push(name);
            }
        }
        matching.sort_unstable();
        if matching.is_empty() || matching == self.matching {
            return Ok(None);
        }
        self.matching = matching;
        Ok(Some(&self.matching))
    }

    /// The names could not be had.
    pub(super) fn not_seen(&mut self, now: Instant) {
        self.next_look = now + self.max_age.min(RETRY);
    }

    /// Whether no topic has matched yet.
    pub(super) fn matches_nothing(&self) -> bool {
        self.matching.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(pattern: &str, settings: &[(&str, &str)]) -> TopicPattern {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TopicPattern::new(pattern, &settings.collect(), Instant::now()).unwrap()
    }

    fn seen(pattern: &mut TopicPattern, names: &[&str]) -> Option<Vec<String>> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let subscribed = pattern.seen(names, Instant::now()).unwrap();
        subscribed.map(<[String]>::to_vec)
    }

    #[test]
    fn topics_that_come_and_go_change_the_subscription() {
        let mut pattern = pattern("(?!old-)[a-z]+-orders", &[]);
        assert_eq!(seen(&mut pattern, &["x"]), None);
        assert!(pattern.matches_nothing());
        let first = seen(&mut pattern, &["shop-orders", "old-orders", "shop-orders-2"]);
        assert_eq!(first, Some(vec!["shop-orders".to_owned()]));
        assert_eq!(seen(&mut pattern, &["shop-orders", "old-orders"]), None);
        let second = seen(&mut pattern, &["shop-orders", "bank-orders"]);
        assert_eq!(second, Some(vec!["bank-orders".to_owned(), "shop-orders".to_owned()]));
        assert_eq!(
            seen(&mut pattern, &["bank-orders"]),
            Some(vec!["bank-orders".to_owned()])
        );
        assert_eq!(seen(&mut pattern, &[]), None, "as it was");
    }

    #[test]
    fn kafkas_own_topics_are_seen_only_on_request() {
        let names = ["__consumer_offsets", "_own"];
        assert_eq!(seen(&mut pattern(".*", &[]), &names), Some(vec!["_own".to_owned()]));
        let asked = seen(&mut pattern(".*", &[("exclude.internal.topics", "false")]), &names);
        assert_eq!(asked.map(|topics| topics.len()), Some(2));
    }

    #[test]
    fn names_are_looked_at_again_in_time() {
        let start = Instant::now();
        let mut pattern = pattern("a", &[("metadata.max.age.ms", "5000")]);
        assert!(pattern.next_look() <= Instant::now());
        pattern.seen(Vec::new(), start).unwrap();
        assert_eq!(pattern.next_look(), start + Duration::from_secs(5));
        pattern.not_seen(start);
        assert_eq!(pattern.next_look(), start + Duration::from_secs(1));
    }
}
