//! What a run has predicted: every event once by every model, and the same as the other sides of the contest.

use anyhow::{Context, Result, ensure};
use kafka_client::Message;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

/// How far probabilities may differ. Both engines compute with 32-bit floats, in another order; one side writes six digits.
const TOLERANCE: f32 = 1e-4;

/// One output record.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// partition of its event
    pub partition: i32,
    /// by which the events of a partition are in order: an offset, or a number
    pub order: i64,
    /// what was predicted
    pub probability: f32,
}

/// Predictions by artifact.
#[derive(Debug, Default)]
pub struct Predictions {
    by_artifact: BTreeMap<String, Vec<Prediction>>,
}

/// Turns a record into the artifact that has made it and what it predicts.
pub type Decode = fn(&Message) -> Result<(String, Prediction)>;

impl Predictions {
    /// Adds one.
    pub fn add(&mut self, artifact: String, prediction: Prediction) {
        match self.by_artifact.get_mut(&artifact) {
            Some(predictions) => predictions.push(prediction),
            None => drop(self.by_artifact.insert(artifact, vec![prediction])),
        }
    }

    /// Brings them into the order of events.
    pub fn sort(&mut self) {
        for predictions in self.by_artifact.values_mut() {
            predictions.sort_by_key(|prediction| (prediction.partition, prediction.order));
        }
    }

    /// Fails unless each of `events` was predicted once by each of `models`.
    pub fn check_complete(&self, events: usize, models: usize) -> Result<()> {
        let mut found = 0;
        for (artifact, predictions) in &self.by_artifact {
            // Several models may have one artifact.
            let copies = predictions.len() / events;
            found += copies;
            ensure!(
                predictions.len() == copies * events,
                "{artifact}: {} predictions of {events} events",
                predictions.len()
            );
            let event = |prediction: &Prediction| (prediction.partition, prediction.order);
            let mut last = None;
            for of_one_event in predictions.chunks(copies) {
                let events: HashSet<_> = of_one_event.iter().map(event).collect();
                let this = events.into_iter().max();
                ensure!(
                    of_one_event.iter().map(event).min() == this && last < this,
                    "{artifact}: not every event was predicted once, near {:?}",
                    of_one_event.first()
                );
                last = this;
            }
        }
        ensure!(found == models, "{found} models have predicted, not {models}");
        Ok(())
    }

    /// Fails unless both say the same of every event. Returns the largest difference.
    pub fn check_same(&self, other: &Predictions) -> Result<f32> {
        let artifacts = |all: &Predictions| all.by_artifact.keys().cloned().collect::<Vec<_>>();
        ensure!(
            artifacts(self) == artifacts(other),
            "{:?} and {:?}",
            artifacts(self),
            artifacts(other)
        );
        let mut largest: f32 = 0.0;
        for ((artifact, ours), theirs) in self.by_artifact.iter().zip(other.by_artifact.values()) {
            ensure!(
                ours.len() == theirs.len(),
                "{artifact}: {} and {} predictions",
                ours.len(),
                theirs.len()
            );
            let mut differ = 0;
            let mut example = None;
            for (one, other) in ours.iter().zip(theirs) {
                let difference = (one.probability - other.probability).abs();
                largest = largest.max(difference);
                if one.partition != other.partition || difference.is_nan() || difference > TOLERANCE {
                    differ += 1;
                    example.get_or_insert((*one, *other));
                }
            }
            ensure!(
                differ == 0,
                "{artifact}: {differ} of {} predictions differ: {example:?}",
                ours.len()
            );
        }
        Ok(largest)
    }
}

/// A record of the product: lineage in headers.
pub fn decode_millrace(message: &Message) -> Result<(String, Prediction)> {
    #[derive(Deserialize)]
    struct Value {
        probability: f32,
    }
    let (mut artifact, mut source) = (None, None);
    for (name, value) in message.headers() {
        let value = value.and_then(|value| std::str::from_utf8(value).ok());
        match name {
            // tenant/artifact-number@version
            "millrace.model" => {
                artifact = value.and_then(|v| Some(v.split_once('/')?.1.rsplit_once('-')?.0.to_owned()))
            }
            // topic-partition-offset
            "millrace.source" => {
                source = value.and_then(|value| {
                    let (rest, offset) = value.rsplit_once('-')?;
                    let (_, partition) = rest.rsplit_once('-')?;
                    Some((partition.parse().ok()?, offset.parse().ok()?))
                });
            }
            _ => {}
        }
    }
    let value: Value = serde_json::from_slice(message.value().unwrap_or_default())?;
    let (partition, order) = source.context("a prediction does not say of which event it is")?;
    let artifact = artifact.context("a prediction does not say by which model it is")?;
    Ok((
        artifact,
        Prediction {
            partition,
            order,
            probability: value.probability,
        },
    ))
}

/// A record of the Kafka Streams application, which goes to the partition of its event.
pub fn decode_streams(message: &Message) -> Result<(String, Prediction)> {
    #[derive(Deserialize)]
    struct Value {
        model: String,
        event: i64,
        score: f32,
    }
    let value: Value = serde_json::from_slice(message.value().unwrap_or_default())?;
    let prediction = Prediction {
        partition: message.partition(),
        order: value.event,
        probability: value.score,
    };
    Ok((value.model, prediction))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Of two models with one artifact and one with another, on three events.
    fn complete() -> Predictions {
        let mut predictions = Predictions::default();
        for (partition, order) in [(1, 7), (0, 3), (0, 9)] {
            for artifact in ["mlp", "mlp", "tree"] {
                let probability = 0.25 * order as f32;
                predictions.add(
                    artifact.to_owned(),
                    Prediction {
                        partition,
                        order,
                        probability,
                    },
                );
            }
        }
        predictions.sort();
        predictions
    }

    fn of_tree(predictions: &mut Predictions) -> &mut Vec<Prediction> {
        predictions.by_artifact.get_mut("tree").unwrap()
    }

    #[test]
    fn complete_predictions_pass() {
        complete().check_complete(3, 3).unwrap();
        assert_eq!(complete().check_same(&complete()).unwrap(), 0.0);
    }

    #[test]
    fn a_missing_a_doubled_and_another_prediction_are_found() {
        let mut missing = complete();
        of_tree(&mut missing).pop();
        missing.check_complete(3, 3).unwrap_err();

        let mut doubled = complete();
        let first = of_tree(&mut doubled)[0];
        of_tree(&mut doubled)[1] = first;
        doubled.check_complete(3, 3).unwrap_err();

        complete().check_complete(3, 4).unwrap_err();

        for probability in [0.2, f32::NAN] {
            let mut other = complete();
            of_tree(&mut other)[2].probability = probability;
            complete().check_same(&other).unwrap_err();
        }
        let mut elsewhere = complete();
        of_tree(&mut elsewhere)[2].partition = 3;
        complete().check_same(&elsewhere).unwrap_err();
    }
}
