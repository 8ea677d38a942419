//! The bytes of a feature log entry. Its key is `tenant/name`; its value, big endian:
//!
//! ```text
//! format (1)  version (4)  signature of its inputs (8)  topic length (2) and name  offset (8)  event time (8)
//! output key length (4, all ones for none) and key  features of all inputs, one after the other, each in its tensor's type
//! ```
//! The version is that of the model that made the row. What the row holds follows from the signature, which the partition's
//! progress has in full. Format 1 had no version, its signature was of the features' names, and every feature was a float32:
//! models all of whose features are that still read it.

use crate::flow::RowBlock;
use std::sync::Arc;

const FORMAT: u8 = 2;
const FORMAT_OF_FLOATS: u8 = 1;

/// A row of the feature log.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedRow<'a> {
    /// who made it
    pub made_by: MadeBy,
    /// input topic, as the task numbers them
    pub topic: u16,
    /// offset of its event
    pub offset: i64,
    /// event time, in milliseconds
    pub event_time_ms: i64,
    /// key of the output record
    pub key: Option<&'a [u8]>,
    /// its features
    pub elements: &'a [u8],
}

/// Who made a row that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// a version of the model
    Version {
        /// its number
        version: u32,
        /// hash of its inputs' signature
        signature: u64,
    },
    /// one of which is known that its inputs were all float32; with the hash of their names
    Floats(u64),
}

/// The bytes of a row.
pub fn encode_entry(block: &RowBlock, row: usize, topics: &[Arc<str>]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&u32::try_from(block.model.version).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&block.model.signature.hash().to_be_bytes());
    let Some(meta) = block.metas.get(row) else { return out };
    let topic = topics.get(usize::from(meta.topic)).map_or("", |topic| topic);
    out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&meta.offset.to_be_bytes());
    out.extend_from_slice(&meta.event_time_ms.to_be_bytes());
    match block.key(meta) {
        Some(key) => {
            out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(key);
        }
        None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
    }
    for (values, part) in block.features(row) {
        values.write(part, &mut out);
    }
    out
}

/// The row that an entry is. Error: what is wrong with it.
pub fn decode_entry<'a>(bytes: &'a [u8], topics: &[Arc<str>]) -> Result<LoggedRow<'a>, String> {
    let short = || "it is too short".to_owned();
    let (format, rest) = bytes.split_first().ok_or_else(short)?;
    let (made_by, rest) = match *format {
        FORMAT => {
            let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let (signature, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
            let made_by = MadeBy::Version {
                version: u32::from_be_bytes(*version),
                signature: u64::from_be_bytes(*signature),
            };
            (made_by, rest)
        }
        FORMAT_OF_FLOATS => {
            let (names, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
            (MadeBy::Floats(u64::from_be_bytes(*names)), rest)
        }
        _ => {
            return Err(format!(
                "its format {format} is not known; a newer version has written it"
            ));
        }
    };
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (topic, rest) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*length)))
        .ok_or_else(short)?;
    let (offset, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (event_time, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (key, elements) = match u32::from_be_bytes(*length) {
        u32::MAX => (None, rest),
        length => rest
            .split_at_checked(length as usize)
            .map(|(key, rest)| (Some(key), rest))
            .ok_or_else(short)?,
    };
    let topic = topics
        .iter()
        .position(|known| known.as_bytes() == topic)
        .ok_or("its topic is not the connector's")?;
    Ok(LoggedRow {
        made_by,
        topic: u16::try_from(topic).unwrap_or(u16::MAX),
        offset: i64::from_be_bytes(*offset),
        event_time_ms: i64::from_be_bytes(*event_time),
        key,
        elements,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::RowSource;
    use crate::models::tests::a_model;
    use model_engine::Values;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back(
            row in prop::collection::vec(-1e6f32..1e6, 3), key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            offset in 0i64..1000, event_time_ms: i64,
        ) {
            let model = a_model();
            let topics: Vec<Arc<str>> = vec!["clicks".into(), "events".into()];
            let mut block = RowBlock::new(&model);
            let row = vec![Values::Float(row)];
            block.push_inputs(&row);
            let source = RowSource { topic: 1, partition: 7, offset, event_time_ms, arrived_us: 5, log_offset: -1 };
            block.end_row(source, |out| key.as_ref().map(|key| out.extend_from_slice(key)).is_some());
            let bytes = encode_entry(&block, 0, &topics);
            let back = decode_entry(&bytes, &topics).unwrap();
            let made_by = MadeBy::Version { version: 3, signature: model.signature.hash() };
            prop_assert_eq!((back.made_by, back.topic, back.offset, back.event_time_ms), (made_by, 1, offset, event_time_ms));
            prop_assert_eq!(back.key, key.as_deref());
            prop_assert_eq!(model.signature.read_row(back.elements), Some(row));
        }

        #[test]
        fn any_bytes_give_a_row_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_entry(&bytes, &["events".into()]);
        }
    }
}
