//! Fetch: what is there at once if it is enough, else a wait for more. Fetch sessions (KIP-227) are
//! not kept: every request is answered in full with session id 0, which clients take as "none".

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::{Instant, timeout_at};

use crate::log::partition::{Isolation, PartitionLog};
use crate::state::Broker;
use crate::topics::{FetchWaiter, Partition};

/// Longest wait that is granted.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// A partition of the request, looked up once.
struct Wanted {
    index: i32,
    partition: Option<Arc<Partition>>,
    offset: i64,
    max_bytes: usize,
}

/// Reads, waiting up to the request's `max_wait_ms` for `min_bytes`.
pub async fn fetch(broker: &Broker, request: FetchRequest) -> FetchResponse {
    let isolation = Isolation::from_code(request.isolation_level);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait.min(MAX_WAIT);
    let wanted = look_up(broker, &request);
    wait_for_data(&wanted, isolation, min_bytes, deadline).await;
    let mut budget = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let mut is_first = true;
    let topics = request.topics.iter().zip(&wanted).map(|(topic, wanted)| {
        let partitions = wanted.iter().map(|wanted| {
            let data = read(wanted, isolation, budget, is_first);
            let read_bytes = data.records.as_ref().map_or(0, bytes::Bytes::len);
            is_first &= read_bytes == 0;
            budget = budget.saturating_sub(read_bytes);
            data
        });
        let answer = FetchableTopicResponse::default().with_topic(topic.topic.clone());
        answer.with_partitions(partitions.collect())
    });
    FetchResponse::default().with_responses(topics.collect())
}

fn look_up(broker: &Broker, request: &FetchRequest) -> Vec<Vec<Wanted>> {
    let topics = request.topics.iter().map(|wanted| {
        let topic = broker.topics.get(wanted.topic.as_str());
        let partitions = wanted.partitions.iter().map(|wanted| Wanted {
            index: wanted.partition,
            partition: topic.as_ref().and_then(|topic| topic.partition(wanted.partition)),
            offset: wanted.fetch_offset,
            max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        });
        partitions.collect()
    });
    topics.collect()
}

/// Returns when there is enough to answer with, an error to answer with, or no more time.
async fn wait_for_data(wanted: &[Vec<Wanted>], isolation: Isolation, min_bytes: usize, deadline: Instant) {
    if is_enough(wanted, isolation, min_bytes) {
        return;
    }
    let waiter = FetchWaiter::new();
    let partitions = || wanted.iter().flatten().filter_map(|wanted| wanted.partition.as_ref());
    loop {
        for partition in partitions() {
            partition.register(&waiter);
        }
        if is_enough(wanted, isolation, min_bytes) {
            break;
        }
        if timeout_at(deadline, waiter.woken()).await.is_err() {
            break;
        }
    }
    for partition in partitions() {
        partition.unregister(&waiter);
    }
}

fn is_enough(wanted: &[Vec<Wanted>], isolation: Isolation, min_bytes: usize) -> bool {
    let mut bytes = 0;
    for wanted in wanted.iter().flatten() {
        let Some(partition) = &wanted.partition else {
            return true;
        };
        let log = partition.log.lock();
        if !is_in_range(&log, wanted.offset) {
            return true;
        }
        bytes += log.available_bytes(wanted.offset, isolation, min_bytes);
        if bytes >= min_bytes {
            return true;
        }
    }
    bytes >= min_bytes
}

fn is_in_range(log: &PartitionLog, offset: i64) -> bool {
    (log.log_start_offset()..=log.next_offset()).contains(&offset)
}

fn read(wanted: &Wanted, isolation: Isolation, budget: usize, is_first: bool) -> PartitionData {
    let answer = PartitionData::default()
        .with_partition_index(wanted.index)
        .with_high_watermark(-1)
        .with_aborted_transactions(None);
    let Some(partition) = &wanted.partition else {
        return answer.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let log = partition.log.lock();
    let answer = answer
        .with_high_watermark(log.next_offset())
        .with_last_stable_offset(log.last_stable_offset())
        .with_log_start_offset(log.log_start_offset());
    // The first batch of the whole answer is sent whatever its size (KIP-74).
    let max_bytes = wanted.max_bytes.min(budget);
    if !is_first && max_bytes == 0 && is_in_range(&log, wanted.offset) {
        return answer;
    }
    match log.read(wanted.offset, max_bytes, isolation, is_first) {
        Ok(read) => {
            let aborted = read.aborted.into_iter().map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(aborted.producer_id.into())
                    .with_first_offset(aborted.first_offset)
            });
            let aborted = match isolation {
                Isolation::ReadCommitted => Some(aborted.collect()),
                Isolation::ReadUncommitted => None,
            };
            answer
                .with_records(Some(read.records))
                .with_aborted_transactions(aborted)
        }
        Err(error) => answer.with_error_code(error.code()),
    }
}
