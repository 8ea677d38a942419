//! Which events a model gets, and when it should have answered.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kafka_client::{ClientConfig, Producer, ProducerRecord};
use serde_json::json;

use super::{Stage, by_household, event, events, expected, wait_for};
use crate::broker_laws::records::Ignored;
use crate::inference::PATIENCE;

/// A model asks for the types of events that a header names: it gets these, and its features know of all.
///
/// # Errors
/// When it gets another, or misses one.
pub async fn a_header_says_which_events_a_model_gets(stage: Stage) -> Result<()> {
    const EVENTS: i64 = 120;
    let mut model = stage.model("linear.onnx");
    model["subscribe"]["event_type"] = "headers['type']".into();
    model["subscribe"]["events"] = json!(["purchase", "gift"]);
    stage.put("models/shop/score", &model).await?;
    let task = stage.task(&[("inference.commit.interval.ms", "10")])?;

    // Six kinds of headers over five households, so that every household has all of them.
    let kinds: [&[(&str, Option<&[u8]>)]; 6] = [
        &[("type", Some(b"purchase"))],
        &[("type", Some(b"refund"))],
        &[],
        &[("other", Some(b"purchase")), ("type", Some(b"gift"))],
        &[("type", None)],
        &[("type", Some(b"Purchase"))],
    ];
    let is_wanted = |number: i64| matches!(number % 6, 0 | 3);
    let producer = Producer::new(&ClientConfig::new(stage.bootstrap()), Arc::new(Ignored))?;
    for number in 0..EVENTS {
        let (key, value) = event(number);
        let record = ProducerRecord {
            topic: &stage.events,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: kinds[usize::try_from(number % 6)?],
            ..ProducerRecord::default()
        };
        producer.send_waiting(&record, 0, PATIENCE)?;
    }
    producer.flush(PATIENCE)?;
    stage.until_committed(EVENTS).await?;

    let mut wanted = expected(0..EVENTS);
    for (household, scores) in &mut wanted {
        let numbers = (0..EVENTS).filter(|number| event(*number).0 == *household);
        let mut kept = numbers.map(is_wanted);
        scores.retain(|_| kept.next() == Some(true));
    }
    let outputs = stage.outputs(EVENTS / 3).await?;
    ensure!(by_household(&outputs)? == wanted, "{outputs:?}");
    task.stop()
}

/// Two models wait for a batch that does not fill; one of them has a deadline that has passed by then.
///
/// # Errors
/// When a missed deadline is not counted, or one is that was met.
pub async fn a_missed_deadline_is_counted_and_the_prediction_is_made(stage: Stage) -> Result<()> {
    const EVENTS: i64 = 7;
    let mut model = stage.model("linear.onnx");
    model["trigger"] = json!({ "batch": { "max_batch_size": 64, "max_queue_delay": "300ms" } });
    model["deadline"] = "100ms".into();
    stage.put("models/shop/score", &model).await?;
    model["deadline"] = "1h".into();
    stage.put("models/shop/patient", &model).await?;
    // No barrier closes the batch before its time.
    let task = stage.task(&[
        ("processing.guarantee", "at_least_once"),
        ("inference.commit.interval.ms", "60000"),
    ])?;
    stage.produce(events(0..EVENTS))?;
    let outputs = stage.outputs(2 * EVENTS).await?;
    ensure!(outputs.len() == 14, "{outputs:?}");
    for (model, missed) in [("shop/score", EVENTS.unsigned_abs()), ("shop/patient", 0)] {
        let runtime = || {
            let started = stage.worker.service.started().ok()?;
            let deployment = started.deployment();
            Some(deployment.runtimes.get(model)?.figures())
        };
        wait_for("figures", || {
            runtime().is_some_and(|figures| figures.predictions == EVENTS.unsigned_abs())
        })
        .await?;
        let counted = runtime().map(|figures| figures.deadlines_missed);
        ensure!(counted == Some(missed), "{model}: {counted:?} deadlines were missed");
    }
    task.stop()
}
