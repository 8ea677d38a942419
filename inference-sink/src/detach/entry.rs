//! The bytes of a feature log entry. Its key is `tenant/name`; its value, big endian:
//!
//! ```text
//! format (1)  hash of the inputs' features (8)  topic length (2) and name  offset (8)  event time (8)
//! output key length (4, all ones for none) and key  features of all inputs, one after the other (4 each)
//! ```

use crate::flow::{RowBlock, RowSource};
use crate::models::ServedModel;
use std::sync::Arc;

const FORMAT: u8 = 1;

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
    for features in block.features(row) {
        for feature in features {
            out.extend_from_slice(&feature.to_be_bytes());
        }
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
    if *format != FORMAT {
        return Err(format!("its format {format} is not known"));
    }
    let (signature, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if u64::from_be_bytes(*signature) != block.model.signature() {
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
    let width: usize = block.model.widths().iter().sum();
    if rest.len() != width * 4 {
        return Err(format!("it has {} features, the model takes {width}", rest.len() / 4));
    }
    let topic = topics
        .iter()
        .position(|known| known.as_bytes() == topic)
        .ok_or("its topic is not the connector's")?;
    let mut features = rest
        .chunks_exact(4)
        .filter_map(|chunk| chunk.try_into().ok().map(f32::from_be_bytes));
    let model: Arc<ServedModel> = block.model.clone();
    for (input, width) in block.inputs.iter_mut().zip(model.widths()) {
        input.extend(features.by_ref().take(*width));
    }
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
            block.inputs[0].extend_from_slice(&row);
            let source = RowSource { topic: 1, partition: 7, offset, event_time_ms, arrived_us: 5, log_offset: -1 };
            block.end_row(source, |out| key.as_ref().map(|key| out.extend_from_slice(key)).is_some());
            let bytes = encode_entry(&block, 0, &topics);
            let mut back = RowBlock::new(&model);
            prop_assert_eq!(decode_entry(&bytes, (7, log_offset), 9, &topics, &mut back), Ok(()));
            let meta = back.metas[0];
            prop_assert_eq!((meta.topic, meta.partition, meta.offset, meta.event_time_ms, meta.log_offset), (1, 7, offset, event_time_ms, log_offset));
            prop_assert_eq!(back.key(&meta), key.as_deref());
            prop_assert_eq!(&back.inputs[0], &row);
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
