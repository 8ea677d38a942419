//! What a consumer asks of librdkafka, beside fetching.
#![allow(unsafe_code)]

use std::ffi::c_void;

use rdkafka_sys as sys;

use super::batch_queue::BatchQueue;
use super::client::{self, Client};
use super::native_error;
use super::partition_list::{Entry, PartitionList};
use super::produce::ConsumerGroupMetadata;
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::TopicPartition;

impl Client {
    pub(crate) fn subscribe(&self, topics: &[String]) -> Result<(), KafkaError> {
        let list = PartitionList::new(topics.iter().map(|t| (TopicPartition::new(t.as_str(), -1), 0)))?;
        // SAFETY: both are alive; the list is copied.
        let number = unsafe { sys::rd_kafka_subscribe(self.as_ptr(), list.as_ptr()) } as i32;
        native_error::check(number, || format!("subscribe to {}", topics.join(",")))
    }

    /// Replaces the assignment; `None` ends it.
    pub(crate) fn assign(&self, list: Option<&PartitionList>) -> Result<(), KafkaError> {
        let pointer = list.map_or(std::ptr::null_mut(), PartitionList::as_ptr);
        // SAFETY: the client is alive; the list is alive or null, and is copied.
        let number = unsafe { sys::rd_kafka_assign(self.as_ptr(), pointer) } as i32;
        native_error::check(number, || "assign partitions".to_owned())
    }

    pub(crate) fn incremental_assign(&self, list: &PartitionList) -> Result<(), KafkaError> {
        // SAFETY: both are alive; the list is copied.
        unsafe {
            let error = sys::rd_kafka_incremental_assign(self.as_ptr(), list.as_ptr());
            native_error::take(error, || "assign partitions".to_owned())
        }
    }

    pub(crate) fn incremental_unassign(&self, list: &PartitionList) -> Result<(), KafkaError> {
        // SAFETY: both are alive; the list is copied.
        unsafe {
            let error = sys::rd_kafka_incremental_unassign(self.as_ptr(), list.as_ptr());
            native_error::take(error, || "unassign partitions".to_owned())
        }
    }

    /// The assignment was taken away (session timed out, member fenced), not handed over.
    pub(crate) fn assignment_lost(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_assignment_lost(self.as_ptr()) != 0 }
    }

    /// The group rebalances incrementally (KIP-429).
    pub(crate) fn cooperative(&self) -> bool {
        // SAFETY: returns null or a static string.
        unsafe { native_error::text(sys::rd_kafka_rebalance_protocol(self.as_ptr())) == "COOPERATIVE" }
    }

    pub(crate) fn pause(&self, list: &PartitionList) -> Result<(), KafkaError> {
        // SAFETY: both are alive.
        let number = unsafe { sys::rd_kafka_pause_partitions(self.as_ptr(), list.as_ptr()) } as i32;
        native_error::check(number, || "pause partitions".to_owned())?;
        list.first_error("pause")
    }

    pub(crate) fn resume(&self, list: &PartitionList) -> Result<(), KafkaError> {
        // SAFETY: both are alive.
        let number = unsafe { sys::rd_kafka_resume_partitions(self.as_ptr(), list.as_ptr()) } as i32;
        native_error::check(number, || "resume partitions".to_owned())?;
        list.first_error("resume")
    }

    pub(crate) fn seek(&self, list: &PartitionList, timeout_ms: i32) -> Result<(), KafkaError> {
        // SAFETY: both are alive; results are written into the list.
        unsafe {
            let error = sys::rd_kafka_seek_partitions(self.as_ptr(), list.as_ptr(), timeout_ms);
            native_error::take(error, || "seek".to_owned())?;
        }
        list.first_error("seek")
    }

    /// Fills in the offset after the last message that was yielded, negative where there is none.
    pub(crate) fn position(&self, list: &PartitionList) -> Result<(), KafkaError> {
        // SAFETY: both are alive; results are written into the list.
        let number = unsafe { sys::rd_kafka_position(self.as_ptr(), list.as_ptr()) } as i32;
        native_error::check(number, || "read positions".to_owned())
    }

    pub(crate) fn commit(&self, list: &PartitionList) -> Result<(), KafkaError> {
        // SAFETY: both are alive; 0 asks to wait.
        let number = unsafe { sys::rd_kafka_commit(self.as_ptr(), list.as_ptr(), 0) } as i32;
        native_error::check(number, || "commit offsets".to_owned())?;
        list.first_error("commit offset of")
    }

    /// Fills in committed offsets, negative where there is none.
    pub(crate) fn committed(&self, list: &PartitionList, timeout_ms: i32) -> Result<(), KafkaError> {
        // SAFETY: both are alive; results are written into the list.
        let number = unsafe { sys::rd_kafka_committed(self.as_ptr(), list.as_ptr(), timeout_ms) } as i32;
        native_error::check(number, || "read committed offsets".to_owned())?;
        list.first_error("read committed offset of")
    }

    /// The first offsets whose timestamps (put in as offsets, ms) are at least the given ones.
    pub(crate) fn offsets_for_times(&self, list: &PartitionList, timeout_ms: i32) -> Result<Vec<Entry>, KafkaError> {
        // SAFETY: both are alive; results are written into the list.
        let number = unsafe { sys::rd_kafka_offsets_for_times(self.as_ptr(), list.as_ptr(), timeout_ms) } as i32;
        native_error::check(number, || "look offsets up by time".to_owned())?;
        list.first_error("look offset up by time of")?;
        Ok(list.entries())
    }

    pub(crate) fn watermarks(&self, partition: &TopicPartition, timeout_ms: i32) -> Result<(i64, i64), KafkaError> {
        let topic = native_error::c_string(&partition.topic)?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: all pointers live during the call.
        let number = unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.as_ptr(),
                topic.as_ptr(),
                partition.partition,
                &raw mut low,
                &raw mut high,
                timeout_ms,
            )
        } as i32;
        native_error::check(number, || format!("read watermarks of {partition}"))?;
        Ok((low, high))
    }

    pub(crate) fn group_metadata(&self) -> Result<ConsumerGroupMetadata, KafkaError> {
        // SAFETY: the client is alive; the result is ours.
        ConsumerGroupMetadata::own(unsafe { sys::rd_kafka_consumer_group_metadata(self.as_ptr()) })
            .ok_or_else(|| KafkaError::new(ErrorCode::UnknownGroup, "the consumer has no group.id"))
    }

    /// The member id that the group coordinator gave; empty outside a group.
    pub(crate) fn member_id(&self) -> String {
        // SAFETY: the result is null or a string that is ours to free with the library's allocator.
        unsafe {
            let pointer = sys::rd_kafka_memberid(self.as_ptr());
            let id = native_error::text(pointer);
            if !pointer.is_null() {
                sys::rd_kafka_mem_free(self.as_ptr(), pointer.cast());
            }
            id
        }
    }

    pub(crate) fn closed(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_consumer_closed(self.as_ptr()) != 0 }
    }
}

impl BatchQueue {
    /// Commits in the background; the result comes as an event of this queue under `token`.
    pub(crate) fn commit(&self, list: &PartitionList, token: u64) -> Result<(), KafkaError> {
        // SAFETY: all are alive; the list is copied; the token is a number, not a pointer.
        let number = unsafe {
            sys::rd_kafka_commit_queue(
                self.client().as_ptr(),
                list.as_ptr(),
                self.as_ptr(),
                Some(client::on_commit),
                token as *mut c_void,
            )
        } as i32;
        native_error::check(number, || "commit offsets".to_owned())
    }

    /// Starts leaving the group; what is left to do comes as events of this queue until `Client::closed`.
    pub(crate) fn close(&self) -> Result<(), KafkaError> {
        // SAFETY: all are alive.
        unsafe {
            let error = sys::rd_kafka_consumer_close_queue(self.client().as_ptr(), self.as_ptr());
            native_error::take(error, || "close the consumer".to_owned())
        }
    }
}
