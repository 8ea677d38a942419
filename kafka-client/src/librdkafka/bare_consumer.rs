//! librdkafka's batch consumption with nothing around it: what [`Consumer`](crate::Consumer), and all that is built on it, is
//! measured against.
#![allow(unsafe_code)]

use std::sync::Arc;

use rdkafka_sys as sys;

use super::batch_queue::BatchQueue;
use super::client::{Callbacks, Client};
use super::native_error;
use super::partition_list::PartitionList;
use crate::config::{ClientConfig, ClientKind};
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::TopicPartition;

/// A consumer that counts its records and frees them at once. For benchmarks.
pub struct BareConsumer {
    queue: BatchQueue,
    batch: Vec<*mut sys::rd_kafka_message_t>,
}

impl BareConsumer {
    /// Reads these partitions from their beginning, with the settings that a [`Consumer`](crate::Consumer) of this
    /// configuration has, `batch` records at most at a time. `group.id` must be set; nothing is committed.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option.
    pub fn new(config: &ClientConfig, partitions: &[TopicPartition], batch: usize) -> Result<Self, KafkaError> {
        let options = config.translated(ClientKind::Consumer)?;
        let client = Client::new(ClientKind::Consumer, &options, Callbacks::default())?;
        let starts = partitions.iter().map(|p| (p.clone(), super::offset::BEGINNING));
        client.assign(Some(&PartitionList::new(starts)?))?;
        Ok(Self {
            queue: BatchQueue::of_consumer(Arc::new(client))?,
            batch: Vec::with_capacity(batch.max(1)),
        })
    }

    /// Takes a batch; waits until it is full or the timeout has passed. Returns its records and the bytes of their keys and
    /// values.
    ///
    /// # Errors
    /// What went wrong at the client or at a partition. The end of a partition is not an error.
    pub fn take(&mut self, timeout_ms: i32) -> Result<(u64, u64), KafkaError> {
        // SAFETY: there is room for the capacity; the first `count` pointers are messages that are then ours. Each is
        // initialised, its code is read as an integer, and it is destroyed once.
        unsafe {
            let size = self.batch.capacity();
            let pointers = self.batch.as_mut_ptr();
            let count = sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), timeout_ms, pointers, size);
            let count = usize::try_from(count).map_err(|_| KafkaError::new(ErrorCode::Fail, "fetch a batch"))?;
            self.batch.set_len(count.min(size));
            let (mut records, mut bytes, mut failed) = (0, 0, 0);
            for message in self.batch.drain(..) {
                match native_error::read_code(&raw const (*message).err) {
                    0 => {
                        records += 1;
                        bytes += ((*message).key_len + (*message).len) as u64;
                    }
                    code if native_error::code(code) == ErrorCode::PartitionEOF => {}
                    code => failed = code,
                }
                sys::rd_kafka_message_destroy(message);
            }
            native_error::check(failed, || "fetch a batch".to_owned())?;
            Ok((records, bytes))
        }
    }
}
