//! An owned `rd_kafka_topic_partition_list_t`.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use rdkafka_sys as sys;

use super::native_error;
use crate::error::KafkaError;
use crate::topic_partition::TopicPartition;

/// One entry of a list, read.
pub(crate) struct Entry {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) error: i32,
}

/// Topic-partitions with an offset each, owned.
pub(crate) struct PartitionList(NonNull<sys::rd_kafka_topic_partition_list_t>);

impl PartitionList {
    pub(crate) fn new(entries: impl IntoIterator<Item = (TopicPartition, i64)>) -> Result<Self, KafkaError> {
        // SAFETY: allocates; aborts rather than returning null.
        let list = Self::own(unsafe { sys::rd_kafka_topic_partition_list_new(8) });
        for (partition, offset) in entries {
            let topic = native_error::c_string(&partition.topic)?;
            // SAFETY: the list is ours, the name is copied, and the returned entry is valid until the next addition.
            unsafe {
                let entry = sys::rd_kafka_topic_partition_list_add(list.as_ptr(), topic.as_ptr(), partition.partition);
                (*entry).offset = offset;
            }
        }
        Ok(list)
    }

    /// Partitions alone, with no offset.
    pub(crate) fn of<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<Self, KafkaError> {
        Self::new(
            partitions
                .into_iter()
                .map(|p| (p.clone(), i64::from(sys::RD_KAFKA_OFFSET_INVALID))),
        )
    }

    /// Takes a list over. Null becomes an empty list.
    pub(crate) fn own(list: *mut sys::rd_kafka_topic_partition_list_t) -> Self {
        match NonNull::new(list) {
            Some(list) => Self(list),
            // SAFETY: allocates; aborts rather than returning null.
            None => Self(unsafe { NonNull::new_unchecked(sys::rd_kafka_topic_partition_list_new(0)) }),
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        // SAFETY: the list is ours.
        unsafe { read(self.as_ptr()) }
    }

    /// The first entry that carries an error.
    pub(crate) fn first_error(&self, doing: &str) -> Result<(), KafkaError> {
        match self.entries().into_iter().find(|entry| entry.error != 0) {
            Some(entry) => Err(native_error::from_number(
                entry.error,
                format!("{doing} {}", entry.partition),
            )),
            None => Ok(()),
        }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.as_ptr()) }
    }
}

/// Copies a list that belongs to something else. Entries of one topic that follow each other share its name.
///
/// # Safety
/// `list` is null or a valid list that nobody changes during the call.
pub(crate) unsafe fn read(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: `elems` holds `cnt` initialised entries, whose topic is a NUL-terminated string.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for index in 0..count {
            let entry = (*list).elems.add(index);
            let topic = native_error::text((*entry).topic);
            let topic: Arc<str> = match entries.last() {
                Some(last) if *last.partition.topic == *topic => Arc::clone(&last.partition.topic),
                _ => topic.into(),
            };
            entries.push(Entry {
                partition: TopicPartition {
                    topic,
                    partition: (*entry).partition,
                },
                offset: (*entry).offset,
                error: native_error::read_code(&raw const (*entry).err),
            });
        }
        entries
    }
}
