//! The bytes of a feature log entry. Its key is `tenant/name`; its value, big endian:
//!
//! ```text
//! format (1)  signature of the inputs (8)  topic length (2) and name  offset (8)  event time (8)
//! output key length (4, all ones for none) and key  features of all inputs, one after the other, each in its tensor's type
//! ```
//! The signature is of the features, their order and their types ([`ServedModel::signature`]). In format 1 it was of their
//! names, and every feature was a float32; models all of whose features are that still read it.

use crate::flow::{RowBlock, RowSource};
use crate::models::ServedModel;
use std::sync::Arc;

const FORMAT: u8 = 2;
const FORMAT_OF_FLOATS: u8 = 1;

/// The bytes of a row.
pub fn encode_entry(block: &RowBlock, row: usize, topics: &[Arc<str>]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&block.model.signature().to_be_bytes());
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

/// Appends an entry to a block of the model that runs now. `place`: partition and offset in the log.
///
/// Error: what is wrong with it, or that it was written for other features than the model takes now.
pub fn decode_entry(
    bytes: &[u8],
    place: (i32, i64),
    arrived_us: u64,
    topics: &[Arc<str>],
    block: &mut RowBlock,
) -> Result<(), String> {
    let short = || "it is too short".to_owned();
    let (format, rest) = bytes.split_first().ok_or_else(short)?;
    let model: Arc<ServedModel> = block.model.clone();
    let expected = match *format {
        FORMAT => Some(model.signature()),
        FORMAT_OF_FLOATS => model.signature_of_floats(),
        _ => {
            return Err(format!(
                "its format {format} is not known; a newer version has written it"
            ));
        }
    };
    let (signature, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if Some(u64::from_be_bytes(*signature)) != expected {
        return Err("it was written for other features than the model takes now".to_owned());
    }
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (topic, rest) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*length)))
        .ok_or_else(short)?;
    let (offset, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (event_time, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (key, rest) = match u32::from_be_bytes(*length) {
        u32::MAX => (None, rest),
        length => rest
            .split_at_checked(length as usize)
            .map(|(key, rest)| (Some(key), rest))
            .ok_or_else(short)?,
    };
    let sizes: Vec<usize> = block
        .inputs
        .iter()
        .zip(model.widths())
        .map(|(values, width)| values.written_size() * width)
        .collect();
    if rest.len() != sizes.iter().sum::<usize>() {
        return Err(format!(
            "its features have {} bytes, those of the model {}",
            rest.len(),
            sizes.iter().sum::<usize>()
        ));
    }
    let topic = topics
        .iter()
        .position(|known| known.as_bytes() == topic)
        .ok_or("its topic is not the connector's")?;
    let mut row = model.empty_inputs();
    let mut start = 0;
    for (values, size) in row.iter_mut().zip(sizes) {
        let bytes = rest.get(start..start + size).unwrap_or_default();
        if !values.read(bytes) {
            return Err("a feature is not of its type".to_owned());
        }
        start += size;
    }
    block.push_inputs(&row);
    let source = RowSource {
        topic: u16::try_from(topic).unwrap_or(u16::MAX),
        partition: place.0,
        offset: i64::from_be_bytes(*offset),
        event_time_ms: i64::from_be_bytes(*event_time),
        arrived_us,
        log_offset: place.1,
    };
    block.end_row(source, |out| key.map(|key| out.extend_from_slice(key)).is_some());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::tests::a_model;
    use model_engine::Values;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back(
            row in prop::collection::vec(-1e6f32..1e6, 3), key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            offset in 0i64..1000, event_time_ms: i64, log_offset in 0i64..1000,
        ) {
            let model = a_model();
            let topics: Vec<Arc<str>> = vec!["clicks".into(), "events".into()];
            let mut block = RowBlock::new(&model);
            let row = vec![Values::Float(row)];
            block.push_inputs(&row);
            let source = RowSource { topic: 1, partition: 7, offset, event_time_ms, arrived_us: 5, log_offset: -1 };
            block.end_row(source, |out| key.as_ref().map(|key| out.extend_from_slice(key)).is_some());
            let bytes = encode_entry(&block, 0, &topics);
            let mut back = RowBlock::new(&model);
            prop_assert_eq!(decode_entry(&bytes, (7, log_offset), 9, &topics, &mut back), Ok(()));
            let meta = back.metas[0];
            prop_assert_eq!((meta.topic, meta.partition, meta.offset, meta.event_time_ms, meta.log_offset), (1, 7, offset, event_time_ms, log_offset));
            prop_assert_eq!(back.key(&meta), key.as_deref());
            prop_assert_eq!(&back.inputs, &row);
        }

        #[test]
        fn any_bytes_give_a_row_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut block = RowBlock::new(&a_model());
            if decode_entry(&bytes, (0, 0), 0, &["events".into()], &mut block).is_err() {
                prop_assert!(block.rows() == 0 && block.inputs[0].is_empty());
            }
        }
    }
}
