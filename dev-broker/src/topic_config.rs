//! A topic's settings: which there are, their defaults, and what they may be.

use std::collections::BTreeMap;

/// Type numbers of DescribeConfigs.
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;

/// A setting that a topic can have.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value when a topic does not set it.
    pub default: &'static str,
    /// Its type as DescribeConfigs numbers them.
    pub config_type: i8,
}

const fn setting(name: &'static str, default: &'static str, config_type: i8) -> Setting {
    Setting {
        name,
        default,
        config_type,
    }
}

/// Every setting of Kafka's topics, with Kafka's defaults. Those that concern replicas, indexes and
/// flushing are kept and answered; with one node they have nothing to act on.
pub const SETTINGS: &[Setting] = &[
    setting("cleanup.policy", "delete", TYPE_LIST),
    setting("compression.type", "producer", TYPE_STRING),
    setting("delete.retention.ms", "86400000", TYPE_LONG),
    setting("file.delete.delay.ms", "60000", TYPE_LONG),
    setting("flush.messages", "9223372036854775807", TYPE_LONG),
    setting("flush.ms", "9223372036854775807", TYPE_LONG),
    setting("follower.replication.throttled.replicas", "", TYPE_LIST),
    setting("index.interval.bytes", "4096", TYPE_INT),
    setting("leader.replication.throttled.replicas", "", TYPE_LIST),
    setting("max.compaction.lag.ms", "9223372036854775807", TYPE_LONG),
    setting("max.message.bytes", "1048588", TYPE_INT),
    setting("message.timestamp.after.max.ms", "3600000", TYPE_LONG),
    setting("message.timestamp.before.max.ms", "9223372036854775807", TYPE_LONG),
    setting("message.timestamp.type", "CreateTime", TYPE_STRING),
    setting("min.cleanable.dirty.ratio", "0.5", TYPE_DOUBLE),
    setting("min.compaction.lag.ms", "0", TYPE_LONG),
    setting("min.insync.replicas", "1", TYPE_INT),
    setting("preallocate", "false", TYPE_BOOLEAN),
    setting("retention.bytes", "-1", TYPE_LONG),
    setting("retention.ms", "604800000", TYPE_LONG),
    setting("segment.bytes", "1073741824", TYPE_INT),
    setting("segment.index.bytes", "10485760", TYPE_INT),
    setting("segment.jitter.ms", "0", TYPE_LONG),
    setting("segment.ms", "604800000", TYPE_LONG),
    setting("unclean.leader.election.enable", "false", TYPE_BOOLEAN),
];

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// A topic's own settings; everything else has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicConfig {
    own: BTreeMap<String, String>,
}

impl TopicConfig {
    /// Checks every name and value.
    ///
    /// # Errors
    /// A message that names the setting.
    pub fn new(own: BTreeMap<String, String>) -> Result<TopicConfig, String> {
        for (name, value) in &own {
            validate(name, value)?;
        }
        Ok(TopicConfig { own })
    }

    /// What the topic itself sets.
    pub fn own(&self) -> &BTreeMap<String, String> {
        &self.own
    }

    /// The value in force.
    pub fn value(&self, setting: &Setting) -> String {
        self.own
            .get(setting.name)
            .cloned()
            .unwrap_or_else(|| setting.default.to_owned())
    }

    fn text(&self, name: &str) -> &str {
        match self.own.get(name) {
            Some(value) => value,
            None => find(name).map_or("", |setting| setting.default),
        }
    }

    fn long(&self, name: &str) -> i64 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    fn has_policy(&self, wanted: &str) -> bool {
        self.text("cleanup.policy")
            .split(',')
            .any(|policy| policy.trim() == wanted)
    }

    /// Whether the topic keeps only the last record of a key.
    pub fn is_compacted(&self) -> bool {
        self.has_policy("compact")
    }

    /// Whether old records are deleted by age or size.
    pub fn deletes_by_retention(&self) -> bool {
        self.has_policy("delete")
    }

    /// Largest batch, bytes.
    pub fn max_message_bytes(&self) -> usize {
        usize::try_from(self.long("max.message.bytes")).unwrap_or(0)
    }

    /// Whether the broker puts its own time on records.
    pub fn uses_log_append_time(&self) -> bool {
        self.text("message.timestamp.type") == "LogAppendTime"
    }

    /// Age after which records are deleted, milliseconds; `None` is never.
    pub fn retention_ms(&self) -> Option<i64> {
        Some(self.long("retention.ms")).filter(|ms| *ms >= 0)
    }

    /// Size of a partition over which its oldest records are deleted, bytes; `None` is any.
    pub fn retention_bytes(&self) -> Option<usize> {
        usize::try_from(self.long("retention.bytes")).ok()
    }

    /// How long compaction keeps tombstones, milliseconds.
    pub fn delete_retention_ms(&self) -> i64 {
        self.long("delete.retention.ms")
    }

    /// How long compaction leaves a record alone, milliseconds.
    pub fn min_compaction_lag_ms(&self) -> i64 {
        self.long("min.compaction.lag.ms")
    }

    /// After how long a record must be compacted, milliseconds.
    pub fn max_compaction_lag_ms(&self) -> i64 {
        self.long("max.compaction.lag.ms")
    }

    /// The share of new bytes from which on compaction is worth it, 0 to 1.
    pub fn min_cleanable_dirty_ratio(&self) -> f64 {
        self.text("min.cleanable.dirty.ratio").trim().parse().unwrap_or(0.5)
    }

    /// Size at which a file is closed and the next begun, bytes.
    pub fn segment_bytes(&self) -> usize {
        usize::try_from(self.long("segment.bytes")).unwrap_or(usize::MAX)
    }
}

fn validate(name: &str, value: &str) -> Result<(), String> {
    let Some(setting) = find(name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    let invalid = |why: &str| Err(format!("Invalid value {value} for configuration {name}: {why}"));
    let text = value.trim();
    match (setting.config_type, name) {
        (TYPE_INT, _) if text.parse::<i32>().is_err() => return invalid("Not a number of type INT"),
        (TYPE_LONG, _) if text.parse::<i64>().is_err() => return invalid("Not a number of type LONG"),
        (TYPE_DOUBLE, _) if !text.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)) => {
            return invalid("Value must be between 0 and 1");
        }
        (TYPE_BOOLEAN, _) if !matches!(text, "true" | "false") => {
            return invalid("Expected value to be either true or false");
        }
        (_, "cleanup.policy") => {
            let known = |policy: &str| matches!(policy.trim(), "compact" | "delete");
            if !text.split(',').all(known) {
                return invalid("String must be one of: compact, delete");
            }
        }
        (_, "message.timestamp.type") if !matches!(text, "CreateTime" | "LogAppendTime") => {
            return invalid("String must be one of: CreateTime, LogAppendTime");
        }
        (_, "compression.type") if text != "producer" => {
            return invalid("this broker keeps batches as producers sent them: use producer");
        }
        _ => {}
    }
    let minimum = match name {
        "retention.bytes" | "retention.ms" => -1,
        "segment.bytes" => 14,
        "segment.ms" | "max.compaction.lag.ms" | "min.insync.replicas" => 1,
        _ => 0,
    };
    match text.parse::<i64>() {
        Ok(number) if number < minimum => invalid(&format!("Value must be at least {minimum}")),
        _ => Ok(()),
    }
}
