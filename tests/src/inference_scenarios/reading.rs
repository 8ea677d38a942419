//! Which events a task reads: those that upstream has committed, from where the task began.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kafka_client::{ClientConfig, Producer, ProducerRecord};

use super::{LOOK, START_MS, Stage, Stream, by_household, check_lineage, event, events, expected, unique, wait_for};
use crate::broker::BrokerUnderTest;
use crate::broker_laws::records::Ignored;
use crate::inference::{Output, PATIENCE};

/// An upstream that writes in transactions.
struct Upstream(Producer);

impl Upstream {
    fn start(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new(bootstrap);
        config.set("transactional.id", &unique("upstream"));
        let producer = Producer::new(&config, Arc::new(Ignored))?;
        producer.init_transactions(PATIENCE)?;
        Ok(Self(producer))
    }

    fn write(&self, topic: &str, events: &[(String, String)], commit: bool) -> Result<()> {
        self.0.begin_transaction()?;
        for (key, value) in events {
            let record = ProducerRecord {
                topic,
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[],
                timestamp_ms: None,
            };
            self.0.send(&record, 0)?;
        }
        self.0.flush(PATIENCE)?;
        match commit {
            true => self.0.commit_transaction(PATIENCE)?,
            false => self.0.abort_transaction(PATIENCE)?,
        }
        Ok(())
    }
}

/// An event of a transaction that was aborted never happened: it gives no prediction, and is in no aggregate, whatever the
/// guarantee.
///
/// # Errors
/// When one of them is seen.
pub async fn what_upstream_aborted_never_happened(mut stage: Stage) -> Result<()> {
    let upstream = Upstream::start(stage.bootstrap())?;
    let (predictions, connector) = (stage.predictions.clone(), stage.connector.clone());
    for numbers in [0..100, 100..150] {
        // of the same households, so that their aggregates would be others
        upstream.write(&stage.events, &events(numbers.clone()), false)?;
        upstream.write(&stage.events, &events(numbers), true)?;
    }
    for guarantee in ["exactly_once_v2", "at_least_once"] {
        stage.connector = format!("{connector}-{guarantee}");
        stage.predictions = format!("{predictions}-{guarantee}");
        stage.put("models/shop/score", &stage.model("linear.onnx")).await?;
        let task = stage.task(&[("processing.guarantee", guarantee)])?;
        let outputs = stage.outputs(150).await?;
        task.stop()?;
        check_lineage(&outputs)?;
        ensure!(by_household(&outputs)? == expected(0..150), "{guarantee}: scores");
    }
    Ok(())
}

/// Exactly once reads committed records, and a connector that asks for others is refused by name.
///
/// # Errors
/// When it is not.
pub async fn exactly_once_of_uncommitted_records_is_refused(stage: Stage) -> Result<()> {
    let task = stage.task(&[
        ("processing.guarantee", "exactly_once_v2"),
        ("consumer.override.isolation.level", "read_uncommitted"),
    ])?;
    let failed = task.ended().await.err().context("it does not end")?.to_string();
    ensure!(
        failed.contains("consumer.override.isolation.level=read_committed"),
        "{failed}"
    );
    Ok(())
}

/// With `auto.offset.reset=none` a partition that nothing was committed of is the operator's to decide.
///
/// # Errors
/// When the task runs all the same.
pub async fn a_task_that_may_begin_nowhere_fails(stage: Stage) -> Result<()> {
    let task = stage.task(&[("consumer.override.auto.offset.reset", "none")])?;
    let failed = task.ended().await.err().context("it does not end")?.to_string();
    ensure!(
        failed.contains("nothing was committed") && failed.contains(&stage.events),
        "{failed}"
    );
    Ok(())
}

/// A task that began at the end of its topics, and whose first commits failed, goes back to where it began and not to the
/// beginning of the topics.
///
/// # Errors
/// When it computes what was there before, or leaves out what came after.
pub async fn a_commit_that_fails_leads_back_to_where_reading_began(broker: &mut impl BrokerUnderTest) -> Result<()> {
    const BEFORE: i64 = 500;
    let stage = Stage::start(&broker.bootstrap()).await?;
    stage.produce(events(0..BEFORE))?;
    // No commit comes between the first prediction and the end of the broker.
    let task = stage.task(&[
        ("processing.guarantee", "exactly_once_v2"),
        ("inference.commit.interval.ms", "5000"),
        ("consumer.override.auto.offset.reset", "latest"),
    ])?;
    let stream = Stream::start(stage.bootstrap(), &stage.events, BEFORE)?;
    wait_for("a prediction", || stage.worker.service.snapshot().predictions > 0).await?;
    broker.end(true).await?;
    broker.start_again().await?;
    let before = stage.worker.service.snapshot().predictions;
    wait_for("predictions", || stage.worker.service.snapshot().predictions > before).await?;
    let sent = stream.finish()?;
    let outputs = until_last(&stage, sent).await?;
    task.stop()?;
    check_lineage(&outputs)?;
    let numbers = numbers(&outputs)?;
    let first = numbers.first().copied().context("no output")?;
    ensure!(first >= BEFORE, "event {first} was there before the task began");
    // Each partition begins at its own end of that moment: from then on nothing is left out.
    let households = by_household(&outputs)?;
    for (household, scores) in &households {
        let last: Vec<i64> = (0..sent).filter(|number| event(*number).0 == *household).collect();
        let tail = last
            .len()
            .checked_sub(scores.len())
            .context("more outputs than events")?;
        let of_household: Vec<i64> = numbers
            .iter()
            .copied()
            .filter(|number| event(*number).0 == *household)
            .collect();
        ensure!(
            last.get(tail..) == Some(&of_household[..]),
            "{household}: events were left out"
        );
    }
    Ok(())
}

/// Numbers of the events that gave these outputs, ascending.
fn numbers(outputs: &[Output]) -> Result<Vec<i64>> {
    let number = |output: &Output| Some(output.value["event_time"].as_i64()? - START_MS);
    let mut numbers: Vec<i64> = outputs
        .iter()
        .map(|output| number(output).context("an output without a time"))
        .collect::<Result<_>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// The outputs, once those of the last five events, one of each household, are there.
async fn until_last(stage: &Stage, sent: i64) -> Result<Vec<Output>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outputs = stage.outputs(1).await?;
        let seen = numbers(&outputs)?;
        if (sent - 5..sent).all(|number| seen.binary_search(&number).is_ok()) {
            return Ok(outputs);
        }
        ensure!(Instant::now() < deadline, "{} outputs, and not the last", outputs.len());
        tokio::time::sleep(LOOK).await;
    }
}
