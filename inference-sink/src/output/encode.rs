//! Outputs of one batch, encoded into one piece of memory.

use super::{BATCH_HEADER, MODEL_HEADER, SOURCE_HEADER};
use crate::flow::RowBlock;
use crate::models::ServedModel;
use kafka_client::ProducerRecord;
use model_engine::{OutputValue, Outputs};
use std::ops::Range;
use std::sync::Arc;

/// The records of one batch.
#[derive(Debug)]
pub struct EncodedOutputs {
    /// the model
    pub model: Arc<ServedModel>,
    batch: String,
    arena: Vec<u8>,
    records: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    /// the row of its block
    row: usize,
    key: Option<Range<usize>>,
    value: Range<usize>,
    source: Range<usize>,
}

impl EncodedOutputs {
    /// No records of a run.
    pub fn new(model: Arc<ServedModel>, batch: String) -> EncodedOutputs {
        EncodedOutputs {
            model,
            batch,
            arena: Vec::new(),
            records: Vec::new(),
        }
    }

    /// No records that take so many bytes.
    #[cfg(test)]
    pub(super) fn of_size(model: Arc<ServedModel>, bytes: usize) -> EncodedOutputs {
        EncodedOutputs {
            arena: vec![0; bytes],
            ..EncodedOutputs::new(model, String::new())
        }
    }

    /// The topic that they are for.
    pub fn topic(&self) -> &str {
        &self.model.output_topic
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Appends the records of another part of the same run.
    pub fn append(&mut self, other: EncodedOutputs) {
        let shift = self.arena.len();
        let moved = |span: Range<usize>| span.start + shift..span.end + shift;
        self.arena.extend_from_slice(&other.arena);
        self.records.extend(other.records.into_iter().map(|span| Span {
            row: span.row,
            key: span.key.map(moved),
            value: moved(span.value),
            source: moved(span.source),
        }));
    }

    /// Calls `send` with each record in order, until it fails.
    pub fn try_for_each<E>(&self, mut send: impl FnMut(&ProducerRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        self.try_for_each_row(|_, record| send(record))
    }

    /// Calls `send` with the row of each record in its block, and the record, in order and until it fails.
    pub fn try_for_each_row<E>(
        &self,
        mut send: impl FnMut(usize, &ProducerRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for span in &self.records {
            let headers = [
                (MODEL_HEADER, Some(self.model.lineage.as_bytes())),
                (SOURCE_HEADER, self.arena.get(span.source.clone())),
                (BATCH_HEADER, Some(self.batch.as_bytes())),
            ];
            let record = ProducerRecord {
                topic: &self.model.output_topic,
                partition: None,
                key: span.key.clone().and_then(|key| self.arena.get(key)),
                value: self.arena.get(span.value.clone()),
                timestamp_ms: None,
                headers: &headers,
            };
            send(span.row, &record)?;
        }
        Ok(())
    }

    /// Appends the record of row `row` of a block, whose results are in row `result` of `outputs`. False: a selected
    /// value is not finite or not there, and there is no record.
    pub fn push(
        &mut self,
        block: &RowBlock,
        row: usize,
        outputs: &Outputs,
        result: usize,
        topics: &[Arc<str>],
    ) -> bool {
        let Some(meta) = block.metas.get(row) else { return false };
        let start = self.arena.len();
        self.arena.push(b'{');
        for (name, selector) in self.model.fields() {
            self.arena.extend_from_slice(name);
            let written = match outputs.get(selector, result) {
                Some(value) => write_value(value, &mut self.arena),
                None => false,
            };
            if !written {
                self.arena.truncate(start);
                return false;
            }
            self.arena.push(b',');
        }
        self.arena.extend_from_slice(b"\"event_time\":");
        self.arena
            .extend_from_slice(itoa::Buffer::new().format(meta.event_time_ms).as_bytes());
        self.arena.push(b'}');
        let value = start..self.arena.len();
        let topic = topics.get(usize::from(meta.topic)).map_or("", |topic| topic);
        self.arena.extend_from_slice(topic.as_bytes());
        self.arena.push(b'-');
        self.arena
            .extend_from_slice(itoa::Buffer::new().format(meta.partition).as_bytes());
        self.arena.push(b'-');
        self.arena
            .extend_from_slice(itoa::Buffer::new().format(meta.offset).as_bytes());
        let source = value.end..self.arena.len();
        let key = block.key(meta).map(|key| {
            self.arena.extend_from_slice(key);
            source.end..self.arena.len()
        });
        self.records.push(Span {
            row,
            key,
            value,
            source,
        });
        true
    }
}

/// Encodes the rows of a batch. Returns the records and the rows without one.
pub fn encode_batch(
    block: &RowBlock,
    rows: Range<usize>,
    outputs: &Outputs,
    batch: String,
    topics: &[Arc<str>],
) -> (EncodedOutputs, Vec<usize>) {
    let mut encoded = EncodedOutputs::new(block.model.clone(), batch);
    encoded.arena.reserve(rows.len() * 96);
    encoded.records.reserve(rows.len());
    let mut failed = Vec::new();
    for (result, row) in rows.enumerate() {
        if !encoded.push(block, row, outputs, result, topics) {
            failed.push(row);
        }
    }
    (encoded, failed)
}

fn write_value(value: OutputValue<'_>, out: &mut Vec<u8>) -> bool {
    match value {
        OutputValue::Float(number) if !number.is_finite() => return false,
        OutputValue::Double(number) if !number.is_finite() => return false,
        OutputValue::Float(number) => out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes()),
        OutputValue::Double(number) => out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes()),
        OutputValue::Integer(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        OutputValue::Text(text) => out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes()),
    }
    true
}
