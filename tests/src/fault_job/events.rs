//! The events of the fault job and what an undisturbed run makes of them. Pure.
//!
//! Households come in batches, batch by batch ten minutes later. A household comes to four batches and is away for the
//! next four, which is longer than its state lives: it expires, is archived, and the household starts empty when it comes back.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions of the input.
pub const PARTITIONS: i32 = 2;
/// Batches of events.
pub const BATCHES: i64 = 16;
const HOUSEHOLDS: i64 = 12;
const PER_BATCH: i64 = 36;
const START_MS: i64 = 1_700_000_100_000;
const BATCH_MS: i64 = 600_000;
/// How long a household's state lives after its last event.
pub const TTL_MS: i64 = 30 * 60_000;
/// The length of the window model's windows, which are aligned to the epoch, and their grace.
pub const WINDOW_MS: i64 = 20 * 60_000;
/// Grace of the windows.
pub const GRACE_MS: i64 = 60_000;
const PRODUCTS: i64 = 4;

/// An event where it lies.
#[derive(Clone, Debug)]
pub struct Event {
    /// its partition: the household's number modulo [`PARTITIONS`]
    pub partition: i32,
    /// who
    pub household: String,
    /// how much
    pub amount: i64,
    /// of what
    pub product: String,
    /// when, in milliseconds since 1970
    pub time_ms: i64,
}

impl Event {
    /// The record's value.
    pub fn value(&self) -> Value {
        json!({ "household": self.household, "amount": self.amount, "product": self.product, "time": self.time_ms })
    }
}

/// The catalog of products: key, value.
pub fn catalog() -> Vec<(String, Value)> {
    (0..PRODUCTS)
        .map(|product| (format!("p{product}"), json!({ "weight": product })))
        .collect()
}

/// The events of one batch; [`BATCHES`] is the last one, which moves time on far enough that all but the households of the
/// batch before it expire.
pub fn batch(number: i64) -> Vec<Event> {
    let event = |household: i64, index: i64, time_ms: i64| Event {
        partition: i32::try_from(household % i64::from(PARTITIONS)).unwrap_or(0),
        household: format!("h{household}"),
        amount: 1 + (index * 7 + number) % 5,
        product: format!("p{}", (index + number) % PRODUCTS),
        time_ms,
    };
    let start_ms = START_MS + number * BATCH_MS;
    if number >= BATCHES {
        // Two households nobody has seen, one for each partition.
        return (0..i64::from(PARTITIONS))
            .map(|partition| event(1000 + partition, partition, start_ms + TTL_MS / 2))
            .collect();
    }
    (0..PER_BATCH)
        .map(|index| (index, (index * 5 + number) % HOUSEHOLDS))
        .filter(|(_, household)| (number / 4 + household / 2) % 2 != 0)
        .map(|(index, household)| event(household, index, start_ms + index * 1000))
        .collect()
}

/// `topic-partition-offset` as in the header `millrace.source`, by position in the input.
pub fn source(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}-{partition}-{offset}")
}

/// One entry's life that has ended: household and the time of its last event.
pub type Life = (String, i64);

/// What an undisturbed run gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// scores by source
    pub predictions: BTreeMap<String, f64>,
    /// scores of closed windows by source, which is the window's last event
    pub windows: BTreeMap<String, f64>,
    /// what is archived
    pub archived: BTreeSet<Life>,
    /// households whose state lives at the end, and when they were touched last
    pub alive: BTreeMap<String, i64>,
}

#[derive(Default)]
struct Household {
    spent: i64,
    seen: i64,
    touched_ms: i64,
    partition: i32,
}

/// What the whole input in `topic` gives: `score = amount + weight + 10 spent + 100 seen`, both before the event.
pub fn expected(topic: &str) -> Expected {
    let mut expected = Expected::default();
    let mut households: BTreeMap<String, Household> = BTreeMap::new();
    let mut windows: BTreeMap<(String, i64), (String, f64)> = BTreeMap::new();
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    let mut now_ms: BTreeMap<i32, i64> = BTreeMap::new();
    for event in (0..=BATCHES).flat_map(batch) {
        let offset = offsets.entry(event.partition).or_default();
        let source = source(topic, event.partition, *offset);
        *offset += 1;
        now_ms.insert(event.partition, event.time_ms);
        let household = households.entry(event.household.clone()).or_default();
        if household.seen > 0 && event.time_ms >= household.touched_ms + TTL_MS {
            expected
                .archived
                .insert((event.household.clone(), household.touched_ms));
            *household = Household::default();
        }
        let weight: i64 = event.product.trim_start_matches('p').parse().unwrap_or(0);
        let score = (event.amount + weight + 10 * household.spent + 100 * household.seen) as f64;
        household.spent += event.amount;
        household.seen += 1;
        household.touched_ms = event.time_ms;
        household.partition = event.partition;
        let window = event.time_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
        windows.insert((event.household.clone(), window), (source.clone(), score));
        expected.predictions.insert(source, score);
    }
    let end_ms = |partition: i32| now_ms.get(&partition).copied().unwrap_or(0);
    for (name, household) in &households {
        match household.touched_ms + TTL_MS <= end_ms(household.partition) {
            true => drop(expected.archived.insert((name.clone(), household.touched_ms))),
            false => drop(expected.alive.insert(name.clone(), household.touched_ms)),
        }
    }
    for ((name, start_ms), (source, score)) in windows {
        let partition = households.get(&name).map_or(0, |household| household.partition);
        if start_ms + WINDOW_MS + GRACE_MS <= end_ms(partition) {
            expected.windows.insert(source, score);
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_has_lives_that_end_and_lives_that_do_not() {
        let expected = expected("events");
        assert!(expected.archived.len() > 12, "{:?}", expected.archived);
        assert!(expected.alive.len() > 4, "{:?}", expected.alive);
        let died_twice = |(name, _): &&Life| expected.archived.iter().filter(|(other, _)| other == name).count() == 2;
        assert!(
            expected.archived.iter().any(|life| died_twice(&life)),
            "{:?}",
            expected.archived
        );
        assert!(expected.windows.len() > 20, "{expected:?}");
        let total: usize = (0..=BATCHES).map(|number| batch(number).len()).sum();
        assert_eq!(expected.predictions.len(), total);
        // No event lies near the end of a life, where a millisecond would decide.
        for event in (0..=BATCHES).flat_map(batch) {
            for (name, touched_ms) in &expected.archived {
                let gap = event.time_ms - touched_ms - TTL_MS;
                assert!(
                    *name != event.household || gap.abs() > 60_000,
                    "{event:?} after {touched_ms}"
                );
            }
        }
    }
}
