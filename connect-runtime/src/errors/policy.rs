//! The one place that says what happens on which error (contract 7.1).

use connect_api::{ErrorKind, Stage};

/// What becomes of a record that fails for good (`errors.tolerance`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// the task fails
    None,
    /// the record is skipped
    All,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// try the same again after a wait
    Retry,
    /// report the record and go on with the next
    Skip,
    /// report the record and fail the task: `Tolerance exceeded in error handler`
    Exceeded,
    /// fail the task at once: no tolerance covers this: `Unhandled exception in error handler`
    Unhandled,
}

/// What to do about an error of `kind` in `stage`; `may_retry` says whether there is time for another attempt.
pub fn action(kind: ErrorKind, stage: Stage, tolerance: Tolerance, may_retry: bool) -> Action {
    use ErrorKind::{Config, Data, Fatal, NotFound, Retriable, Unsupported};
    use Stage::{
        HeaderConverter, KafkaConsume, KafkaProduce, KeyConverter, TaskPoll, TaskPut, Transformation, ValueConverter,
    };
    match (kind, stage, tolerance) {
        (
            Retriable,
            TaskPoll | TaskPut | Transformation | KeyConverter | ValueConverter | HeaderConverter | KafkaProduce
            | KafkaConsume,
            _,
        ) if may_retry => Action::Retry,
        (_, Transformation | KeyConverter | ValueConverter | HeaderConverter, Tolerance::All) => Action::Skip,
        (_, Transformation | KeyConverter | ValueConverter | HeaderConverter, Tolerance::None) => Action::Exceeded,
        (Retriable, TaskPoll | TaskPut | KafkaProduce | KafkaConsume, Tolerance::All) => Action::Skip,
        (Retriable, TaskPoll | TaskPut | KafkaProduce | KafkaConsume, Tolerance::None) => Action::Exceeded,
        (
            Data | Config | NotFound | Unsupported | Fatal,
            TaskPoll | TaskPut | KafkaProduce | KafkaConsume,
            Tolerance::None | Tolerance::All,
        ) => Action::Unhandled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_retriable_errors_are_retried() {
        for kind in [
            ErrorKind::Data,
            ErrorKind::Fatal,
            ErrorKind::Config,
            ErrorKind::NotFound,
            ErrorKind::Unsupported,
        ] {
            assert_eq!(action(kind, Stage::ValueConverter, Tolerance::All, true), Action::Skip);
            assert_eq!(
                action(kind, Stage::ValueConverter, Tolerance::None, true),
                Action::Exceeded
            );
            assert_eq!(action(kind, Stage::TaskPut, Tolerance::All, true), Action::Unhandled);
        }
        assert_eq!(
            action(ErrorKind::Retriable, Stage::Transformation, Tolerance::All, true),
            Action::Retry
        );
        assert_eq!(
            action(ErrorKind::Retriable, Stage::Transformation, Tolerance::All, false),
            Action::Skip
        );
        assert_eq!(
            action(ErrorKind::Retriable, Stage::KafkaProduce, Tolerance::None, false),
            Action::Exceeded
        );
    }
}
