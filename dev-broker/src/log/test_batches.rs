//! Batches for tests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

/// Key and value of a record.
pub type KeyValue = (Option<String>, Option<String>);

/// A batch as a producer sends it. `producer` is id, epoch and sequence; records have timestamps from 1000 on.
pub fn batch(producer: Option<(i64, i16, i32)>, transactional: bool, records: &[KeyValue]) -> Bytes {
    let (producer_id, producer_epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    let records: Vec<Record> = records
        .iter()
        .zip(0..)
        .map(|((key, value), index)| Record {
            transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(index),
            sequence: index + sequence,
            timestamp: 1000 + i64::from(index),
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: Default::default(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

/// Appends it to a log, checked as a produced batch is; gives its offset.
pub fn append(log: &mut super::partition::PartitionLog, batch: &Bytes) -> i64 {
    let header = crate::batch::validate_produced(batch).unwrap();
    log.append(&header, batch, None).unwrap().base_offset
}
