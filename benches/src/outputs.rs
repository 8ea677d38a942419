//! Outputs as a subscriber gets them: when how many of them were committed, and that all of them can be read back.
//!
//! ```text
//!   while a job runs: the end of what is committed in each partition, 50 times a second, with what the job has used --> samples
//!   then: everything read by a read_committed consumer, counted --> where markers of transactions lie between records
//!   both: how many records each sample had below its ends
//! ```
//! A subscriber that reads along would take from the broker's core what it takes, and lag behind the faster side.

use crate::events::PARTITIONS;
use crate::predictions::{Decode, Predictions};
use crate::process::{Program, Usage};
use anyhow::{Context, Result, anyhow, bail, ensure};
use kafka_client::{Admin, ClientConfig, Consumer, IsolationLevel, StartOffset, TopicPartition};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// A broker that does not answer by then will not.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// What has not come by then will not.
const PATIENCE: Duration = Duration::from_secs(600);

/// What could be read at a moment, and what had been used by then.
struct Sample {
    at: Instant,
    /// by partition, the offset behind the last committed record
    ends: Vec<i64>,
    usage: Usage,
}

/// A moment of a run.
#[derive(Clone, Debug)]
pub struct Moment {
    /// when
    pub at: Instant,
    /// committed outputs by then
    pub outputs: u64,
    /// what the process had used by then
    pub usage: Usage,
}

/// A job's outputs, all of them committed and read back.
pub struct Outputs {
    samples: Vec<Sample>,
    expected: u64,
    read: Vec<ReadPartition>,
    /// what they predict, if that was asked for
    pub predictions: Predictions,
}

/// What was found in a partition.
#[derive(Debug, Default)]
struct ReadPartition {
    records: u64,
    /// the offset behind the last record
    next: i64,
    /// what lies between records: first offset, number of offsets
    gaps: Vec<(i64, i64)>,
    /// the end of the partition that was reached last
    end: i64,
}

impl Outputs {
    /// Waits until a program has written `expected` outputs into new topics and they are committed, and reads them back; what
    /// they predict is kept where there is a way to decode it.
    pub async fn of(
        program: &mut Program,
        bootstrap: &str,
        topics: &[String],
        expected: u64,
        decode: Option<Decode>,
    ) -> Result<Outputs> {
        let admin = Admin::new(&ClientConfig::new(bootstrap))?;
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| (0..PARTITIONS).map(|p| TopicPartition::new(topic.clone(), p)))
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let mut samples = Vec::new();
        loop {
            let sample = sample(program, &admin, &partitions).await?;
            let ended = sample.ends.iter().sum::<i64>();
            samples.push(sample);
            if u64::try_from(ended)? >= expected {
                break;
            }
            program.check()?;
            if Instant::now() > deadline {
                bail!(
                    "{ended} outputs of {expected} after {PATIENCE:?}: {}",
                    program.log_tail()
                );
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
        // With transactions a few records may still be missing: their markers count as offsets.
        let consumer = committed(bootstrap, &partitions)?;
        let of_thread = partitions.clone();
        let thread = std::thread::Builder::new()
            .name("read back".to_owned())
            .spawn(move || read_back(&consumer, &of_thread, expected, decode))?;
        while !thread.is_finished() {
            samples.push(sample(program, &admin, &partitions).await?);
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
        let read = thread.join().map_err(|_| anyhow!("reading back has panicked"))?;
        let (read, predictions) = read.context("outputs cannot be read back")?;
        Ok(Outputs {
            samples,
            expected,
            read,
            predictions,
        })
    }

    /// The first sample with at least so many committed outputs.
    pub fn reached(&self, outputs: u64) -> Result<Moment> {
        let reached = self.samples.iter().find_map(|sample| {
            let below = sample
                .ends
                .iter()
                .zip(&self.read)
                .map(|(end, read)| read.records_below(*end));
            let found = below.sum();
            (found >= outputs).then(|| Moment {
                at: sample.at,
                outputs: found,
                usage: sample.usage.clone(),
            })
        });
        reached.with_context(|| format!("no sample has {outputs} outputs"))
    }

    /// The first sample with all of them.
    pub fn all(&self) -> Result<Moment> {
        self.reached(self.expected)
    }
}

impl ReadPartition {
    fn records_below(&self, end: i64) -> u64 {
        let end = end.min(self.next);
        let gaps = self.gaps.iter().take_while(|(first, _)| *first < end);
        let in_gaps: i64 = gaps.map(|(first, length)| (*length).min(end - first)).sum();
        u64::try_from(end - in_gaps).unwrap_or_default()
    }

    fn add(&mut self, offset: i64) {
        if offset > self.next {
            self.gaps.push((self.next, offset - self.next));
        }
        self.next = offset + 1;
        self.records += 1;
    }
}

async fn sample(program: &Program, admin: &Admin, partitions: &[TopicPartition]) -> Result<Sample> {
    let deadline = Instant::now() + ANSWER_PATIENCE;
    let ends = loop {
        match admin.end_offsets(partitions, IsolationLevel::ReadCommitted).await {
            Ok(ends) => break ends,
            // A client that has just begun to ask for new topics may not know yet who leads them.
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(SAMPLE_INTERVAL).await,
        }
    };
    Ok(Sample {
        at: Instant::now(),
        ends: ends.into_iter().map(|(_, end)| end).collect(),
        usage: program.usage()?,
    })
}

fn committed(bootstrap: &str, partitions: &[TopicPartition]) -> Result<Consumer> {
    let mut config = ClientConfig::new(bootstrap);
    config
        .set("isolation.level", "read_committed")
        .set("check.crcs", "false");
    let consumer = Consumer::new(&config)?;
    let from = |partition: &TopicPartition| (partition.clone(), StartOffset::Beginning);
    consumer.assign(&partitions.iter().map(from).collect::<Vec<_>>())?;
    Ok(consumer)
}

/// Reads until `expected` records have come and every partition is at its end.
fn read_back(
    consumer: &Consumer,
    partitions: &[TopicPartition],
    expected: u64,
    decode: Option<Decode>,
) -> Result<(Vec<ReadPartition>, Predictions)> {
    let at: BTreeMap<(&str, i32), usize> = partitions
        .iter()
        .enumerate()
        .map(|(index, partition)| ((&*partition.topic, partition.partition), index))
        .collect();
    let mut read: Vec<ReadPartition> = partitions.iter().map(|_| ReadPartition::default()).collect();
    let mut predictions = Predictions::default();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fetched = consumer.fetch(50_000, Duration::from_millis(50))?;
        if let Some(error) = fetched.errors.into_iter().next() {
            return Err(error.into());
        }
        for message in &fetched.messages {
            let index = at.get(&(message.topic(), message.partition()));
            if let Some(partition) = index.and_then(|index| read.get_mut(*index)) {
                partition.add(message.offset());
                if let Some(decode) = decode {
                    let (artifact, prediction) = decode(message).with_context(|| format!("{message:?}"))?;
                    predictions.add(artifact, prediction);
                }
            }
        }
        for (partition, end) in fetched.end_of_partition.iter().zip(fetched.end_offsets) {
            let index = at.get(&(&*partition.topic, partition.partition));
            if let Some(partition) = index.and_then(|index| read.get_mut(*index)) {
                partition.end = end;
            }
        }
        let records: u64 = read.iter().map(|partition| partition.records).sum();
        if records >= expected && read.iter().all(|partition| partition.end >= partition.next) {
            ensure!(records == expected, "{records} outputs instead of {expected}");
            predictions.sort();
            return Ok((read, predictions));
        }
        ensure!(Instant::now() < deadline, "{records} outputs of {expected} are read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_below_an_offset_leave_out_markers() {
        let mut partition = ReadPartition::default();
        // 0 1 | marker | 3 4 | marker, marker | 7
        for offset in [0, 1, 3, 4, 7] {
            partition.add(offset);
        }
        let below: Vec<u64> = (0..=9).map(|end| partition.records_below(end)).collect();
        assert_eq!(below, [0, 1, 2, 2, 3, 4, 4, 4, 5, 5]);
    }
}
