//! `kind: store`: a whole topic on every worker, or state by key.

use serde::Serialize;

use super::TimeSpan;
use super::fields::Fields;

/// A store: global (a copy of a topic) or keyed (state of aggregates, partitioned as the input is).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// Global or keyed.
    #[serde(flatten)]
    pub kind: StoreKind,
}

/// The two kinds of store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StoreKind {
    /// `global:` a whole copy of a compacted topic on every worker. Its values are JSON objects, with or without the envelope
    /// of a converter, or Debezium's change events.
    Global {
        /// The topic.
        global: GlobalSource,
        /// How keys are written. Absent: by any of the converters that are usual for keys, told apart key by key.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<KeyFormat>,
        /// What a version must hold before it serves.
        #[serde(skip_serializing_if = "Option::is_none")]
        gate: Option<Gate>,
    },
    /// `keyed:` state by key with a changelog topic behind it.
    Keyed {
        /// The key.
        keyed: KeyedBy,
        /// Time to live of an entry; for ever when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<Ttl>,
        /// Whether expired entries go to the archive before they are deleted.
        archive: bool,
    },
}

/// The topic of a global store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GlobalSource {
    /// Its name.
    pub topic: String,
}

/// How the keys of a topic are written: the converter that wrote them, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum KeyFormat {
    /// `StringConverter`: the bytes as they are.
    String,
    /// `JsonConverter`, with or without its envelope.
    Json {
        /// Fields of a struct that make up the key, in this order; empty: the struct has exactly one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        fields: Vec<String>,
        /// What stands between the texts of several fields.
        separator: String,
    },
    /// `ShortConverter`: two bytes, big endian.
    Short,
    /// `IntegerConverter`: four bytes, big endian.
    Integer,
    /// `LongConverter`: eight bytes, big endian.
    Long,
}

/// What stands between the fields of a key where nothing else is said; REST shows the keys of keyed stores so, too.
pub const KEY_SEPARATOR: &str = "|";

/// What a keyed store is keyed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyedBy {
    /// Expressions over the event.
    pub by: Vec<String>,
}

/// What a version of a global store must hold; otherwise the last good version keeps serving.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gate {
    /// Least number of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rows: Option<u64>,
    /// Largest part of the rows that may be gone against the last good version, as a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_shrink: Option<f64>,
    /// Fields that every row must have, not null. A changed row without one keeps its old value.
    pub required: Vec<String>,
}

/// Time to live of a store's entries, in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Ttl {
    /// An entry is visible while `event time < since + after`.
    pub after: TimeSpan,
    /// What starts the time.
    pub since: Since,
}

/// What starts an entry's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// Its last write (the default).
    Write,
    /// Its last read or write.
    Access,
}

impl Store {
    /// Whether it is a global store.
    pub fn is_global(&self) -> bool {
        matches!(self.kind, StoreKind::Global { .. })
    }

    /// The topic of a global store.
    pub fn global_topic(&self) -> Option<&str> {
        match &self.kind {
            StoreKind::Global { global, .. } => Some(&global.topic),
            StoreKind::Keyed { .. } => None,
        }
    }

    /// Time to live of a keyed store's entries.
    pub fn ttl(&self) -> Option<Ttl> {
        match self.kind {
            StoreKind::Keyed { ttl, .. } => ttl,
            StoreKind::Global { .. } => None,
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Store {
        let name = fields.name("name");
        if fields.whole("standby", 0..=16).unwrap_or(0) > 0 {
            fields.not_supported("standby", "state is restored from the changelog; use 0");
        }
        let kind = match (fields.has("global"), fields.has("keyed")) {
            (true, false) => read_global(fields),
            (false, true) => read_keyed(fields),
            (true, true) => {
                fields.error("", "a store has either `global` or `keyed`, not both");
                read_global(fields);
                read_keyed(fields)
            }
            (false, false) => {
                fields.error("", "a store needs `global` (a topic) or `keyed` (what it is keyed by)");
                read_keyed(fields)
            }
        };
        Store { name, kind }
    }
}

fn read_global(fields: &mut Fields<'_>) -> StoreKind {
    let topic = fields.object("global", |global| {
        global.require("topic");
        global.topic("topic")
    });
    fields.object("value", |value| {
        let format = value.text("format");
        if let Some(format) = format.filter(|format| format != "json") {
            value.not_supported("format", &format!("`{format}` values cannot be read; use json"));
        }
        Some(())
    });
    for field in ["ttl", "archive"] {
        if !fields.has("keyed") && fields.value(field).is_some() {
            fields.error(field, "is of keyed stores only");
        }
    }
    let gate = fields.object("gate", |gate| {
        let max_shrink = gate.share("max_shrink");
        Some(Gate {
            min_rows: gate.whole("min_rows", 0..=u64::MAX),
            max_shrink,
            required: gate.texts("required"),
        })
    });
    StoreKind::Global {
        global: GlobalSource {
            topic: topic.unwrap_or_default(),
        },
        key: fields.object("key", read_key_format),
        gate,
    }
}

fn read_key_format(key: &mut Fields<'_>) -> Option<KeyFormat> {
    let format = key.required_text("format")?;
    let (has_fields, has_separator) = (key.has("fields"), key.has("separator"));
    let fields = key.texts("fields");
    let separator = key.text("separator").unwrap_or_else(|| KEY_SEPARATOR.to_owned());
    if (has_fields || has_separator) && format != "json" {
        key.error(
            "fields",
            "is of keys in JSON only: those of other formats have no fields",
        );
    } else if has_separator && fields.len() < 2 {
        key.error(
            "separator",
            "stands between several `fields`, and there are not several",
        );
    }
    if fields
        .iter()
        .enumerate()
        .any(|(number, name)| fields.iter().take(number).any(|before| before == name))
    {
        key.error("fields", "names a field twice");
    }
    match format.as_str() {
        "string" => Some(KeyFormat::String),
        "json" => Some(KeyFormat::Json { fields, separator }),
        "short" => Some(KeyFormat::Short),
        "integer" => Some(KeyFormat::Integer),
        "long" => Some(KeyFormat::Long),
        other => {
            key.not_supported(
                "format",
                &format!(
                    "`{other}` keys cannot be read; use string, json, short, integer or long, or leave `key` out where \
                     StringConverter or JsonConverter writes the keys"
                ),
            );
            None
        }
    }
}

fn read_keyed(fields: &mut Fields<'_>) -> StoreKind {
    let by = fields.object("keyed", |keyed| {
        keyed.require("by");
        Some(keyed.texts("by"))
    });
    for field in ["gate", "key", "value"] {
        if !fields.has("global") && fields.value(field).is_some() {
            fields.error(field, "is of global stores only");
        }
    }
    let ttl = fields.object("ttl", |ttl| {
        ttl.require("after");
        let since = ttl.choice("since", &[("write", Since::Write), ("access", Since::Access)]);
        Some(Ttl {
            after: ttl.positive_span("after")?,
            since: since.unwrap_or(Since::Write),
        })
    });
    let archive = fields.flag("archive").unwrap_or(false);
    if archive && ttl.is_none() && !fields.has("ttl") {
        fields.error("archive", "needs a `ttl`: only expired entries are archived");
    }
    StoreKind::Keyed {
        keyed: KeyedBy {
            by: by.unwrap_or_default(),
        },
        ttl,
        archive,
    }
}
