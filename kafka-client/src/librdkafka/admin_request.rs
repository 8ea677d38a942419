//! How an administrative request is made: options, a queue of its own, and one result event.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka_sys as sys;

use super::client::{Client, ErrorText};
use super::native_error;
use crate::clock::millis;
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::IsolationLevel;

// Declared again with integers as results; see native_error.
unsafe extern "C" {
    fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> i32;
    fn rd_kafka_topic_result_error(result: *const sys::rd_kafka_topic_result_t) -> i32;
}

pub(super) type Operation = sys::rd_kafka_admin_op_t;

/// The options of one request.
pub(super) struct Options(NonNull<sys::rd_kafka_AdminOptions_t>);

impl Options {
    /// The request may take `timeout`; brokers get as long to carry the operation out.
    pub(super) fn new(client: &Client, operation: Operation, timeout: Duration) -> Result<Self, KafkaError> {
        // SAFETY: the client is alive; null is an allocation that failed.
        let options = NonNull::new(unsafe { sys::rd_kafka_AdminOptions_new(client.as_ptr(), operation) })
            .ok_or_else(|| KafkaError::new(ErrorCode::InvalidArgument, "make request options"))?;
        let options = Self(options);
        let mut reason = ErrorText::default();
        let timeout_ms = millis(timeout).clamp(1, 3_600_000);
        // SAFETY: all pointers live during the calls.
        let number = unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options.as_ptr(),
                timeout_ms,
                reason.as_mut_ptr(),
                reason.capacity(),
            )
        } as i32;
        native_error::check(number, || reason.text())?;
        Ok(options)
    }

    /// Waits for the controller to have the change in place, not only accepted. Only for operations that know it.
    pub(super) fn wait_for_completion(self, timeout: Duration) -> Result<Self, KafkaError> {
        let mut reason = ErrorText::default();
        // SAFETY: all pointers live during the call.
        let number = unsafe {
            sys::rd_kafka_AdminOptions_set_operation_timeout(
                self.as_ptr(),
                millis(timeout).clamp(1, 3_600_000),
                reason.as_mut_ptr(),
                reason.capacity(),
            )
        } as i32;
        native_error::check(number, || reason.text())?;
        Ok(self)
    }

    pub(super) fn isolation(self, level: IsolationLevel) -> Result<Self, KafkaError> {
        let level = match level {
            IsolationLevel::ReadUncommitted => {
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
            }
            IsolationLevel::ReadCommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        };
        // SAFETY: the options are alive; the error is ours.
        unsafe {
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(self.as_ptr(), level);
            native_error::take(error, || "set the isolation level".to_owned())?;
        }
        Ok(self)
    }

    pub(super) fn stable_offsets(self) -> Result<Self, KafkaError> {
        // SAFETY: the options are alive; the error is ours.
        unsafe {
            let error = sys::rd_kafka_AdminOptions_set_require_stable_offsets(self.as_ptr(), 1);
            native_error::take(error, || "ask for stable offsets".to_owned())?;
        }
        Ok(self)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_AdminOptions_t {
        self.0.as_ptr()
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

/// The event that holds a request's result; what is read from it lives as long.
pub(super) struct ResultEvent(NonNull<sys::rd_kafka_event_t>);

impl ResultEvent {
    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for ResultEvent {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// A queue for one result.
struct ReplyQueue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for ReplyQueue {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, before its client.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl Client {
    /// Has `send` make a request whose result goes to the queue it is given, and waits for it.
    pub(super) fn request(
        &self,
        doing: &str,
        timeout: Duration,
        send: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<ResultEvent, KafkaError> {
        // SAFETY: the client is alive.
        let queue = NonNull::new(unsafe { sys::rd_kafka_queue_new(self.as_ptr()) })
            .map(ReplyQueue)
            .ok_or_else(|| KafkaError::new(ErrorCode::CriticalSystemResource, doing))?;
        send(self.as_ptr(), queue.0.as_ptr());
        // librdkafka ends the request itself at its timeout; a little more, so that its own error is seen.
        let patience = millis(timeout).saturating_add(1000);
        // SAFETY: the queue is alive; the event is ours.
        let event = NonNull::new(unsafe { sys::rd_kafka_queue_poll(queue.0.as_ptr(), patience) })
            .map(ResultEvent)
            .ok_or_else(|| KafkaError::timed_out(doing))?;
        // SAFETY: the event is alive; its text is copied.
        let (number, detail) = unsafe {
            (
                rd_kafka_event_error(event.as_ptr()),
                native_error::text(sys::rd_kafka_event_error_string(event.as_ptr())),
            )
        };
        native_error::check(number, || format!("{doing}: {detail}"))?;
        Ok(event)
    }
}

/// Names and errors of a list of topic results.
///
/// # Safety
/// `results` points to `count` topic results that live during the call.
pub(super) unsafe fn topic_results(
    results: *mut *const sys::rd_kafka_topic_result_t,
    count: usize,
    doing: &str,
) -> Vec<(String, Result<(), KafkaError>)> {
    // SAFETY: as promised by the caller; texts are copied.
    unsafe {
        pointers(results, count)
            .map(|result| {
                let name = native_error::text(sys::rd_kafka_topic_result_name(result));
                let detail = native_error::text(sys::rd_kafka_topic_result_error_string(result));
                let outcome = native_error::check(rd_kafka_topic_result_error(result), || {
                    if detail.is_empty() {
                        format!("{doing} {name}")
                    } else {
                        format!("{doing} {name}: {detail}")
                    }
                });
                (name, outcome)
            })
            .collect()
    }
}

/// The elements of a C array of pointers.
///
/// # Safety
/// `first` is null or points to `count` pointers, valid while the iterator is used.
pub(super) unsafe fn pointers<T>(first: *mut *const T, count: usize) -> impl Iterator<Item = *const T> {
    let count = if first.is_null() { 0 } else { count };
    // SAFETY: as promised by the caller, the index is below the count.
    (0..count).map(move |index| unsafe { *first.add(index) })
}

/// A C array of pointers as a call takes it.
pub(super) fn array<T>(pointers: &mut [*mut T]) -> *mut *mut T {
    pointers.as_mut_ptr()
}

/// A text that may be null.
///
/// # Safety
/// `pointer` is null or a NUL-terminated string that lives during the call.
pub(super) unsafe fn optional_text(pointer: *const c_char) -> Option<String> {
    // SAFETY: as promised by the caller.
    (!pointer.is_null()).then(|| unsafe { native_error::text(pointer) })
}
