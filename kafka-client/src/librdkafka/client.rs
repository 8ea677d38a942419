//! One `rd_kafka_t` with its callbacks.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use indexmap::IndexMap;
use parking_lot::Mutex;
use rdkafka_sys as sys;

use super::message::{bytes, owned_headers};
use super::native_error;
use super::outage::Outage;
use super::partition_list;
use crate::config::ClientKind;
use crate::error::{ErrorCode, KafkaError};
use crate::producer_record::ProducerRecord;
use crate::topic_partition::TopicPartition;

/// Something that librdkafka told a consumer while it was polled.
pub(crate) enum ClientEvent {
    Assigned(Vec<(TopicPartition, i64)>),
    Revoked(Vec<TopicPartition>),
    Committed(u64, Result<(), KafkaError>),
    Error(KafkaError),
}

/// Receives what the library says of records that a producer has sent.
pub(crate) trait Reports: Send + Sync {
    /// Called once for each record, on the thread that polls or flushes.
    fn delivered(&self, number: u64, result: Result<(i32, i64), KafkaError>);

    /// Whether records that are purged now are taken back instead of failing.
    fn takes_back(&self) -> bool;

    /// A record that was purged, as it was sent.
    fn taken_back(&self, number: u64, record: TakenBack);
}

/// A record that was taken back from the library before it had an outcome.
#[derive(Debug)]
pub(crate) struct TakenBack {
    pub(crate) topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl TakenBack {
    /// As it is sent again; `headers` are its own, borrowed.
    pub(crate) fn as_record<'a>(
        &'a self,
        timestamp_ms: i64,
        headers: &'a [(&'a str, Option<&'a [u8]>)],
    ) -> ProducerRecord<'a> {
        ProducerRecord {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            timestamp_ms: Some(timestamp_ms),
            headers,
        }
    }
}

/// What librdkafka's callbacks reach. Boxed, so that its address is stable.
#[derive(Default)]
pub(crate) struct Callbacks {
    /// Events of a consumer, in order, until the polling thread takes them.
    events: Mutex<Vec<ClientEvent>>,
    has_events: AtomicBool,
    /// The queue to yield when an event arrives, so that the poll that brought it returns.
    polled_queue: OnceLock<QueuePointer>,
    /// Called on a librdkafka thread when a consumer's queue stops being empty.
    pub(super) ready: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Where delivery reports of a producer go.
    reports: Option<Arc<dyn Reports>>,
    /// Nobody wants to hear of its troubles: it is there to see whether brokers answer.
    quiet: AtomicBool,
    /// No broker can be reached.
    unreachable: Outage,
    /// A connection fails.
    disconnected: Outage,
}

struct QueuePointer(*mut sys::rd_kafka_queue_t);
// SAFETY: queues are thread-safe; the pointer is valid while the client lives (set by BatchQueue, which owns both).
unsafe impl Send for QueuePointer {}
// SAFETY: as above.
unsafe impl Sync for QueuePointer {}

impl Callbacks {
    pub(crate) fn for_producer(reports: Arc<dyn Reports>, quiet: bool) -> Self {
        Self {
            reports: Some(reports),
            quiet: AtomicBool::new(quiet),
            ..Self::default()
        }
    }

    pub(super) fn yield_on_event(&self, queue: *mut sys::rd_kafka_queue_t) {
        // Set once, when the consumer is built.
        let _ = self.polled_queue.set(QueuePointer(queue));
    }

    fn push(&self, event: ClientEvent) {
        self.events.lock().push(event);
        self.has_events.store(true, Ordering::Release);
        if let Some(queue) = self.polled_queue.get() {
            // SAFETY: the queue lives as long as the client whose callback this is.
            unsafe { sys::rd_kafka_queue_yield(queue.0) };
        }
    }

    /// A broker has answered.
    pub(crate) fn answered(&self) {
        self.unreachable.is_over();
        self.disconnected.is_over();
    }

    pub(crate) fn has_events(&self) -> bool {
        self.has_events.load(Ordering::Acquire)
    }

    pub(crate) fn take_events(&self) -> Vec<ClientEvent> {
        if !self.has_events.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.events.lock())
    }
}

/// A client handle; thread-safe.
pub(crate) struct Client {
    handle: NonNull<sys::rd_kafka_t>,
    callbacks: Box<Callbacks>,
    name: String,
}

/// Names of the clients of this process that are not destroyed yet.
static OPEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The clients of this process that are not closed yet, by name: `demo#producer-3` is the third client and has
/// `client.id=demo`. For tests, and for whoever looks for what keeps a connection open.
pub fn open_clients() -> Vec<String> {
    OPEN.lock().clone()
}

// SAFETY: librdkafka's API is thread-safe on one handle, and Callbacks is Send + Sync.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Starts a client. It connects on its own; a server that is not there is not an error here.
    pub(crate) fn new(
        kind: ClientKind,
        options: &IndexMap<String, String>,
        callbacks: Callbacks,
    ) -> Result<Self, KafkaError> {
        let callbacks = Box::new(callbacks);
        let conf = Configuration::new(options)?;
        // SAFETY: the configuration is ours; callbacks have the signatures that it asks for, and the opaque pointer is the
        // box that this client keeps until after the handle is destroyed.
        unsafe {
            sys::rd_kafka_conf_set_opaque(conf.0, (&raw const *callbacks).cast_mut().cast());
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            sys::rd_kafka_conf_set_error_cb(conf.0, Some(on_error));
            match kind {
                ClientKind::Consumer => sys::rd_kafka_conf_set_rebalance_cb(conf.0, Some(on_rebalance)),
                ClientKind::Producer => sys::rd_kafka_conf_set_dr_msg_cb(conf.0, Some(on_delivery)),
                ClientKind::Admin => {}
            }
        }
        let native_kind = match kind {
            ClientKind::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            ClientKind::Producer | ClientKind::Admin => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        let mut reason = ErrorText::default();
        // SAFETY: on success the handle owns the configuration; on failure it stays ours and is dropped below.
        let handle = unsafe { sys::rd_kafka_new(native_kind, conf.0, reason.as_mut_ptr(), reason.capacity()) };
        match NonNull::new(handle) {
            Some(handle) => {
                std::mem::forget(conf);
                // SAFETY: the handle is alive, and so is its name.
                let name = unsafe { native_error::text(sys::rd_kafka_name(handle.as_ptr())) };
                OPEN.lock().push(name.clone());
                Ok(Self {
                    handle,
                    callbacks,
                    name,
                })
            }
            None => Err(KafkaError::new(
                ErrorCode::InvalidConfig,
                format!("create client: {}", reason.text()),
            )),
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_t {
        self.handle.as_ptr()
    }

    pub(crate) fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    /// From here on its troubles are told of.
    pub(crate) fn speak_up(&self) {
        self.callbacks.quiet.store(false, Ordering::Release);
    }

    /// The error that stopped this client for good, if there is one.
    pub(crate) fn fatal_error(&self) -> Option<KafkaError> {
        fatal_error(self.as_ptr())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the last reference: nothing points into the handle any more. The callbacks live on until it returns.
        unsafe { sys::rd_kafka_destroy_flags(self.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
        let mut open = OPEN.lock();
        if let Some(index) = open.iter().position(|name| *name == self.name) {
            open.swap_remove(index);
        }
    }
}

fn fatal_error(handle: *mut sys::rd_kafka_t) -> Option<KafkaError> {
    let mut reason = ErrorText::default();
    // SAFETY: the handle is alive; librdkafka writes at most the capacity, NUL-terminated.
    let code = unsafe { sys::rd_kafka_fatal_error(handle, reason.as_mut_ptr(), reason.capacity()) };
    let code = ErrorCode::from(code);
    (code != ErrorCode::NoError).then(|| KafkaError::classified(code, reason.text(), false, true, false))
}

/// An owned configuration.
struct Configuration(*mut sys::rd_kafka_conf_t);

impl Configuration {
    fn new(options: &IndexMap<String, String>) -> Result<Self, KafkaError> {
        // SAFETY: allocates.
        let conf = Self(unsafe { sys::rd_kafka_conf_new() });
        for (name, value) in options {
            let (c_name, c_value) = (native_error::c_string(name)?, native_error::c_string(value)?);
            let mut reason = ErrorText::default();
            // SAFETY: all pointers are valid for the call; the strings are copied.
            let result = unsafe {
                sys::rd_kafka_conf_set(
                    conf.0,
                    c_name.as_ptr(),
                    c_value.as_ptr(),
                    reason.as_mut_ptr(),
                    reason.capacity(),
                )
            };
            if result != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                // librdkafka's text may repeat the value, which may be a secret.
                let secret = crate::config::is_secret(name);
                return Err(KafkaError::option(
                    name,
                    if secret { "refused".to_owned() } else { reason.text() },
                ));
            }
        }
        Ok(conf)
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: owned, not given to a client.
        unsafe { sys::rd_kafka_conf_destroy(self.0) }
    }
}

/// A buffer for the texts that librdkafka writes.
pub(super) struct ErrorText([u8; 512]);

impl Default for ErrorText {
    fn default() -> Self {
        Self([0; 512])
    }
}

impl ErrorText {
    pub(super) fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.len()
    }

    pub(super) fn text(&self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(self.0.get(..end).unwrap_or_default()).into_owned()
    }
}

/// # Safety
/// `opaque` is the pointer that `Client::new` set.
unsafe fn callbacks<'a>(opaque: *mut c_void) -> &'a Callbacks {
    // SAFETY: invariant 2 of this folder: the box outlives the handle that calls back.
    unsafe { &*opaque.cast::<Callbacks>() }
}

/// Facility of log lines about connections that fail.
const FAILED_CONNECTION: &str = "FAIL";
/// Syslog's number for details.
const DEBUG: c_int = 7;

/// Logs arrive on any thread of librdkafka. Levels are syslog's.
unsafe extern "C" fn on_log(
    handle: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    message: *const c_char,
) {
    // SAFETY: both strings are NUL-terminated and live during the call; the handle is alive.
    let (client, facility, message) = unsafe {
        let name = if handle.is_null() {
            std::ptr::null()
        } else {
            sys::rd_kafka_name(handle)
        };
        (
            native_error::text(name),
            native_error::text(facility),
            native_error::text(message),
        )
    };
    // Of a connection that fails `on_error` tells too, with the same words.
    let level = if facility == FAILED_CONNECTION { DEBUG } else { level };
    match level {
        0..=3 => tracing::error!(target: "kafka_client::librdkafka", client, facility, "{message}"),
        4 => tracing::warn!(target: "kafka_client::librdkafka", client, facility, "{message}"),
        5..=6 => tracing::info!(target: "kafka_client::librdkafka", client, facility, "{message}"),
        _ => tracing::debug!(target: "kafka_client::librdkafka", client, facility, "{message}"),
    }
}

/// Errors of the client as a whole. librdkafka recovers from all but fatal ones by itself.
unsafe extern "C" fn on_error(handle: *mut sys::rd_kafka_t, number: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: called by librdkafka with the opaque pointer and a string that lives during the call.
    let (callbacks, reason) = unsafe { (callbacks(opaque), native_error::text(reason)) };
    let error = match fatal_error(handle) {
        Some(fatal) => fatal,
        None => native_error::from_number(number, reason),
    };
    // Connections come and go; only what somebody must act upon is handed on.
    // SAFETY: the handle is alive, and so is its name.
    let client = unsafe { native_error::text(sys::rd_kafka_name(handle)) };
    if callbacks.quiet.load(Ordering::Acquire) {
        tracing::debug!(client, error = %error, "client reported an error");
    } else if error.is_fatal() || error.is_authorization() {
        tracing::error!(client, error = %error, "client failed");
        callbacks.push(ClientEvent::Error(error));
    } else if error.code == ErrorCode::AllBrokersDown {
        match callbacks.unreachable.is_news(Instant::now()) {
            true => {
                tracing::warn!(client, error = %error, "no broker can be reached: the client waits, and goes on when one is back");
            }
            false => tracing::debug!(client, error = %error, "no broker can be reached"),
        }
    } else if error.code == ErrorCode::BrokerTransportFailure && !callbacks.disconnected.is_news(Instant::now()) {
        tracing::debug!(client, error = %error, "client reported an error");
    } else {
        tracing::warn!(client, error = %error, "client reported an error");
    }
}

/// Called inside a poll: notes the change; the polling thread carries it out after the poll.
unsafe extern "C" fn on_rebalance(
    _handle: *mut sys::rd_kafka_t,
    number: sys::rd_kafka_resp_err_t,
    partitions: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: called by librdkafka with the opaque pointer and a list that lives during the call.
    let (callbacks, entries) = unsafe { (callbacks(opaque), partition_list::read(partitions)) };
    callbacks.push(match number {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => ClientEvent::Assigned(
            entries
                .into_iter()
                .map(|entry| (entry.partition, entry.offset))
                .collect(),
        ),
        // Anything else asks for the assignment to be given up.
        _ => ClientEvent::Revoked(entries.into_iter().map(|entry| entry.partition).collect()),
    });
}

/// The result of an asynchronous commit; `token` is the number of the commit.
pub(super) unsafe extern "C" fn on_commit(
    handle: *mut sys::rd_kafka_t,
    number: sys::rd_kafka_resp_err_t,
    offsets: *mut sys::rd_kafka_topic_partition_list_t,
    token: *mut c_void,
) {
    // SAFETY: the handle's opaque pointer is the one that Client::new set; the list lives during the call.
    let (callbacks, entries) = unsafe { (callbacks(sys::rd_kafka_opaque(handle)), partition_list::read(offsets)) };
    let refused = entries.iter().find(|entry| entry.error != 0);
    let result = match (number as i32, refused) {
        (0, None) => Ok(()),
        (0, Some(entry)) => Err(native_error::from_number(
            entry.error,
            format!("commit offset of {}", entry.partition),
        )),
        (number, _) => Err(native_error::from_number(number, "commit offsets")),
    };
    callbacks.push(ClientEvent::Committed(token as u64, result));
}

/// Called on a librdkafka thread when a queue stops being empty.
pub(super) unsafe extern "C" fn on_ready(_handle: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: set with the client's callbacks as the opaque pointer.
    let callbacks = unsafe { callbacks(opaque) };
    if let Some(ready) = callbacks.ready.get()
        && catch_unwind(AssertUnwindSafe(ready)).is_err()
    {
        tracing::error!("the listener for arriving messages panicked");
    }
}

/// One delivery report, on the thread that polls the producer.
unsafe extern "C" fn on_delivery(
    _handle: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: called by librdkafka with the opaque pointer; the message lives during the call.
    let (callbacks, token, number, partition, offset) = unsafe {
        (
            callbacks(opaque),
            (*message)._private as u64,
            native_error::read_code(&raw const (*message).err),
            (*message).partition,
            (*message).offset,
        )
    };
    let Some(reports) = &callbacks.reports else {
        return;
    };
    if number == 0 {
        callbacks.answered();
    }
    let purged = matches!(
        native_error::code(number),
        ErrorCode::PurgeQueue | ErrorCode::PurgeInflight
    );
    if purged && reports.takes_back() {
        // SAFETY: the message lives during the call; what is read is copied.
        let record = unsafe { taken_back(message) };
        if catch_unwind(AssertUnwindSafe(|| reports.taken_back(token, record))).is_err() {
            tracing::error!("the receiver of records that are taken back panicked");
        }
        return;
    }
    let result = if number == 0 {
        Ok((partition, offset))
    } else {
        // SAFETY: the message lives during the call.
        let topic = unsafe { topic_name(message) };
        Err(native_error::from_number(
            number,
            format!("produce to {topic}-{partition}"),
        ))
    };
    if catch_unwind(AssertUnwindSafe(|| reports.delivered(token, result))).is_err() {
        tracing::error!("the receiver of delivery reports panicked");
    }
}

/// # Safety
/// `message` is alive; its topic handle belongs to it, and the name to the handle.
unsafe fn topic_name(message: *const sys::rd_kafka_message_t) -> String {
    // SAFETY: as promised by the caller.
    unsafe {
        let topic = (*message).rkt;
        if topic.is_null() {
            String::new()
        } else {
            native_error::text(sys::rd_kafka_topic_name(topic))
        }
    }
}

/// # Safety
/// `message` is a report's, and lives during the call.
unsafe fn taken_back(message: *const sys::rd_kafka_message_t) -> TakenBack {
    // SAFETY: as promised by the caller; what is read is copied.
    unsafe {
        TakenBack {
            topic: topic_name(message),
            partition: Some((*message).partition).filter(|partition| *partition >= 0),
            key: bytes((*message).key, (*message).key_len).map(<[u8]>::to_vec),
            value: bytes((*message).payload, (*message).len).map(<[u8]>::to_vec),
            headers: owned_headers(message),
        }
    }
}
