//! Producing and transactions.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::RwLock;
use rdkafka_sys as sys;

use super::client::Client;
use super::native_error;
use super::partition_list::PartitionList;
use crate::error::{ErrorCode, KafkaError};
use crate::producer_record::{ProducerRecord, SendError};

/// Topic handles of a producer, made at the first record of each topic: naming a topic at every record would take a lock
/// and search a list inside librdkafka.
pub(crate) struct TopicHandles {
    handles: RwLock<IndexMap<Box<str>, TopicHandle>>,
    client: Arc<Client>,
}

/// A topic of [`TopicHandles`].
#[derive(Clone, Copy)]
pub(crate) struct Topic<'a> {
    handle: NonNull<sys::rd_kafka_topic_t>,
    /// its number among them
    pub(crate) number: u32,
    /// The handle lives as long as they do.
    _of: PhantomData<&'a TopicHandles>,
}

impl Topic<'_> {
    pub(super) fn as_ptr(self) -> *mut sys::rd_kafka_topic_t {
        self.handle.as_ptr()
    }
}

struct TopicHandle(NonNull<sys::rd_kafka_topic_t>);
// SAFETY: topic handles are thread-safe; they are destroyed by TopicHandles, before its client.
unsafe impl Send for TopicHandle {}
// SAFETY: as above.
unsafe impl Sync for TopicHandle {}

impl TopicHandles {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self {
            handles: RwLock::default(),
            client,
        }
    }

    /// A topic, made known to the client if it is not.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic<'_>, KafkaError> {
        let known = |handles: &IndexMap<Box<str>, TopicHandle>| {
            let (number, _, handle) = handles.get_full(name)?;
            Some(Topic {
                handle: handle.0,
                number: u32::try_from(number).unwrap_or(u32::MAX),
                _of: PhantomData,
            })
        };
        if let Some(topic) = known(&self.handles.read()) {
            return Ok(topic);
        }
        let unknown = || KafkaError::new(ErrorCode::InvalidTopic, format!("topic name {name:?}"));
        let c_name = native_error::c_string(name)?;
        let mut handles = self.handles.write();
        if !handles.contains_key(name) {
            // SAFETY: the client is alive, the name is copied; a null configuration means the client's.
            let handle =
                unsafe { sys::rd_kafka_topic_new(self.client.as_ptr(), c_name.as_ptr(), std::ptr::null_mut()) };
            handles.insert(name.into(), TopicHandle(NonNull::new(handle).ok_or_else(unknown)?));
        }
        known(&handles).ok_or_else(unknown)
    }

    /// The topic of a number.
    pub(crate) fn name(&self, number: u32) -> Option<String> {
        let handles = self.handles.read();
        handles.get_index(number as usize).map(|(name, _)| name.to_string())
    }

    /// Hands a record to the client, which copies it; its report comes under `number`.
    pub(crate) fn produce(&self, topic: Topic<'_>, record: &ProducerRecord<'_>, number: u64) -> Result<(), SendError> {
        use sys::rd_kafka_vtype_t as V;

        let headers = HeaderList::new(record.headers).map_err(SendError::Kafka)?;
        let mut arguments = [
            argument(V::RD_KAFKA_VTYPE_RKT, Union { rkt: topic.as_ptr() }),
            argument(
                V::RD_KAFKA_VTYPE_PARTITION,
                Union {
                    i32_: record.partition.unwrap_or(ANY_PARTITION),
                },
            ),
            argument(
                V::RD_KAFKA_VTYPE_MSGFLAGS,
                Union {
                    i: sys::RD_KAFKA_MSG_F_COPY,
                },
            ),
            argument(V::RD_KAFKA_VTYPE_KEY, memory(record.key)),
            argument(V::RD_KAFKA_VTYPE_VALUE, memory(record.value)),
            argument(
                V::RD_KAFKA_VTYPE_OPAQUE,
                Union {
                    ptr: number as *mut c_void,
                },
            ),
            argument(V::RD_KAFKA_VTYPE_END, Union { i: 0 }),
            argument(V::RD_KAFKA_VTYPE_END, Union { i: 0 }),
        ];
        let mut count = 6;
        let mut push = |value| {
            if let Some(place) = arguments.get_mut(count) {
                *place = value;
                count += 1;
            }
        };
        if let Some(millis) = record.timestamp_ms {
            push(argument(V::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: millis }));
        }
        if let Some(headers) = &headers {
            push(argument(
                V::RD_KAFKA_VTYPE_HEADERS,
                Union {
                    headers: headers.0.as_ptr(),
                },
            ));
        }
        // SAFETY: the arguments name pointers that live during the call; key and value are copied (MSG_F_COPY). On success
        // librdkafka owns the headers.
        let error = unsafe { sys::rd_kafka_produceva(self.client.as_ptr(), arguments.as_ptr(), count) };
        if error.is_null() {
            if let Some(headers) = headers {
                std::mem::forget(headers);
            }
            return Ok(());
        }
        // SAFETY: the error is ours.
        match unsafe { native_error::take(error, || format!("send to {}", record.topic)) } {
            Ok(()) => Ok(()),
            Err(error) if error.code == ErrorCode::QueueFull => Err(SendError::QueueFull),
            Err(error) if error.code == ErrorCode::Fatal => {
                Err(SendError::Kafka(self.client.fatal_error().unwrap_or(error)))
            }
            Err(error) => Err(SendError::Kafka(error)),
        }
    }
}

impl Drop for TopicHandles {
    fn drop(&mut self) {
        for handle in self.handles.get_mut().values() {
            // SAFETY: owned, destroyed once, before the client.
            unsafe { sys::rd_kafka_topic_destroy(handle.0.as_ptr()) }
        }
    }
}

/// The partitioner decides (`RD_KAFKA_PARTITION_UA`).
const ANY_PARTITION: i32 = -1;

type Union = sys::rd_kafka_vu_s__bindgen_ty_1;

fn argument(vtype: sys::rd_kafka_vtype_t, u: Union) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t { vtype, u }
}

/// Null for `None`; an empty slice keeps a pointer that is not null, which is an empty key or value.
fn memory(bytes: Option<&[u8]>) -> Union {
    let (pointer, size) = bytes.map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
    Union {
        mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: pointer.cast_mut().cast(),
            size,
        },
    }
}

/// Headers of a record that is not sent yet.
struct HeaderList(NonNull<sys::rd_kafka_headers_t>);

impl HeaderList {
    fn new(headers: &[(&str, Option<&[u8]>)]) -> Result<Option<Self>, KafkaError> {
        if headers.is_empty() {
            return Ok(None);
        }
        // SAFETY: allocates.
        let Some(list) = NonNull::new(unsafe { sys::rd_kafka_headers_new(headers.len()) }) else {
            return Ok(None);
        };
        let list = Self(list);
        for (name, value) in headers {
            let (pointer, size) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            // SAFETY: name and value are copied; both sizes are given, so neither needs a NUL.
            let number = unsafe {
                sys::rd_kafka_header_add(
                    list.0.as_ptr(),
                    name.as_ptr().cast::<c_char>(),
                    name.len().cast_signed(),
                    pointer.cast(),
                    size.cast_signed(),
                )
            } as i32;
            native_error::check(number, || format!("add header {name:?}"))?;
        }
        Ok(Some(list))
    }
}

impl Drop for HeaderList {
    fn drop(&mut self) {
        // SAFETY: owned; given away only through mem::forget.
        unsafe { sys::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}

impl Client {
    /// Serves callbacks for what there is, waiting for it up to `timeout_ms` (-1 for ever, until `wake_poll`).
    pub(crate) fn poll(&self, timeout_ms: i32) {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_poll(self.as_ptr(), timeout_ms) };
    }

    /// Ends a `poll` in progress, or the next one.
    pub(crate) fn wake_poll(&self) {
        // SAFETY: the client is alive; the reference to its queue is given back.
        unsafe {
            let queue = sys::rd_kafka_queue_get_main(self.as_ptr());
            sys::rd_kafka_queue_yield(queue);
            sys::rd_kafka_queue_destroy(queue);
        }
    }

    /// Records that have no delivery report yet.
    pub(crate) fn in_flight(&self) -> usize {
        // SAFETY: the client is alive.
        usize::try_from(unsafe { sys::rd_kafka_outq_len(self.as_ptr()) }).unwrap_or(0)
    }

    pub(crate) fn flush(&self, timeout_ms: i32) -> Result<(), KafkaError> {
        // SAFETY: the client is alive.
        let number = unsafe { sys::rd_kafka_flush(self.as_ptr(), timeout_ms) } as i32;
        native_error::check(number, || format!("flush, {} records are left", self.in_flight()))
    }

    /// Fails every record that has no delivery report yet.
    pub(crate) fn purge(&self) {
        // SAFETY: the client is alive.
        unsafe {
            sys::rd_kafka_purge(
                self.as_ptr(),
                sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT,
            );
        }
    }

    pub(crate) fn init_transactions(&self, timeout_ms: c_int) -> Result<(), KafkaError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe {
            native_error::take(sys::rd_kafka_init_transactions(self.as_ptr(), timeout_ms), || {
                "initialise transactions".to_owned()
            })
        }
    }

    pub(crate) fn begin_transaction(&self) -> Result<(), KafkaError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe {
            native_error::take(sys::rd_kafka_begin_transaction(self.as_ptr()), || {
                "begin a transaction".to_owned()
            })
        }
    }

    pub(crate) fn commit_transaction(&self, timeout_ms: c_int) -> Result<(), KafkaError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe {
            native_error::take(sys::rd_kafka_commit_transaction(self.as_ptr(), timeout_ms), || {
                "commit the transaction".to_owned()
            })
        }
    }

    pub(crate) fn abort_transaction(&self, timeout_ms: c_int) -> Result<(), KafkaError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe {
            native_error::take(sys::rd_kafka_abort_transaction(self.as_ptr(), timeout_ms), || {
                "abort the transaction".to_owned()
            })
        }
    }

    pub(crate) fn send_offsets_to_transaction(
        &self,
        offsets: &PartitionList,
        group: &ConsumerGroupMetadata,
        timeout_ms: c_int,
    ) -> Result<(), KafkaError> {
        // SAFETY: all are alive and are copied; the error is ours.
        unsafe {
            let error = sys::rd_kafka_send_offsets_to_transaction(
                self.as_ptr(),
                offsets.as_ptr(),
                group.0.as_ptr(),
                timeout_ms,
            );
            native_error::take(error, || "add offsets to the transaction".to_owned())
        }
    }
}

/// In whose name offsets are committed in a transaction: the group and, from a consumer that is a member of it, the member
/// and generation that fence older owners (KIP-447).
pub struct ConsumerGroupMetadata(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: immutable after creation, without thread affinity.
unsafe impl Send for ConsumerGroupMetadata {}
// SAFETY: as above.
unsafe impl Sync for ConsumerGroupMetadata {}

impl ConsumerGroupMetadata {
    /// A group by name alone: offsets of partitions that were assigned manually.
    ///
    /// # Errors
    /// `InvalidArgument` where the name is not one.
    pub fn of_group(group_id: &str) -> Result<Self, KafkaError> {
        let name = native_error::c_string(group_id)?;
        // SAFETY: the name is copied; the result is ours.
        Self::own(unsafe { sys::rd_kafka_consumer_group_metadata_new(name.as_ptr()) })
            .ok_or_else(|| KafkaError::new(ErrorCode::InvalidArgument, format!("group name {group_id:?}")))
    }

    pub(super) fn own(pointer: *mut sys::rd_kafka_consumer_group_metadata_t) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }
}

impl Drop for ConsumerGroupMetadata {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}
