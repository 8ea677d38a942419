//! Requests as a client sends them, one method each, in versions that both brokers speak.

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use kafka_client::RawConnection;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, CreateTopicsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::eventually;

/// Error codes by which Kafka says "not yet": ask again.
const NOT_YET: [i16; 6] = [3, 6, 14, 15, 16, 51];

/// Those of a partition: no leader, too few replicas, or a transaction that is just ending.
const NO_LEADER_YET: [i16; 3] = [6, 19, 51];

/// Time of the first record of a batch, unless a law says another.
const FIRST_TIMESTAMP_MS: i64 = 1000;

/// A string of the protocol.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic's name in the protocol.
pub fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// A producer as a batch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Producer id, -1 for none.
    pub id: i64,
    /// Its epoch, -1 for none.
    pub epoch: i16,
    /// Whether its batches belong to a transaction.
    pub transactional: bool,
}

impl ProducerState {
    /// No idempotence.
    pub const NONE: Self = Self {
        id: -1,
        epoch: -1,
        transactional: false,
    };

    /// A batch of records (key, value) from this sequence on, with timestamps 1000, 1001, ...
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub fn batch(self, sequence: i32, records: &[(Option<&str>, Option<&str>)]) -> Result<Bytes> {
        self.batch_with(sequence, records, Compression::None)
    }

    /// As [`Self::batch`], compressed.
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub fn batch_with(
        self,
        sequence: i32,
        records: &[(Option<&str>, Option<&str>)],
        compression: Compression,
    ) -> Result<Bytes> {
        self.encode(FIRST_TIMESTAMP_MS, sequence, records, compression)
    }

    /// As [`Self::batch`], with the first record at this time, milliseconds since 1970.
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub fn batch_at(self, timestamp_ms: i64, sequence: i32, records: &[(Option<&str>, Option<&str>)]) -> Result<Bytes> {
        self.encode(timestamp_ms, sequence, records, Compression::None)
    }

    fn encode(
        self,
        timestamp_ms: i64,
        sequence: i32,
        records: &[(Option<&str>, Option<&str>)],
        compression: Compression,
    ) -> Result<Bytes> {
        let bytes = |value: Option<&str>| value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let records = records.iter().zip(0..).map(|((key, value), index)| Record {
            transactional: self.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: self.id,
            producer_epoch: self.epoch,
            timestamp_type: TimestampType::Creation,
            offset: index,
            // Without a producer the whole batch has sequence -1; the encoder takes it from the first record.
            sequence: i32::try_from(index).unwrap_or(i32::MAX).wrapping_add(sequence),
            timestamp: timestamp_ms + index,
            key: bytes(*key),
            value: bytes(*value),
            headers: Default::default(),
        });
        let records: Vec<Record> = records.collect();
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions {
            version: 2,
            compression,
        };
        RecordBatchEncoder::encode(&mut batch, &records, &options)?;
        Ok(batch.freeze())
    }
}

/// One connection to the broker.
pub struct Wire {
    connection: RawConnection,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn connect(bootstrap: &str) -> Result<Self> {
        let connection = RawConnection::connect(bootstrap).await?;
        Ok(Self { connection })
    }

    /// Connects and waits until the coordinator of that group (type 0) or transactional id (type 1) is there.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn to_coordinator(bootstrap: &str, key: &str, key_type: i8) -> Result<Self> {
        let wire = Self::connect(bootstrap).await?;
        let request = FindCoordinatorRequest::default()
            .with_key(text(key))
            .with_key_type(key_type);
        let (wire_ref, request) = (&wire, &request);
        eventually("a coordinator", || async move {
            let found = wire_ref.call(request, 3).await?;
            Ok((found.error_code == 0).then_some(()))
        })
        .await?;
        Ok(wire)
    }

    /// Sends any request.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn call<R: Request>(&self, request: &R, version: i16) -> Result<R::Response> {
        Ok(self.connection.call(request, version).await?)
    }

    /// Creates a topic and waits until it can be written. Its records may be of any age, as those of laws are of 1970:
    /// retention by time is off.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        let any_age = [("retention.ms", "-1")];
        let configs = any_age.iter().chain(config).map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let created = self.call(&request, 5).await?;
        let result = created.topics.first().context("no result of a creation")?;
        ensure!(result.error_code == 0, "topic {name} is refused: {}", result.error_code);
        for partition in 0..partitions {
            eventually("a leader", || async move {
                let found = self.list_offset(name, partition, -2, 0).await?;
                Ok((found.error_code == 0).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Produces one batch, asking again where Kafka says "not yet".
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
        transactional_id: Option<&str>,
    ) -> Result<PartitionProduceResponse> {
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch.clone()));
        let data = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
            .with_topic_data(vec![data]);
        let request = &request;
        eventually("a leader that takes a batch", || async move {
            let answer = self.call(request, 9).await?;
            let partition = answer
                .responses
                .into_iter()
                .flat_map(|topic| topic.partition_responses)
                .next();
            let partition = partition.context("no partition in the answer")?;
            Ok((!NO_LEADER_YET.contains(&partition.error_code)).then_some(partition))
        })
        .await
    }

    /// Fetches from one partition, waiting up to `max_wait_ms` for a byte.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        isolation: i8,
        max_wait_ms: i32,
    ) -> Result<PartitionData> {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 22)
            .with_isolation_level(isolation)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.call(&request, 11).await?;
        let partition = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        partition.context("no partition in the answer")
    }

    /// An offset by timestamp (-1 latest, -2 earliest).
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        isolation: i8,
    ) -> Result<ListOffsetsPartitionResponse> {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let answer = self.call(&request, 5).await?;
        let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        partition.context("no partition in the answer")
    }

    /// Initialises a producer and gives its id and epoch.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn initialise(&self, transactional_id: Option<&str>, timeout_ms: i32) -> Result<ProducerState> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let request = &request;
        eventually("a producer id", || async move {
            let answer = self.call(request, 4).await?;
            if NOT_YET.contains(&answer.error_code) {
                return Ok(None);
            }
            ensure!(answer.error_code == 0, "producer refused: {}", answer.error_code);
            Ok(Some(ProducerState {
                id: answer.producer_id.0,
                epoch: answer.producer_epoch,
                transactional: transactional_id.is_some(),
            }))
        })
        .await
    }

    /// Adds a partition to a transaction; the error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn add_partition(&self, id: &str, producer: ProducerState, topic: &str, partition: i32) -> Result<i16> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(id)))
            .with_v3_and_below_producer_id(producer.id.into())
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let request = &request;
        eventually("the coordinator to take a partition", || async move {
            let answer = self.call(request, 3).await?;
            let results = answer.results_by_topic_v3_and_below.into_iter();
            let result = results.flat_map(|topic| topic.results_by_partition).next();
            let code = result.context("no result")?.partition_error_code;
            Ok((!NOT_YET.contains(&code)).then_some(code))
        })
        .await
    }

    /// Adds a group and an offset of it to a transaction; the error code of the commit.
    ///
    /// # Errors
    /// When the connection breaks, or the group is not taken.
    pub async fn add_offset(
        &self,
        id: &str,
        producer: ProducerState,
        group: &str,
        topic: &str,
        offset: i64,
    ) -> Result<i16> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_group_id(GroupId(text(group)));
        let request = &request;
        eventually("the coordinator to take a group", || async move {
            let answer = self.call(request, 3).await?;
            Ok((answer.error_code == 0).then_some(()))
        })
        .await?;
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_group_id(GroupId(text(group)))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let request = &request;
        eventually("an offset in a transaction", || async move {
            let answer = self.call(request, 3).await?;
            let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let code = partition.context("no partition in the answer")?.error_code;
            Ok((!NOT_YET.contains(&code)).then_some(code))
        })
        .await
    }

    /// Ends a transaction; the error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn end(&self, id: &str, producer: ProducerState, commit: bool) -> Result<i16> {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        let request = &request;
        eventually("the end of a transaction", || async move {
            let code = self.call(request, 3).await?.error_code;
            Ok((!NOT_YET.contains(&code)).then_some(code))
        })
        .await
    }

    /// Commits an offset of partition 0 as a member (or, with generation -1, from outside); the error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn commit(
        &self,
        group: &str,
        member: (&str, i32),
        topic: &str,
        offset: i64,
        metadata: &str,
    ) -> Result<i16> {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text(metadata)));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(text(member.0))
            .with_generation_id_or_member_epoch(member.1)
            .with_topics(vec![topic]);
        let request = &request;
        eventually("a commit", || async move {
            let answer = self.call(request, 7).await?;
            let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let code = partition.context("no partition in the answer")?.error_code;
            Ok((!matches!(code, 14..=16)).then_some(code))
        })
        .await
    }

    /// What the group committed for partition 0.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
        require_stable: bool,
    ) -> Result<OffsetFetchResponsePartition> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_require_stable(require_stable)
            .with_topics(Some(vec![topic]));
        let request = &request;
        eventually("committed offsets", || async move {
            let answer = self.call(request, 7).await?;
            if matches!(answer.error_code, 14..=16) {
                return Ok(None);
            }
            ensure!(answer.error_code == 0, "offsets refused: {}", answer.error_code);
            Ok(answer.topics.into_iter().flat_map(|topic| topic.partitions).next())
        })
        .await
    }
}
