//! Consumer groups and their offsets.
#![allow(unsafe_code)]

use std::time::Duration;

use rdkafka_sys as sys;

use super::admin_request::{Operation, Options, pointers};
use super::client::Client;
use super::native_error::{self, c_string};
use super::partition_list::{self, PartitionList};
use crate::cluster_description::GroupDescription;
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::TopicPartition;

impl Client {
    /// What the group committed, partitions without a commit left out; `None` asks for all partitions.
    pub(crate) fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        let doing = format!("list offsets of group {group}");
        let name = c_string(group)?;
        let list = partitions.map(PartitionList::of).transpose()?;
        let list = list.as_ref().map_or(std::ptr::null_mut(), PartitionList::as_ptr);
        // SAFETY: both are copied; the request is ours and destroyed below.
        let mut request = [unsafe { sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), list) }];
        let event = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout)
            .and_then(Options::stable_offsets)
            .and_then(|options| {
                self.request(&doing, timeout, |handle, queue| {
                    // SAFETY: all are alive; the request is copied.
                    unsafe {
                        sys::rd_kafka_ListConsumerGroupOffsets(
                            handle,
                            request.as_mut_ptr(),
                            1,
                            options.as_ptr(),
                            queue,
                        );
                    }
                })
            });
        // SAFETY: made above, destroyed once.
        request
            .into_iter()
            .for_each(|request| unsafe { sys::rd_kafka_ListConsumerGroupOffsets_destroy(request) });
        let event = event?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        let entries = unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.as_ptr());
            group_results(
                sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count),
                count,
                &doing,
            )?
        };
        Ok(entries.into_iter().filter(|(_, offset)| *offset >= 0).collect())
    }

    pub(crate) fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let doing = format!("alter offsets of group {group}");
        let name = c_string(group)?;
        let list = PartitionList::new(offsets.iter().cloned())?;
        // SAFETY: both are copied; the request is ours and destroyed below.
        let mut request = [unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.as_ptr()) }];
        let event =
            Options::new(self, Operation::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout).and_then(|options| {
                self.request(&doing, timeout, |handle, queue| {
                    // SAFETY: all are alive; the request is copied.
                    unsafe {
                        sys::rd_kafka_AlterConsumerGroupOffsets(
                            handle,
                            request.as_mut_ptr(),
                            1,
                            options.as_ptr(),
                            queue,
                        );
                    }
                })
            });
        // SAFETY: made above, destroyed once.
        request
            .into_iter()
            .for_each(|request| unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_destroy(request) });
        let event = event?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        unsafe {
            let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.as_ptr());
            group_results(
                sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count),
                count,
                &doing,
            )
            .map(drop)
        }
    }

    pub(crate) fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let doing = format!("delete offsets of group {group}");
        let name = c_string(group)?;
        let list = PartitionList::of(partitions)?;
        // SAFETY: both are copied; the request is ours and destroyed below.
        let mut request = [unsafe { sys::rd_kafka_DeleteConsumerGroupOffsets_new(name.as_ptr(), list.as_ptr()) }];
        let event =
            Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS, timeout).and_then(|options| {
                self.request(&doing, timeout, |handle, queue| {
                    // SAFETY: all are alive; the request is copied.
                    unsafe {
                        sys::rd_kafka_DeleteConsumerGroupOffsets(
                            handle,
                            request.as_mut_ptr(),
                            1,
                            options.as_ptr(),
                            queue,
                        );
                    }
                })
            });
        // SAFETY: made above, destroyed once.
        request
            .into_iter()
            .for_each(|request| unsafe { sys::rd_kafka_DeleteConsumerGroupOffsets_destroy(request) });
        let event = event?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        unsafe {
            let result = sys::rd_kafka_event_DeleteConsumerGroupOffsets_result(event.as_ptr());
            group_results(
                sys::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count),
                count,
                &doing,
            )
            .map(drop)
        }
    }

    pub(crate) fn delete_group(&self, group: &str, timeout: Duration) -> Result<(), KafkaError> {
        let doing = format!("delete group {group}");
        let name = c_string(group)?;
        // SAFETY: the name is copied; the request is ours and destroyed below.
        let mut request = [unsafe { sys::rd_kafka_DeleteGroup_new(name.as_ptr()) }];
        let event = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DELETEGROUPS, timeout).and_then(|options| {
            self.request(&doing, timeout, |handle, queue| {
                // SAFETY: all are alive; the request is copied.
                unsafe { sys::rd_kafka_DeleteGroups(handle, request.as_mut_ptr(), 1, options.as_ptr(), queue) }
            })
        });
        // SAFETY: made above, destroyed once.
        request
            .into_iter()
            .for_each(|request| unsafe { sys::rd_kafka_DeleteGroup_destroy(request) });
        let event = event?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        unsafe {
            let result = sys::rd_kafka_event_DeleteGroups_result(event.as_ptr());
            group_results(
                sys::rd_kafka_DeleteGroups_result_groups(result, &raw mut count),
                count,
                &doing,
            )
            .map(drop)
        }
    }

    /// Names of all groups that brokers tell of.
    pub(crate) fn list_groups(&self, timeout: Duration) -> Result<Vec<String>, KafkaError> {
        const DOING: &str = "list groups";
        let options = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, timeout)?;
        let event = self.request(DOING, timeout, |handle, queue| {
            // SAFETY: all are alive.
            unsafe { sys::rd_kafka_ListConsumerGroups(handle, options.as_ptr(), queue) }
        })?;
        let (mut count, mut failed) = (0, 0);
        // SAFETY: the event is of this request and alive; what is read from it is copied.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroups_result(event.as_ptr());
            let errors = sys::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut failed);
            for error in pointers(errors, failed) {
                native_error::borrow(error, || DOING.to_owned())?;
            }
            let groups = sys::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut count);
            Ok(pointers(groups, count)
                .map(|group| native_error::text(sys::rd_kafka_ConsumerGroupListing_group_id(group)))
                .collect())
        }
    }

    pub(crate) fn describe_group(&self, group: &str, timeout: Duration) -> Result<GroupDescription, KafkaError> {
        let doing = format!("describe group {group}");
        let name = c_string(group)?;
        let mut names = [name.as_ptr()];
        let options = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout)?;
        let event = self.request(&doing, timeout, |handle, queue| {
            // SAFETY: all are alive; the names are copied.
            unsafe { sys::rd_kafka_DescribeConsumerGroups(handle, names.as_mut_ptr(), 1, options.as_ptr(), queue) }
        })?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive; what is read from it is copied.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            let described = pointers(groups, count).next();
            let Some(described) = described else {
                return Err(KafkaError::new(ErrorCode::GroupIdNotFound, doing));
            };
            native_error::borrow(sys::rd_kafka_ConsumerGroupDescription_error(described), || {
                doing.clone()
            })?;
            let state = sys::rd_kafka_ConsumerGroupDescription_state(described);
            Ok(GroupDescription {
                group: group.to_owned(),
                state: native_error::text(sys::rd_kafka_consumer_group_state_name(state)),
                members: sys::rd_kafka_ConsumerGroupDescription_member_count(described),
            })
        }
    }
}

/// The offsets of a list of group results; the first error, of a group or a partition, is the error of all.
///
/// # Safety
/// `results` points to `count` group results that live during the call.
unsafe fn group_results(
    results: *mut *const sys::rd_kafka_group_result_t,
    count: usize,
    doing: &str,
) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
    let mut offsets = Vec::new();
    // SAFETY: as promised by the caller; what is read is copied.
    unsafe {
        for result in pointers(results, count) {
            native_error::borrow(sys::rd_kafka_group_result_error(result), || doing.to_owned())?;
            for entry in partition_list::read(sys::rd_kafka_group_result_partitions(result)) {
                native_error::check(entry.error, || format!("{doing}: {}", entry.partition))?;
                offsets.push((entry.partition, entry.offset));
            }
        }
    }
    Ok(offsets)
}
