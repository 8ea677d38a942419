//! One transaction: what is appended in which order, and what becomes of outputs that a topic refuses.

use super::commit::{Amendment, Commit, CommitFailure, Committed, LogEntry, RecordGroup, Refused};
use super::committer::{Dialogue, Patience};
use super::inputs::check_inputs;
use crate::output::{EncodedOutputs, RefusedTopic, topic_at_fault};
use connect_api::error::ConnectError;
use kafka_client::{ErrorCode, KafkaError, Place, ProducerRecord, RecordWriter, TopicIdentity, WriteError, Written};
use state_store::ChangeRecord;

/// Writes a transaction; `amendment`: what it says beside what the commit does. It is not committed once the topics that it was
/// computed from are others than `inputs`.
pub(super) fn write(
    writer: &mut RecordWriter,
    patience: &mut Patience,
    inputs: &[TopicIdentity],
    commit: &Commit,
    amendment: Option<Amendment>,
    dialogue: &Dialogue,
) -> Result<Committed, CommitFailure> {
    crash_point::reached("commit.outputs_flushed");
    let mut groups: Vec<Option<(Place, Place)>> = Vec::with_capacity(commit.groups.len());
    for group in &commit.groups {
        let mut places: Option<(Place, Place)> = None;
        for record in &group.records {
            let place = append_change(writer, group, record)?;
            places = Some((places.map_or(place, |(first, _)| first), place));
        }
        groups.push(places);
    }
    crash_point::reached("commit.changelog_appended");
    let log_topic = commit.log_topic.as_deref().unwrap_or_default();
    let mut log = Vec::with_capacity(commit.log.len());
    for entry in &commit.log {
        log.push(append_entry(writer, log_topic, entry)?);
    }
    let mut amended = Amended::default();
    if let Some(amendment) = &amendment {
        amended.append(writer, commit, amendment)?;
    }
    let mut outputs = AppendedOutputs::default();
    outputs.append(writer, commit)?;
    crash_point::reached("commit.all_appended");
    let goes_on = &mut |error: &KafkaError| patience.goes_on("writing a transaction", error);
    let written = writer.write(goes_on).map_err(|error| failure(commit, error))?;
    for error in written.refused.iter().cloned() {
        outputs.refuse(commit, error)?;
    }
    check_histories(commit, &groups, &log, &written)?;
    let mut committed = Committed {
        ends: groups
            .into_iter()
            .map(|places| places.map_or(-1, |(_, last)| written.offset(last)) + 1)
            .collect(),
        log_offsets: log.into_iter().map(|place| written.offset(place)).collect(),
    };
    amended.found(&written, &mut committed);
    crash_point::reached("commit.all_sent");
    if let Some(refused) = outputs.refused(&written) {
        let amendment = dialogue.ask(refused)?;
        crash_point::reached("commit.refused");
        amended.append(writer, commit, &amendment)?;
    }
    // Records of a topic that was made again, or has other partitions now, may be among those that this was computed from.
    // Brokers knew of that before they gave such a record away, so they tell of it now.
    check_inputs(writer, inputs, &mut |error| {
        patience.goes_on("looking at the input topics", error)
    })?;
    let goes_on = &mut |error: &KafkaError| patience.goes_on("committing a transaction", error);
    let written = writer.commit(goes_on).map_err(|error| failure(commit, error))?;
    amended.found(&written, &mut committed);
    Ok(committed)
}

/// Before the transaction is committed: whether each changelog and the feature log go on where they ended.
fn check_histories(
    commit: &Commit,
    groups: &[Option<(Place, Place)>],
    log: &[Place],
    written: &Written,
) -> Result<(), CommitFailure> {
    for (group, places) in commit.groups.iter().zip(groups) {
        if let Some((first, _)) = places {
            check_goes_on(&group.topic, group.partition, group.end, written.offset(*first))?;
        }
    }
    let log_topic = commit.log_topic.as_deref().unwrap_or_default();
    for (entry, place) in commit.log.iter().zip(log) {
        check_goes_on(log_topic, entry.partition, entry.end, written.offset(*place))?;
    }
    Ok(())
}

/// A partition whose offsets go back is of a topic that was deleted and made again, and what is written to it now would be the
/// rest of a history that it does not have.
fn check_goes_on(topic: &str, partition: i32, end: i64, offset: i64) -> Result<(), CommitFailure> {
    // An offset that is not known (-1) says nothing.
    if offset < 0 || offset >= end {
        return Ok(());
    }
    let text = format!(
        "topic {topic} was deleted and made again while the task ran: partition {partition} had reached offset {end} and \
         writes at {offset} now. Nothing was written to it. Restart the task to go on without what the topic held, or stop \
         the connector and delete all of its topics (connect-NAME-*) to begin anew"
    );
    Err(CommitFailure {
        ends: Some(ConnectError::fatal(&*text)),
        ..CommitFailure::of(KafkaError::new(ErrorCode::Fail, text))
    })
}

fn append_change(
    writer: &mut RecordWriter,
    group: &RecordGroup,
    record: &ChangeRecord,
) -> Result<Place, CommitFailure> {
    let record = ProducerRecord {
        topic: &group.topic,
        partition: Some(group.partition),
        key: Some(&record.key),
        value: record.value.as_deref(),
        timestamp_ms: None,
        headers: &[],
    };
    writer.append(&record).map_err(nobodys)
}

fn append_entry(writer: &mut RecordWriter, log_topic: &str, entry: &LogEntry) -> Result<Place, CommitFailure> {
    let record = ProducerRecord {
        topic: log_topic,
        partition: Some(entry.partition),
        key: Some(entry.model.as_bytes()),
        value: Some(&entry.value),
        timestamp_ms: None,
        headers: &[],
    };
    writer.append(&record).map_err(nobodys)
}

/// An error of a topic that everybody's state is in.
fn nobodys(error: WriteError) -> CommitFailure {
    CommitFailure::of(error.error)
}

/// Whose failure it is: that of the topic of outputs or shed events that is at fault, or everybody's.
fn failure(commit: &Commit, error: WriteError) -> CommitFailure {
    CommitFailure {
        refused: topic_at_fault(&error, topics(commit)).map(Box::new),
        ..CommitFailure::of(error.error)
    }
}

fn topics(commit: &Commit) -> impl Iterator<Item = &str> {
    let outputs = commit.outputs.iter().map(EncodedOutputs::topic);
    outputs.chain(commit.shed.iter().map(|event| &*event.topic))
}

/// What of amendments has been appended and not been written yet.
#[derive(Default)]
struct Amended {
    /// group and place
    records: Vec<(usize, Place)>,
    log: Vec<Place>,
}

impl Amended {
    fn append(
        &mut self,
        writer: &mut RecordWriter,
        commit: &Commit,
        amendment: &Amendment,
    ) -> Result<(), CommitFailure> {
        for (number, record) in &amendment.records {
            if let Some(group) = commit.groups.get(*number) {
                self.records.push((*number, append_change(writer, group, record)?));
            }
        }
        for entry in &amendment.log {
            self.log.push(append_entry(writer, &amendment.log_topic, entry)?);
        }
        Ok(())
    }

    /// Notes where it was written.
    fn found(&mut self, written: &Written, committed: &mut Committed) {
        for (number, place) in self.records.drain(..) {
            if let Some(end) = committed.ends.get_mut(number) {
                *end = (*end).max(written.offset(place) + 1);
            }
        }
        let offsets = self.log.drain(..).map(|place| written.offset(place));
        committed.log_offsets.extend(offsets);
    }
}

/// Outputs and shed events of a transaction, and what has become of them.
#[derive(Default)]
struct AppendedOutputs {
    /// by output of the commit: rows with the places of their records; none: it was not taken
    outputs: Vec<Vec<(usize, Option<Place>)>>,
    refused: Vec<RefusedTopic>,
}

impl AppendedOutputs {
    fn append(&mut self, writer: &mut RecordWriter, commit: &Commit) -> Result<(), CommitFailure> {
        for outputs in &commit.outputs {
            let mut rows = Vec::with_capacity(outputs.len());
            outputs.try_for_each_row(|row, record| {
                let place = match self.is_gone(record.topic) {
                    true => None,
                    false => self.try_append(writer, commit, record)?,
                };
                rows.push((row, place));
                Ok::<(), CommitFailure>(())
            })?;
            self.outputs.push(rows);
        }
        for event in &commit.shed {
            let (key, value, source) = event.parts();
            let headers = [(crate::output::SOURCE_HEADER, Some(source.as_bytes()))];
            let record = ProducerRecord {
                topic: &event.topic,
                partition: None,
                key,
                value,
                timestamp_ms: None,
                headers: &headers,
            };
            if !self.is_gone(record.topic) {
                self.try_append(writer, commit, &record)?;
            }
        }
        Ok(())
    }

    /// Whether a topic is not to be asked again.
    fn is_gone(&self, topic: &str) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|refused| *refused.topic == *topic && !refused.of_records)
    }

    fn try_append(
        &mut self,
        writer: &mut RecordWriter,
        commit: &Commit,
        record: &ProducerRecord<'_>,
    ) -> Result<Option<Place>, CommitFailure> {
        match writer.append(record) {
            Ok(place) => Ok(Some(place)),
            Err(error) => self.refuse(commit, error).map(|()| None),
        }
    }

    /// Notes a refusal. Error: it is everybody's.
    fn refuse(&mut self, commit: &Commit, error: WriteError) -> Result<(), CommitFailure> {
        match topic_at_fault(&error, topics(commit)) {
            None => Err(nobodys(error)),
            Some(refused) => {
                if !self.refused.iter().any(|known| known.topic == refused.topic) {
                    self.refused.push(refused);
                }
                Ok(())
            }
        }
    }

    /// What is not written of the outputs; none: everything is.
    fn refused(self, written: &Written) -> Option<Refused> {
        if self.refused.is_empty() {
            return None;
        }
        let missing = |rows: Vec<(usize, Option<Place>)>| -> Vec<usize> {
            let missing = rows
                .into_iter()
                .filter(|(_, place)| !place.is_some_and(|place| written.has(place)));
            missing.map(|(row, _)| row).collect()
        };
        let rows = self.outputs.into_iter().map(missing).enumerate();
        Some(Refused {
            topics: self.refused,
            rows: Some(rows.filter(|(_, rows)| !rows.is_empty()).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_whose_offsets_go_back_was_made_again() {
        for (end, offset) in [(0, 0), (7, 7), (7, 9), (7, -1)] {
            assert!(check_goes_on("t", 0, end, offset).is_ok(), "{end} {offset}");
        }
        let failure = check_goes_on("connect-a-s-changelog", 3, 7, 6).unwrap_err();
        let text = failure.ends.unwrap().to_string();
        assert!(
            text.contains("connect-a-s-changelog") && text.contains("partition 3"),
            "{text}"
        );
    }
}
