//! An event as it comes from a topic, and the scan of its JSON value for the fields that a plan needs.

mod field_paths;
mod number;
mod scanner;
mod time_text;

pub(crate) use field_paths::FieldPaths;
pub(crate) use scanner::scan;
pub(crate) use time_text::parse_time;

/// One record of an input topic.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, epoch milliseconds.
    pub timestamp_ms: i64,
    /// Its key; an expression sees it when it is UTF-8.
    pub key: Option<&'a [u8]>,
    /// Its value: a JSON document.
    pub value: &'a [u8],
    /// Its headers; an expression sees the last one of a name, when it is UTF-8.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Why an event could not be computed. But for [`EventError::State`] no state has been touched when it is given.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The value is not valid JSON (RFC 8259).
    #[error("not valid JSON at byte {position}: {reason}")]
    Json {
        /// Offset in the value, from 0.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The value is valid JSON, but no object: no view has features of it.
    #[error("the value is {found}, an event must be a JSON object")]
    NotAnObject {
        /// What it is, with its article.
        found: &'static str,
    },
    /// The view's `event_time` expression gives no usable time.
    #[error("event_time `{expression}` {reason}")]
    EventTime {
        /// The expression.
        expression: String,
        /// What is wrong with its value.
        reason: &'static str,
    },
    /// The view's state does not take an event of this time ([`crate::AggregateStore::take_time`]).
    #[error("{0}")]
    Refused(String),
    /// State could not be read or written; the event may be tried again once the state is at its last committed position.
    #[error(transparent)]
    State(#[from] StateFault),
}

impl EventError {
    /// Whether the event is none for any view: it is no JSON object. Everything else is between the event and one view.
    pub fn is_of_record(&self) -> bool {
        matches!(self, EventError::Json { .. } | EventError::NotAnObject { .. })
    }
}

/// A failure of the state store behind [`crate::AggregateStore`].
#[derive(Debug, thiserror::Error)]
#[error("state of aggregates: {0}")]
pub struct StateFault(#[source] pub Box<dyn std::error::Error + Send + Sync>);

#[cfg(test)]
mod tests;
