//! Open windows as records of a partition's progress. Big endian:
//!
//! ```text
//! key    o  tenant/model  00  closes (8)  end (8)  start (8)  hash of the key's expressions (8)  key
//! value  format (1)  version (4)  signature (8)  topic length (2) and name  offset (8)  event time (8)
//!        output key length (4, all ones for none) and key  features of all inputs, one after the other, each in its type
//! ```
//! Before windows knew their version and when they close, records were `w  tenant/model  00  start (8)  key`, all features
//! were float32, and nothing told what they were features of. Those are of the version that is served when they are read, if
//! they can be.

use crate::models::{InputSignature, ServedModel};
use crate::trigger::{WindowEntry, WindowPlace, WindowRule};
use model_engine::{ElementType, Values};
use std::sync::Arc;

/// First byte of the records' keys.
pub(super) const WINDOW: u8 = b'o';
/// First byte of the keys of before.
pub(super) const OLD_WINDOW: u8 = b'w';

const FORMAT: u8 = 1;
const OLD_FORMAT: u8 = 1;

/// The key of a window's record.
pub(super) fn window_key(model: &str, place: &WindowPlace) -> Vec<u8> {
    let mut key = vec![WINDOW];
    key.extend_from_slice(model.as_bytes());
    key.push(0);
    for number in [place.closes_ms, place.end_ms, place.start_ms] {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key.extend_from_slice(&place.by.to_be_bytes());
    key.extend_from_slice(&place.key);
    key
}

/// Takes a key apart, behind its first byte.
pub(super) fn read_window_key(key: &[u8]) -> Option<(&str, WindowPlace)> {
    let (model, rest) = split_model(key)?;
    let (closes_ms, rest) = rest.split_first_chunk::<8>()?;
    let (end_ms, rest) = rest.split_first_chunk::<8>()?;
    let (start_ms, rest) = rest.split_first_chunk::<8>()?;
    let (by, key) = rest.split_first_chunk::<8>()?;
    let place = WindowPlace {
        closes_ms: i64::from_be_bytes(*closes_ms),
        end_ms: i64::from_be_bytes(*end_ms),
        start_ms: i64::from_be_bytes(*start_ms),
        by: u64::from_be_bytes(*by),
        key: key.to_vec(),
    };
    Some((model, place))
}

/// The model and the rest of a key, behind its first byte.
pub(super) fn split_model(key: &[u8]) -> Option<(&str, &[u8])> {
    let zero = key.iter().position(|byte| *byte == 0)?;
    let model = std::str::from_utf8(key.get(..zero)?).ok()?;
    Some((model, key.get(zero + 1..)?))
}

/// The value of a window's record.
pub(super) fn encode_window(entry: &WindowEntry, topics: &[Arc<str>]) -> Vec<u8> {
    let topic = topics.get(usize::from(entry.topic)).map_or("", |topic| topic);
    let mut out = vec![FORMAT];
    out.extend_from_slice(&u32::try_from(entry.version).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&entry.signature.hash().to_be_bytes());
    out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&entry.offset.to_be_bytes());
    out.extend_from_slice(&entry.event_time_ms.to_be_bytes());
    match &entry.output_key {
        Some(key) => {
            out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(key);
        }
        None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
    }
    for values in &entry.row {
        values.write(0..values.len(), &mut out);
    }
    out
}

/// The window that a value has. `signature`: what a hash stands for.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn decode_window(
    bytes: &[u8],
    topics: &[Arc<str>],
    signature: impl FnOnce(u64) -> Option<Arc<InputSignature>>,
) -> Result<WindowEntry, &'static str> {
    const SHORT: &str = "its record is too short";
    let (format, rest) = bytes.split_first().ok_or(SHORT)?;
    if *format != FORMAT {
        return Err("its format is not known; a newer version has written it");
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    let (hash, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    let (event, elements) = read_event(rest).ok_or(SHORT)?;
    let signature = signature(u64::from_be_bytes(*hash)).ok_or("which inputs it was made for is not recorded")?;
    Ok(WindowEntry {
        version: u32::from_be_bytes(*version).into(),
        row: signature
            .read_row(elements)
            .ok_or("its features are not those of the inputs it was made for")?,
        signature,
        output_key: event.output_key.map(<[u8]>::to_vec),
        topic: event.topic_of(topics)?,
        offset: event.offset,
        event_time_ms: event.event_time_ms,
    })
}

/// A window of before, as one of the version that is served now and of its trigger.
///
/// # Errors
/// Why it is none.
pub(super) fn adopt_window(
    rest_of_key: &[u8],
    value: &[u8],
    topics: &[Arc<str>],
    rule: &WindowRule,
    model: &ServedModel,
) -> Result<(WindowPlace, WindowEntry), &'static str> {
    let (start_ms, key) = rest_of_key.split_first_chunk::<8>().ok_or("its key is too short")?;
    let rest = value.strip_prefix(&[OLD_FORMAT]).ok_or("its format is not known")?;
    let (event, elements) = read_event(rest).ok_or("its record is too short")?;
    let inputs = model.signature.inputs().iter();
    let floats = inputs.into_iter().all(|input| input.element == ElementType::Float);
    let row: Option<Vec<Values>> = model.signature.read_row(elements).filter(|_| floats);
    let entry = WindowEntry {
        version: model.version,
        signature: model.signature.clone(),
        row: row.ok_or("it was opened for other inputs than the model has now")?,
        output_key: event.output_key.map(<[u8]>::to_vec),
        topic: event.topic_of(topics)?,
        offset: event.offset,
        event_time_ms: event.event_time_ms,
    };
    Ok((rule.place(i64::from_be_bytes(*start_ms), key), entry))
}

/// What is kept of the latest event beside its features.
struct KeptEvent<'a> {
    topic: &'a [u8],
    offset: i64,
    event_time_ms: i64,
    output_key: Option<&'a [u8]>,
}

impl KeptEvent<'_> {
    fn topic_of(&self, topics: &[Arc<str>]) -> Result<u16, &'static str> {
        let number = topics.iter().position(|known| known.as_bytes() == self.topic);
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.ok_or("its topic is not the connector's")
    }
}

/// The event, and what comes behind it.
fn read_event(bytes: &[u8]) -> Option<(KeptEvent<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (event_time, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (output_key, rest) = match u32::from_be_bytes(*length) {
        u32::MAX => (None, rest),
        length => {
            let (key, rest) = rest.split_at_checked(length as usize)?;
            (Some(key), rest)
        }
    };
    let event = KeptEvent {
        topic,
        offset: i64::from_be_bytes(*offset),
        event_time_ms: i64::from_be_bytes(*event_time),
        output_key,
    };
    Some((event, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::signature_tests::{any_signature, row_of};
    use crate::models::tests::a_model;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_come_back(
            signature in any_signature(), truths in prop::collection::vec(any::<bool>(), 9),
            output_key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            topic in 0u16..2, offset: i64, event_time_ms: i64, version in 1u64..9,
            (closes_ms, end_ms, start_ms, by) in any::<(i64, i64, i64, u64)>(), key in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let topics: Vec<Arc<str>> = vec!["a".into(), "events.b".into()];
            let mut truths = truths.into_iter().cycle();
            let row = row_of(&signature, || truths.next().unwrap());
            let signature = Arc::new(signature);
            let entry = WindowEntry { version, signature: signature.clone(), row, output_key, topic, offset, event_time_ms };
            let bytes = encode_window(&entry, &topics);
            let back = decode_window(&bytes, &topics, |hash| (hash == signature.hash()).then(|| signature.clone()));
            prop_assert_eq!(back, Ok(entry));
            prop_assert!(decode_window(&bytes, &topics, |_| None).is_err());
            let place = WindowPlace { closes_ms, end_ms, start_ms, by, key };
            let key = window_key("ads/bid", &place);
            prop_assert_eq!(read_window_key(&key[1..]), Some(("ads/bid", place)));
        }

        #[test]
        fn any_bytes_give_a_window_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80), signature in any_signature()) {
            let topics: Vec<Arc<str>> = vec!["".into()];
            let _ = decode_window(&bytes, &topics, |_| Some(Arc::new(signature)));
            let _ = read_window_key(&bytes);
            let rule = WindowRule { length_ms: 1, grace_ms: 1, by: 1 };
            let _ = adopt_window(&bytes, &bytes, &topics, &rule, &a_model());
        }
    }

    #[test]
    fn a_window_of_before_is_the_served_versions_if_it_can_be() {
        let model = a_model();
        let topics: Vec<Arc<str>> = vec!["events".into()];
        let rule = WindowRule {
            length_ms: 1_000,
            grace_ms: 500,
            by: 7,
        };
        let key = [&2_000i64.to_be_bytes()[..], b"h1\0"].concat();
        let mut value = vec![1, 0, 6];
        value.extend_from_slice(b"events");
        value.extend_from_slice(&41i64.to_be_bytes());
        value.extend_from_slice(&2_345i64.to_be_bytes());
        value.extend_from_slice(&u32::MAX.to_be_bytes());
        for feature in [1.0f32, 2.0, 3.0] {
            value.extend_from_slice(&feature.to_be_bytes());
        }
        let (place, entry) = adopt_window(&key, &value, &topics, &rule, &model).unwrap();
        assert_eq!(
            (place.start_ms, place.end_ms, place.closes_ms, place.by),
            (2_000, 3_000, 3_500, 7)
        );
        assert_eq!(
            (&place.key[..], entry.version, entry.offset, entry.event_time_ms),
            (&b"h1\0"[..], 3, 41, 2_345)
        );
        assert_eq!(entry.row, [Values::Float(vec![1.0, 2.0, 3.0])]);
        value.extend_from_slice(&4.0f32.to_be_bytes());
        let error = adopt_window(&key, &value, &topics, &rule, &model).unwrap_err();
        assert!(error.contains("other inputs"), "{error}");
    }
}
