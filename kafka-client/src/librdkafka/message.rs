//! A fetched message, owned.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka_sys as sys;

use super::client::Client;
use crate::topic_partition::TopicPartition;

/// Whose clock a timestamp is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The message has none (format 0).
    NotAvailable,
    /// The producer's (`message.timestamp.type=CreateTime`).
    CreateTime,
    /// The broker's, at appending (`LogAppendTime`).
    LogAppendTime,
}

/// Messages of one consumer, in order, in librdkafka's memory, which is freed when they are dropped.
///
/// They keep their client's memory alive: hold messages while they are worked on, not for good.
#[derive(Default)]
pub struct Messages {
    list: Vec<Message>,
    // Dropped after the messages, which lie in its memory.
    client: Option<Arc<Client>>,
}

impl Messages {
    /// # Safety
    /// `raw` is a message that a queue of `client` yielded, without an error, and that nobody else will destroy. All messages in
    /// here are of this client.
    pub(super) unsafe fn push(&mut self, raw: NonNull<sys::rd_kafka_message_t>, client: &Arc<Client>) {
        if self.client.is_none() {
            self.client = Some(Arc::clone(client));
        }
        self.list.push(Message {
            raw,
            parsing: Mutex::new(()),
        });
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Message) -> bool) {
        self.list.retain(keep);
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }
}

// Nobody gets a message out, or another one in: each lies beside its client for all its life.
impl Deref for Messages {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.list
    }
}

impl<'a> IntoIterator for &'a Messages {
    type Item = &'a Message;
    type IntoIter = std::slice::Iter<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.list.fmt(f)
    }
}

/// A record of a partition. Reading it copies nothing.
pub struct Message {
    raw: NonNull<sys::rd_kafka_message_t>,
    /// held while headers are parsed, which librdkafka does in place
    parsing: Mutex<()>,
}

// SAFETY: a message has one owner and no thread affinity.
unsafe impl Send for Message {}
// SAFETY: what is read of a message does not change, but for its headers, which are parsed in place: by one thread at a time,
// and once. Nobody reads the list before that has ended, because its address comes out of the same lock.
unsafe impl Sync for Message {}

impl Message {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: owned, initialised by librdkafka, without an error (so its code is a valid enum value).
        unsafe { self.raw.as_ref() }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        // SAFETY: the message holds a reference to its topic handle, which owns the name.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.raw().rkt)) };
        // Topic names are ASCII (`Topic.validate`).
        name.to_str().unwrap_or_default()
    }

    /// The partition, from 0.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Topic and partition; allocates the name.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic(), self.partition())
    }

    /// Both come from one partition (of one client); cheaper than comparing names.
    pub fn same_partition(&self, other: &Self) -> bool {
        let (one, two) = (self.raw(), other.raw());
        one.partition == two.partition && one.rkt == two.rkt
    }

    /// The offset in the partition.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Milliseconds since the Unix epoch; `None` where the message has no timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        let (millis, kind) = self.timestamp();
        (kind != TimestampType::NotAvailable).then_some(millis)
    }

    /// Whose clock [`Self::timestamp_ms`] is from.
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp().1
    }

    /// Milliseconds since the Unix epoch, with whose clock they are from; without a meaning for `NotAvailable`.
    pub fn timestamp(&self) -> (i64, TimestampType) {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive and `kind` is writable.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.raw.as_ptr(), &raw mut kind) };
        let kind = match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => TimestampType::NotAvailable,
        };
        (millis, kind)
    }

    /// The key; `None` for a null key, empty for an empty one.
    pub fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: null, or `key_len` bytes that live as long as the message.
        unsafe { bytes(raw.key, raw.key_len) }
    }

    /// The value; `None` for a tombstone, empty for an empty value.
    pub fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: null, or `len` bytes that live as long as the message.
        unsafe { bytes(raw.payload, raw.len) }
    }

    /// A copy of the key.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(Bytes::copy_from_slice)
    }

    /// A copy of the value.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(Bytes::copy_from_slice)
    }

    /// The headers in order, parsed at the first call. A header whose name is not UTF-8 shows an empty name.
    pub fn headers(&self) -> Headers<'_> {
        let mut headers = std::ptr::null_mut();
        let _parsing = self.parsing.lock();
        // SAFETY: the message is alive, and no other thread parses its headers. The parsed list belongs to the message.
        let number = unsafe { sys::rd_kafka_message_headers(self.raw.as_ptr(), &raw mut headers) };
        let found = number == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        Headers {
            list: if found { NonNull::new(headers) } else { None },
            next: 0,
            _message: self,
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, while the client is still alive: it is dropped after the list that this lies in.
        unsafe { sys::rd_kafka_message_destroy(self.raw.as_ptr()) }
    }
}

/// Shows the coordinates only; contents may be personal data.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({}-{}@{})", self.topic(), self.partition(), self.offset())
    }
}

/// The headers of a message, in order: name and value (`None` for a null value).
pub struct Headers<'a> {
    list: Option<NonNull<sys::rd_kafka_headers_t>>,
    next: usize,
    _message: &'a Message,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the list belongs to the borrowed message, which outlives 'a, and does not change once parsed.
        let header = unsafe { header(self.list?, self.next) };
        match header {
            Some(_) => self.next += 1,
            None => self.list = None,
        }
        header
    }
}

/// The header of that number, from 0: name and value, which point into the message.
///
/// # Safety
/// The list belongs to a message that lives for 'a.
unsafe fn header<'a>(list: NonNull<sys::rd_kafka_headers_t>, number: usize) -> Option<(&'a str, Option<&'a [u8]>)> {
    let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
        (std::ptr::null(), std::ptr::null(), 0);
    // SAFETY: as promised by the caller.
    unsafe {
        let code = sys::rd_kafka_header_get_all(list.as_ptr(), number, &raw mut name, &raw mut value, &raw mut size);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        Some((CStr::from_ptr(name).to_str().unwrap_or_default(), bytes(value, size)))
    }
}

/// Copies of a message's headers, in order.
///
/// # Safety
/// `message` lives during the call, and no other thread parses its headers.
pub(super) unsafe fn owned_headers(message: *const sys::rd_kafka_message_t) -> Vec<(String, Option<Vec<u8>>)> {
    let mut list = std::ptr::null_mut();
    // SAFETY: as promised by the caller; the parsed list belongs to the message.
    let code = unsafe { sys::rd_kafka_message_headers(message, &raw mut list) };
    let list = NonNull::new(list).filter(|_| code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    let Some(list) = list else { return Vec::new() };
    let mut headers = Vec::new();
    // SAFETY: the message lives during the call; what is read is copied.
    while let Some((name, value)) = unsafe { header(list, headers.len()) } {
        headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
    }
    headers
}

/// # Safety
/// `pointer` is null, or `length` bytes are readable there for 'a.
pub(super) unsafe fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller.
    Some(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}
