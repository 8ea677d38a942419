//! Errors of connectors, tasks, converters and transforms.
//!
//! An error has a kind, which decides what the runtime does about it, and a message, which tells a person what they
//! wrote and what to do. What the runtime does with each kind stands in one place, in its error policy.

use std::fmt;

/// What sort of failure it is; the runtime's error policy is an exhaustive match over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Worth another try with the same input (`RetriableException`).
    Retriable,
    /// The data of one record is at fault (`DataException`, `SchemaBuilderException`).
    Data,
    /// What the user configured is at fault (`ConfigException`).
    Config,
    /// Asked for something that does not exist (`NotFoundException`).
    NotFound,
    /// The operation is not supported (`UnsupportedOperationException`).
    Unsupported,
    /// Anything else (`ConnectException`).
    Fatal,
}

impl ErrorKind {
    /// The Java exception class that a Java worker would name in headers and traces.
    pub fn java_class(self) -> &'static str {
        match self {
            ErrorKind::Retriable => "org.apache.kafka.connect.errors.RetriableException",
            ErrorKind::Data => "org.apache.kafka.connect.errors.DataException",
            ErrorKind::Config => "org.apache.kafka.common.config.ConfigException",
            ErrorKind::NotFound => "org.apache.kafka.connect.errors.NotFoundException",
            ErrorKind::Unsupported => "java.lang.UnsupportedOperationException",
            ErrorKind::Fatal => "org.apache.kafka.connect.errors.ConnectException",
        }
    }
}

/// The stage of a record's way in which it failed (contract 7.1; names as in upstream's `Stage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// `SourceTask::poll`
    TaskPoll,
    /// `SinkTask::put` or `PartitionedSinkTask::hand_over`
    TaskPut,
    /// a transformation
    Transformation,
    /// the key converter
    KeyConverter,
    /// the value converter
    ValueConverter,
    /// the header converter
    HeaderConverter,
    /// sending to Kafka
    KafkaProduce,
    /// reading from Kafka
    KafkaConsume,
}

impl Stage {
    /// The upper-case name used in logs and dead letter headers.
    pub fn name(self) -> &'static str {
        match self {
            Stage::TaskPoll => "TASK_POLL",
            Stage::TaskPut => "TASK_PUT",
            Stage::Transformation => "TRANSFORMATION",
            Stage::KeyConverter => "KEY_CONVERTER",
            Stage::ValueConverter => "VALUE_CONVERTER",
            Stage::HeaderConverter => "HEADER_CONVERTER",
            Stage::KafkaProduce => "KAFKA_PRODUCE",
            Stage::KafkaConsume => "KAFKA_CONSUME",
        }
    }
}

/// An error with its kind, its message and what caused it.
#[derive(Clone)]
pub struct ConnectError {
    kind: ErrorKind,
    message: String,
    java_class: Option<&'static str>,
    cause: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl ConnectError {
    /// An error of `kind`; `message` names what the user wrote and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            java_class: None,
            cause: None,
        }
    }

    /// Worth another try.
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retriable, message)
    }

    /// The record's data is at fault.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// The configuration is at fault.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Anything else.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, message)
    }

    /// The operation is not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Names a Java class other than the kind's own, where clients see and compare it.
    pub fn with_java_class(mut self, class: &'static str) -> Self {
        self.java_class = Some(class);
        self
    }

    /// Adds what caused it; shown in traces as `Caused by:`.
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(std::sync::Arc::new(cause));
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The Java class that stands for it.
    pub fn java_class(&self) -> &'static str {
        self.java_class.unwrap_or(self.kind.java_class())
    }

    /// A trace in the form of a Java stack trace without frames: `Class: message`, then the causes.
    pub fn trace(&self) -> String {
        let mut text = format!("{}: {}", self.java_class(), self.message);
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str("\nCaused by: ");
            match error.downcast_ref::<ConnectError>() {
                Some(inner) => text.push_str(&format!("{}: {}", inner.java_class(), inner.message)),
                None => text.push_str(&error.to_string()),
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.message)?;
        match &self.cause {
            Some(cause) => write!(formatter, " (caused by: {cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
