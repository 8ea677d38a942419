//! Keys of keyed stores as people read and write them: the parts of the key, joined by `|`.

use crate::registry::Resources;
use crate::registry::check::Stores;
use feature_engine::{FeaturePlan, Wanted};

/// A key's parts, joined by `|`. The bytes are those of `feature_engine::plan`.
pub(crate) fn shown_key(key: &[u8]) -> String {
    let mut rest = key.get(8..).unwrap_or_default();
    let mut parts: Vec<String> = Vec::new();
    while let Some((part, after)) = first_part(rest) {
        parts.push(part);
        rest = after;
    }
    parts.join("|")
}

fn first_part(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    match tag {
        1 => rest
            .split_first()
            .map(|(value, rest)| ((*value == 1).to_string(), rest)),
        2 => rest
            .split_first_chunk()
            .map(|(value, rest)| (number(f64::from_be_bytes(*value)), rest)),
        3 => {
            let (length, rest) = rest.split_first_chunk()?;
            let (text, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            Some((String::from_utf8_lossy(text).into_owned(), rest))
        }
        4 | 5 => rest
            .split_first_chunk()
            .map(|(value, rest)| (i64::from_be_bytes(*value).to_string(), rest)),
        6 => rest
            .split_first_chunk()
            .map(|(value, rest)| (u64::from_be_bytes(*value).to_string(), rest)),
        _ => None,
    }
}

fn number(value: f64) -> String {
    if value.trunc() == value && value.abs() < 9e15 {
        format!("{value:.0}")
    } else {
        value.to_string()
    }
}

/// The bytes that a key as people write it may stand for in a store: a part that reads as a number may be text too, and
/// each group of aggregates has keys of its own.
pub(crate) fn candidate_keys(resources: &Resources, store: &str, key: &str) -> Vec<Vec<u8>> {
    let mut candidates = Vec::new();
    for view in resources.views.values() {
        let Ok(plan) = FeaturePlan::compile(view, &Wanted::everything(view), &Stores(resources)) else {
            continue;
        };
        for group in plan.groups().iter().filter(|group| group.store == store) {
            let parts: Vec<&str> = if group.by.len() == 1 {
                vec![key]
            } else {
                key.split('|').collect()
            };
            if parts.len() != group.by.len() {
                continue;
            }
            let mut keys = vec![group.identity.to_be_bytes().to_vec()];
            for part in parts {
                keys = keys
                    .iter()
                    .flat_map(|start| encodings(part).into_iter().map(|end| [&start[..], &end].concat()))
                    .collect();
            }
            candidates.append(&mut keys);
        }
    }
    candidates
}

fn encodings(part: &str) -> Vec<Vec<u8>> {
    let mut text = vec![3];
    text.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    text.extend_from_slice(part.as_bytes());
    let mut all = vec![text];
    // An integer beyond 2^53 has a form of its own, and only that.
    const EXACT: u64 = 1 << 53;
    match (part.parse::<i64>(), part.parse::<u64>(), part.parse::<f64>()) {
        (Ok(integer), _, _) if integer.unsigned_abs() > EXACT => {
            all.push([&[4], &integer.to_be_bytes()[..]].concat());
        }
        (Err(_), Ok(integer), _) => all.push([&[6], &integer.to_be_bytes()[..]].concat()),
        (_, _, Ok(number)) => all.push([&[2], &(number + 0.0).to_be_bytes()[..]].concat()),
        _ => {}
    }
    // A time is shown as its milliseconds.
    if let Ok(time) = part.parse::<i64>() {
        all.push([&[5], &time.to_be_bytes()[..]].concat());
    }
    if let Ok(flag) = part.parse::<bool>() {
        all.push(vec![1, u8::from(flag)]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A part of a key, as aggregates write it.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        const EXACT: i64 = 1 << 53;
        let double = prop_oneof![
            (-EXACT..=EXACT).prop_map(|whole| whole as f64),
            (-1e15f64..1e15).prop_filter("no integer", |number| number.trunc() != *number),
            Just(5e-324),
        ];
        prop_oneof![
            any::<bool>().prop_map(|flag| vec![1, u8::from(flag)]),
            double.prop_map(|number| [&[2][..], &(number + 0.0).to_be_bytes()].concat()),
            ".{0,8}".prop_map(|text| {
                let length = u32::try_from(text.len()).unwrap().to_be_bytes();
                [&[3][..], &length, text.as_bytes()].concat()
            }),
            (EXACT + 1..=i64::MAX).prop_map(|number| [&[4][..], &number.to_be_bytes()].concat()),
            any::<i64>().prop_map(|time| [&[5][..], &time.to_be_bytes()].concat()),
            ((1u64 << 63)..=u64::MAX).prop_map(|number| [&[6][..], &number.to_be_bytes()].concat()),
        ]
    }

    proptest! {
        #[test]
        fn every_encoding_is_shown_as_it_was_written(text in "[a-z]{0,5}|[1-9][0-9]{0,18}|-[1-9][0-9]{0,17}|1844674407370955161[0-5]|true") {
            for encoded in encodings(&text) {
                let key = [&[0; 8][..], &encoded].concat();
                prop_assert_eq!(shown_key(&key), text.clone());
            }
        }

        #[test]
        fn what_is_shown_of_a_part_is_found_again(part in part()) {
            let key = [&[0; 8][..], &part].concat();
            let shown = shown_key(&key);
            prop_assert!(encodings(&shown).contains(&part), "{}", shown);
        }

        /// Parts are shown as far as they are whole.
        #[test]
        fn what_is_cut_off_shows_less(parts in prop::collection::vec(part(), 0..4), cut in 0usize..12) {
            let mut key = vec![0; 8];
            key.extend(parts.concat());
            let whole = shown_key(&key);
            key.truncate(key.len().saturating_sub(cut));
            prop_assert!(whole.starts_with(&shown_key(&key)), "{}", whole);
        }
    }
}
