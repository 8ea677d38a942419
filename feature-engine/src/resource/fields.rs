//! Typed reads of a document's fields. Each read names its field once; whatever is wrong is noted with its full path and
//! reading goes on, and a field that nobody read is an unknown one.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::quantity::parse_share;
use super::{ByteSize, FieldError, TimeSpan, is_resource_name};

pub(super) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    errors: &'a RefCell<Vec<FieldError>>,
    read: RefCell<Vec<&'a str>>,
    open: bool,
}

impl<'a> Fields<'a> {
    /// Reads a whole document; a result that comes with errors is dropped.
    pub fn read_document<T>(
        document: &Value,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Result<T, Vec<FieldError>> {
        let errors = RefCell::new(Vec::new());
        let result = match document {
            Value::Object(map) => Fields::read_map(String::new(), map, &errors, read),
            other => {
                errors.borrow_mut().push(FieldError::new(
                    "",
                    format!("expected an object, not {}", kind_of(other)),
                ));
                None
            }
        };
        match (result, errors.into_inner()) {
            (Some(result), errors) if errors.is_empty() => Ok(result),
            (_, errors) => Err(errors),
        }
    }

    fn read_map<T>(
        path: String,
        map: &Map<String, Value>,
        errors: &RefCell<Vec<FieldError>>,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut fields = Fields {
            path,
            map,
            errors,
            read: RefCell::new(Vec::new()),
            open: false,
        };
        let result = read(&mut fields);
        fields.refuse_unknown();
        result
    }

    /// Notes an error of `field` (of the object itself when empty).
    pub fn error(&self, field: &str, message: impl Into<String>) {
        self.errors
            .borrow_mut()
            .push(FieldError::new(self.path_of(field), message));
    }

    /// Notes that `field`, if it is there, is not supported yet. `detail` says what is or what to do instead.
    pub fn unsupported(&self, field: &str, detail: &str) {
        if self.value(field).is_some() {
            self.not_supported(field, detail);
        }
    }

    /// Notes that what `field` asks for is not supported yet.
    pub fn not_supported(&self, field: &str, detail: &str) {
        let separator = if detail.is_empty() { "" } else { "; " };
        self.error(
            field,
            format!("`{}` is not supported yet{separator}{detail}", self.path_of(field)),
        );
    }

    /// Lets fields that nobody read pass, because the object's kind is not known.
    pub fn ignore_unknown(&mut self) {
        self.open = true;
    }

    /// Whether the field is there and not null.
    pub fn has(&self, field: &str) -> bool {
        self.map.get(field).is_some_and(|value| !value.is_null())
    }

    /// The field's value; null counts as absent.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        let (name, value) = self.map.get_key_value(field)?;
        self.read.borrow_mut().push(name);
        (!value.is_null()).then_some(value)
    }

    /// The object's own entries, all of them counted as read.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.read.borrow_mut().extend(self.map.keys().map(String::as_str));
        self.map.iter()
    }

    pub fn text(&self, field: &str) -> Option<String> {
        match self.value(field)? {
            Value::String(text) if text.trim().is_empty() => self.wrong(field, "is empty"),
            Value::String(text) => Some(text.clone()),
            other => self.wrong(field, format!("expected text, not {}", kind_of(other))),
        }
    }

    pub fn required_text(&self, field: &str) -> Option<String> {
        self.require(field);
        self.text(field)
    }

    /// A required resource name; empty when it is wrong, which is noted.
    pub fn name(&self, field: &str) -> String {
        self.require(field);
        self.optional_name(field).unwrap_or_default()
    }

    pub fn optional_name(&self, field: &str) -> Option<String> {
        let name = self.text(field)?;
        if is_resource_name(&name) {
            return Some(name);
        }
        self.wrong(
            field,
            format!("`{name}` is not a name; use 1 to 63 of a-z, 0-9, _ and -"),
        )
    }

    /// A Kafka topic name.
    pub fn topic(&self, field: &str) -> Option<String> {
        let topic = self.text(field)?;
        match check_topic(&topic) {
            Ok(()) => Some(topic),
            Err(message) => self.wrong(field, message),
        }
    }

    pub fn topics(&self, field: &str) -> Vec<String> {
        let topics = self.texts(field);
        for topic in &topics {
            if let Err(message) = check_topic(topic) {
                self.error(field, message);
            }
        }
        topics
    }

    pub fn flag(&self, field: &str) -> Option<bool> {
        match self.value(field)? {
            Value::Bool(flag) => Some(*flag),
            other => self.wrong(field, format!("expected true or false, not {}", kind_of(other))),
        }
    }

    /// A whole number in a range, both ends included.
    pub fn whole(&self, field: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(field)?;
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => self.wrong(
                field,
                format!("expected a whole number from {} to {}", range.start(), range.end()),
            ),
        }
    }

    /// A finite number above zero.
    pub fn positive(&self, field: &str) -> Option<f64> {
        let value = self.value(field)?;
        match value.as_f64().filter(|number| number.is_finite() && *number > 0.0) {
            Some(number) => Some(number),
            None => self.wrong(field, "expected a number above 0"),
        }
    }

    pub fn share(&self, field: &str) -> Option<f64> {
        let text = match self.value(field)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return self.wrong(field, format!("expected a share such as 10%, not {}", kind_of(other))),
        };
        parse_share(&text).map_or_else(|message| self.wrong(field, message), Some)
    }

    pub fn span(&self, field: &str) -> Option<TimeSpan> {
        match self.value(field)? {
            Value::String(text) => TimeSpan::parse(text).map_or_else(|message| self.wrong(field, message), Some),
            other => self.wrong(
                field,
                format!("expected a time span such as 30s, not {}", kind_of(other)),
            ),
        }
    }

    /// A time span above zero.
    pub fn positive_span(&self, field: &str) -> Option<TimeSpan> {
        let span = self.span(field)?;
        if span.as_millis() == 0 {
            self.wrong(field, "must be above 0")
        } else {
            Some(span)
        }
    }

    pub fn size(&self, field: &str) -> Option<ByteSize> {
        let text = match self.value(field)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return self.wrong(field, format!("expected a size such as 256MiB, not {}", kind_of(other))),
        };
        ByteSize::parse(&text).map_or_else(|message| self.wrong(field, message), Some)
    }

    /// One of the given words.
    pub fn choice<T: Copy>(&self, field: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(field)?;
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Some(*choice),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                self.wrong(field, format!("`{text}` is not known; use one of {}", words.join(", ")))
            }
        }
    }

    /// A text or a list of texts.
    pub fn texts(&self, field: &str) -> Vec<String> {
        match self.value(field) {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    match item {
                        Value::String(text) if !text.trim().is_empty() => texts.push(text.clone()),
                        other => {
                            let message = format!("expected text, not {}", kind_of(other));
                            self.error(&format!("{field}[{index}]"), message);
                        }
                    }
                }
                texts
            }
            Some(_) => self.text(field).into_iter().collect(),
        }
    }

    /// Reads a nested object.
    pub fn object<T>(&self, field: &str, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
        match self.value(field)? {
            Value::Object(map) => Fields::read_map(self.path_of(field), map, self.errors, read),
            other => self.wrong(field, format!("expected an object, not {}", kind_of(other))),
        }
    }

    /// Notes an error when the field is absent.
    pub fn require(&self, field: &str) {
        if !self.has(field) {
            self.error(field, "is required");
        }
    }

    fn wrong<T>(&self, field: &str, message: impl Into<String>) -> Option<T> {
        self.error(field, message);
        None
    }

    fn path_of(&self, field: &str) -> String {
        match (self.path.is_empty(), field.is_empty()) {
            (true, _) => field.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{field}", self.path),
        }
    }

    fn refuse_unknown(&self) {
        if self.open {
            return;
        }
        let read = self.read.borrow();
        for name in self.map.keys().filter(|name| !read.contains(&name.as_str())) {
            self.error(name, "is not a known field here");
        }
    }
}

/// Kafka's rule for topic names (org.apache.kafka.common.internals.Topic).
fn check_topic(topic: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=249).contains(&topic.len()) && topic.bytes().all(legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(format!(
        "`{topic}` is not a topic name; use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'"
    ))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
