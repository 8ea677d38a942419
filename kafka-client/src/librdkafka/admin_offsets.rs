//! Offsets of partitions.
#![allow(unsafe_code)]

use std::time::Duration;

use rdkafka_sys as sys;

use super::admin_request::{Operation, Options, pointers};
use super::client::Client;
use super::native_error;
use super::partition_list::{self, PartitionList};
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::{IsolationLevel, TopicPartition};

/// Which offset of a partition is asked for.
#[derive(Clone, Copy)]
pub(crate) enum OffsetSpec {
    Beginning,
    End,
}

impl Client {
    /// In the order asked. An error of any partition is the error of all.
    pub(crate) fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
        isolation: IsolationLevel,
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        const DOING: &str = "list offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let spec = match spec {
            OffsetSpec::Beginning => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
            OffsetSpec::End => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
        };
        let list = PartitionList::new(partitions.iter().map(|p| (p.clone(), spec as i64)))?;
        let options = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout)?.isolation(isolation)?;
        let event = self.request(DOING, timeout, |handle, queue| {
            // SAFETY: all are alive; the list is copied.
            unsafe { sys::rd_kafka_ListOffsets(handle, list.as_ptr(), options.as_ptr(), queue) }
        });
        let event = event.map_err(|error| match error.code {
            // "No leaders found": of topics that were made just now
            ErrorCode::NoEnt => KafkaError::new(ErrorCode::LeaderNotAvailable, error.context),
            _ => error,
        })?;
        let mut count = 0;
        let mut found = std::collections::HashMap::new();
        // SAFETY: the event is of this request and alive; what is read from it is copied.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(event.as_ptr());
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            for info in pointers(infos, count) {
                let entry = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                let partition = TopicPartition::new(native_error::text((*entry).topic), (*entry).partition);
                let number = native_error::read_code(&raw const (*entry).err);
                native_error::check(number, || format!("{DOING} of {partition}"))?;
                found.insert(partition, (*entry).offset);
            }
        }
        partitions
            .iter()
            .map(|partition| match found.get(partition) {
                Some(offset) if *offset >= 0 => Ok((partition.clone(), *offset)),
                // No error comes with the partitions of a leader that could not be asked, only an offset that is none.
                Some(_) => Err(KafkaError::new(
                    ErrorCode::OperationTimedOut,
                    format!("{DOING} of {partition}: its leader did not answer"),
                )),
                None => Err(KafkaError::new(
                    ErrorCode::UnknownPartition,
                    format!("{DOING} of {partition}"),
                )),
            })
            .collect()
    }

    /// Deletes records before the given offsets (-1: all). The new first offsets.
    pub(crate) fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        const DOING: &str = "delete records";
        let list = PartitionList::new(before.iter().cloned())?;
        // SAFETY: the list is copied; the request is ours and destroyed below.
        let mut request = [unsafe { sys::rd_kafka_DeleteRecords_new(list.as_ptr()) }];
        let event = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout)
            .and_then(|options| options.wait_for_completion(timeout))
            .and_then(|options| {
                self.request(DOING, timeout, |handle, queue| {
                    // SAFETY: all are alive; the request is copied.
                    unsafe { sys::rd_kafka_DeleteRecords(handle, request.as_mut_ptr(), 1, options.as_ptr(), queue) }
                })
            });
        // SAFETY: made above, destroyed once.
        request
            .into_iter()
            .for_each(|request| unsafe { sys::rd_kafka_DeleteRecords_destroy(request) });
        let event = event?;
        // SAFETY: the event is of this request and alive; the list is copied.
        let entries = unsafe {
            let result = sys::rd_kafka_event_DeleteRecords_result(event.as_ptr());
            partition_list::read(sys::rd_kafka_DeleteRecords_result_offsets(result))
        };
        entries
            .into_iter()
            .map(|entry| {
                native_error::check(entry.error, || format!("{DOING} of {}", entry.partition))?;
                Ok((entry.partition, entry.offset))
            })
            .collect()
    }
}
