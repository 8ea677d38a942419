//! Topics and their configuration.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::time::Duration;

use indexmap::IndexMap;
use rdkafka_sys as sys;

use super::admin_request::{Operation, Options, array, optional_text, pointers, topic_results};
use super::client::{Client, ErrorText};
use super::native_error::{self, c_string};
use super::produce::{Topic, TopicHandles};
use crate::clock::millis;
use crate::cluster_description::{ConfigChange, NewTopic, PartitionDescription, TopicDescription};
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::TopicId;

type PerTopic = Vec<(String, Result<(), KafkaError>)>;

/// Things made for one call, destroyed after it.
struct Owned<T> {
    pointers: Vec<*mut T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(destroy: unsafe extern "C" fn(*mut T)) -> Self {
        Self {
            pointers: Vec::new(),
            destroy,
        }
    }

    /// Takes over one thing; null is what a failed call returned.
    fn push(&mut self, pointer: *mut T, reason: impl FnOnce() -> String) -> Result<*mut T, KafkaError> {
        if pointer.is_null() {
            return Err(KafkaError::new(ErrorCode::InvalidArgument, reason()));
        }
        self.pointers.push(pointer);
        Ok(pointer)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        for &pointer in &self.pointers {
            // SAFETY: each was taken over once and is destroyed by the function for its type.
            unsafe { (self.destroy)(pointer) }
        }
    }
}

impl Client {
    pub(crate) fn create_topics(&self, topics: &[NewTopic], timeout: Duration) -> Result<PerTopic, KafkaError> {
        const DOING: &str = "create topic";
        let mut new = Owned::new(sys::rd_kafka_NewTopic_destroy);
        for topic in topics {
            let name = c_string(&topic.name)?;
            let mut reason = ErrorText::default();
            // SAFETY: name and texts are copied or live during the calls.
            unsafe {
                let made = sys::rd_kafka_NewTopic_new(
                    name.as_ptr(),
                    topic.partitions,
                    c_int::from(topic.replication_factor),
                    reason.as_mut_ptr(),
                    reason.capacity(),
                );
                let made = new.push(made, || format!("{DOING} {}: {}", topic.name, reason.text()))?;
                for (option, value) in &topic.config {
                    let (option, value) = (c_string(option)?, c_string(value)?);
                    let number = sys::rd_kafka_NewTopic_set_config(made, option.as_ptr(), value.as_ptr()) as i32;
                    native_error::check(number, || format!("{DOING} {}: {option:?}", topic.name))?;
                }
            }
        }
        let options =
            Options::new(self, Operation::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout)?.wait_for_completion(timeout)?;
        let event = self.request(DOING, timeout, |handle, queue| {
            // SAFETY: all are alive; the list is copied.
            unsafe {
                sys::rd_kafka_CreateTopics(
                    handle,
                    array(&mut new.pointers),
                    new.pointers.len(),
                    options.as_ptr(),
                    queue,
                );
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        unsafe {
            let result = sys::rd_kafka_event_CreateTopics_result(event.as_ptr());
            Ok(topic_results(
                sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count),
                count,
                DOING,
            ))
        }
    }

    pub(crate) fn delete_topics(&self, topics: &[String], timeout: Duration) -> Result<PerTopic, KafkaError> {
        const DOING: &str = "delete topic";
        let mut gone = Owned::new(sys::rd_kafka_DeleteTopic_destroy);
        for topic in topics {
            let name = c_string(topic)?;
            // SAFETY: the name is copied.
            gone.push(unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) }, || {
                format!("{DOING} {topic}")
            })?;
        }
        let options =
            Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DELETETOPICS, timeout)?.wait_for_completion(timeout)?;
        let event = self.request(DOING, timeout, |handle, queue| {
            // SAFETY: all are alive; the list is copied.
            unsafe {
                sys::rd_kafka_DeleteTopics(
                    handle,
                    array(&mut gone.pointers),
                    gone.pointers.len(),
                    options.as_ptr(),
                    queue,
                );
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        unsafe {
            let result = sys::rd_kafka_event_DeleteTopics_result(event.as_ptr());
            Ok(topic_results(
                sys::rd_kafka_DeleteTopics_result_topics(result, &raw mut count),
                count,
                DOING,
            ))
        }
    }

    pub(crate) fn create_partitions(&self, topic: &str, total: usize, timeout: Duration) -> Result<(), KafkaError> {
        const DOING: &str = "create partitions of";
        let name = c_string(topic)?;
        let mut reason = ErrorText::default();
        let mut new = Owned::new(sys::rd_kafka_NewPartitions_destroy);
        // SAFETY: the name is copied.
        let made =
            unsafe { sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, reason.as_mut_ptr(), reason.capacity()) };
        new.push(made, || format!("{DOING} {topic}: {}", reason.text()))?;
        let options =
            Options::new(self, Operation::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, timeout)?.wait_for_completion(timeout)?;
        let event = self.request(DOING, timeout, |handle, queue| {
            // SAFETY: all are alive; the list is copied.
            unsafe {
                sys::rd_kafka_CreatePartitions(handle, array(&mut new.pointers), 1, options.as_ptr(), queue);
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        let results = unsafe {
            let result = sys::rd_kafka_event_CreatePartitions_result(event.as_ptr());
            topic_results(
                sys::rd_kafka_CreatePartitions_result_topics(result, &raw mut count),
                count,
                DOING,
            )
        };
        results.into_iter().try_for_each(|(_, result)| result)
    }

    /// Without creating a topic that is not there.
    pub(crate) fn describe_topics(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<TopicDescription, KafkaError>>, KafkaError> {
        const DOING: &str = "describe topic";
        let names = topics
            .iter()
            .map(|topic| c_string(topic))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers_to_names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let mut collection = Owned::new(sys::rd_kafka_TopicCollection_destroy);
        // SAFETY: the names are copied.
        let made = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers_to_names.as_mut_ptr(), names.len()) };
        let made = collection.push(made, || DOING.to_owned())?;
        let options = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout)?;
        let event = self.request(DOING, timeout, |handle, queue| {
            // SAFETY: all are alive; the collection is copied.
            unsafe { sys::rd_kafka_DescribeTopics(handle, made, options.as_ptr(), queue) }
        })?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive; what is read from it is copied.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(event.as_ptr());
            let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            Ok(pointers(descriptions, count)
                .map(|description| topic_description(description, DOING))
                .collect())
        }
    }

    /// Names of all topics that may be seen, internal ones included.
    pub(crate) fn topic_names(&self, timeout: Duration) -> Result<Vec<String>, KafkaError> {
        let metadata = self.metadata(true, None, "list topics", timeout)?;
        // SAFETY: the metadata is alive; its arrays hold as many entries as it says.
        unsafe {
            let count = usize::try_from((*metadata.0).topic_cnt).unwrap_or(0);
            Ok((0..count)
                .map(|i| native_error::text((*(*metadata.0).topics.add(i)).topic))
                .collect())
        }
    }

    pub(crate) fn describe_topic_config(
        &self,
        topic: &str,
        timeout: Duration,
    ) -> Result<IndexMap<String, Option<String>>, KafkaError> {
        let doing = format!("describe configuration of topic {topic}");
        self.describe_config(topic_resource(topic)?, &doing, timeout)
    }

    /// The configuration of one of the brokers.
    pub(crate) fn describe_broker_config(
        &self,
        timeout: Duration,
    ) -> Result<IndexMap<String, Option<String>>, KafkaError> {
        const DOING: &str = "describe configuration of a broker";
        // SAFETY: the client is alive; on success the metadata is ours, and its arrays hold as many entries as it says.
        let broker = unsafe {
            let metadata = self.metadata(true, None, DOING, timeout)?;
            let broker = ((*metadata.0).broker_cnt > 0).then(|| (*(*metadata.0).brokers).id);
            broker.ok_or_else(|| KafkaError::new(ErrorCode::BrokerNotAvailable, DOING))?
        };
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER;
        self.describe_config(resource(kind, &broker.to_string())?, DOING, timeout)
    }

    /// Asks for a topic as a producer does that is about to write to it: brokers that make topics by themselves
    /// (`auto.create.topics.enable`) begin to make it. Only of a client with `allow.auto.create.topics=true`.
    pub(crate) fn ask_as_a_writer(
        &self,
        topics: &TopicHandles,
        name: &str,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let topic = topics.topic(name)?;
        self.metadata(false, Some(topic), "ask for a topic", timeout).map(drop)
    }

    fn metadata(
        &self,
        all: bool,
        only: Option<Topic<'_>>,
        doing: &str,
        timeout: Duration,
    ) -> Result<Metadata, KafkaError> {
        let mut metadata = std::ptr::null();
        // SAFETY: the client is alive, and the topic is one of its own; on success the metadata is ours.
        let number = unsafe {
            sys::rd_kafka_metadata(
                self.as_ptr(),
                c_int::from(all),
                only.map_or(std::ptr::null_mut(), Topic::as_ptr),
                &raw mut metadata,
                millis(timeout),
            ) as i32
        };
        native_error::check(number, || doing.to_owned())?;
        Ok(Metadata(metadata))
    }

    fn describe_config(
        &self,
        mut resource: Owned<sys::rd_kafka_ConfigResource_t>,
        doing: &str,
        timeout: Duration,
    ) -> Result<IndexMap<String, Option<String>>, KafkaError> {
        let options = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout)?;
        let event = self.request(doing, timeout, |handle, queue| {
            // SAFETY: all are alive; the list is copied.
            unsafe {
                sys::rd_kafka_DescribeConfigs(handle, array(&mut resource.pointers), 1, options.as_ptr(), queue);
            }
        })?;
        let mut count = 0;
        let mut config = IndexMap::new();
        // SAFETY: the event is of this request and alive; what is read from it is copied.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConfigs_result(event.as_ptr());
            let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            for resource in pointers(resources, count) {
                resource_error(resource, doing)?;
                let mut entries = 0;
                let first = sys::rd_kafka_ConfigResource_configs(resource, &raw mut entries);
                for entry in pointers(first, entries) {
                    let name = native_error::text(sys::rd_kafka_ConfigEntry_name(entry));
                    config.insert(name, optional_text(sys::rd_kafka_ConfigEntry_value(entry)));
                }
            }
        }
        Ok(config)
    }

    pub(crate) fn alter_topic_config(
        &self,
        topic: &str,
        changes: &[(String, ConfigChange)],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        use sys::rd_kafka_AlterConfigOpType_t as Change;

        let doing = format!("alter configuration of topic {topic}");
        let mut resource = topic_resource(topic)?;
        for (option, change) in changes {
            let name = c_string(option)?;
            let (kind, value) = match change {
                ConfigChange::Set(value) => (Change::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, Some(c_string(value)?)),
                ConfigChange::Default => (Change::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, None),
            };
            let value = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
            for &target in &resource.pointers {
                // SAFETY: all live during the call; the strings are copied; the error is ours.
                unsafe {
                    let error = sys::rd_kafka_ConfigResource_add_incremental_config(target, name.as_ptr(), kind, value);
                    native_error::take(error, || format!("{doing}: {option}"))?;
                }
            }
        }
        let options = Options::new(self, Operation::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout)?;
        let event = self.request(&doing, timeout, |handle, queue| {
            // SAFETY: all are alive; the list is copied.
            unsafe {
                sys::rd_kafka_IncrementalAlterConfigs(
                    handle,
                    array(&mut resource.pointers),
                    1,
                    options.as_ptr(),
                    queue,
                );
            }
        })?;
        let mut count = 0;
        // SAFETY: the event is of this request and alive.
        unsafe {
            let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event.as_ptr());
            let resources = sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
            pointers(resources, count).try_for_each(|resource| resource_error(resource, &doing))
        }
    }

    /// The id that every member of the cluster knows it by.
    pub(crate) fn cluster_id(&self, timeout: Duration) -> Result<String, KafkaError> {
        // SAFETY: the client is alive; the string is ours to free with the library's allocator.
        unsafe {
            let pointer = sys::rd_kafka_clusterid(self.as_ptr(), millis(timeout));
            if pointer.is_null() {
                return Err(KafkaError::timed_out("read the cluster's id"));
            }
            let id = native_error::text(pointer);
            sys::rd_kafka_mem_free(self.as_ptr(), pointer.cast());
            Ok(id)
        }
    }
}

/// What the brokers say of the cluster, in the library's memory.
struct Metadata(*const sys::rd_kafka_metadata_t);

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_metadata_destroy(self.0) }
    }
}

fn topic_resource(topic: &str) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, KafkaError> {
    resource(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, topic)
}

fn resource(
    kind: sys::rd_kafka_ResourceType_t,
    name: &str,
) -> Result<Owned<sys::rd_kafka_ConfigResource_t>, KafkaError> {
    let c_name = c_string(name)?;
    let mut resource = Owned::new(sys::rd_kafka_ConfigResource_destroy);
    // SAFETY: the name is copied.
    let made = unsafe { sys::rd_kafka_ConfigResource_new(kind, c_name.as_ptr()) };
    resource.push(made, || format!("configuration of {name:?}"))?;
    Ok(resource)
}

/// # Safety
/// `resource` is alive.
unsafe fn resource_error(resource: *const sys::rd_kafka_ConfigResource_t, doing: &str) -> Result<(), KafkaError> {
    // SAFETY: as promised by the caller; the text is copied.
    unsafe {
        let number = sys::rd_kafka_ConfigResource_error(resource) as i32;
        let detail = native_error::text(sys::rd_kafka_ConfigResource_error_string(resource));
        native_error::check(number, || format!("{doing}: {detail}"))
    }
}

/// # Safety
/// `description` is alive.
unsafe fn topic_description(
    description: *const sys::rd_kafka_TopicDescription_t,
    doing: &str,
) -> Result<TopicDescription, KafkaError> {
    // SAFETY: as promised by the caller; what is read is copied.
    unsafe {
        let name = native_error::text(sys::rd_kafka_TopicDescription_name(description));
        native_error::borrow(sys::rd_kafka_TopicDescription_error(description), || {
            format!("{doing} {name}")
        })?;
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(description, &raw mut count);
        let mut partitions: Vec<PartitionDescription> = pointers(partitions, count)
            .map(|partition| {
                let node = |node: *const sys::rd_kafka_Node_t| sys::rd_kafka_Node_id(node);
                let leader = sys::rd_kafka_TopicPartitionInfo_leader(partition);
                let (mut replicas, mut in_sync) = (0, 0);
                let first_replica = sys::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut replicas);
                let first_in_sync = sys::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut in_sync);
                PartitionDescription {
                    partition: sys::rd_kafka_TopicPartitionInfo_partition(partition),
                    leader: (!leader.is_null()).then(|| node(leader)).filter(|id| *id >= 0),
                    replicas: pointers(first_replica, replicas).map(node).collect(),
                    in_sync_replicas: pointers(first_in_sync, in_sync).map(node).collect(),
                }
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        let id = topic_id(sys::rd_kafka_TopicDescription_topic_id(description));
        Ok(TopicDescription { name, id, partitions })
    }
}

/// # Safety
/// `id` is null or alive.
unsafe fn topic_id(id: *const sys::rd_kafka_Uuid_t) -> Option<TopicId> {
    if id.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller.
    let (most, least) = unsafe {
        (
            sys::rd_kafka_Uuid_most_significant_bits(id),
            sys::rd_kafka_Uuid_least_significant_bits(id),
        )
    };
    let mut bytes = [0; 16];
    let (left, right) = bytes.split_at_mut(8);
    left.copy_from_slice(&most.to_be_bytes());
    right.copy_from_slice(&least.to_be_bytes());
    TopicId::from_bytes(bytes)
}
