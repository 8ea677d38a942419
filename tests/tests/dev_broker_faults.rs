//! Faults that the development broker injects: exactly the request that is named, exactly as it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dev_broker::{ApiKey, DevBroker, DevBrokerConfig, Fault, FaultAction, FaultTarget, ResponseError};
use kafka_client::{ClientConfig, Producer, ProducerRecord};
use tests::broker_laws::records::Ignored;
use tests::broker_laws::wire::Wire;

async fn start() -> Result<(DevBroker, Wire)> {
    let broker = DevBroker::start(DevBrokerConfig::default())?;
    let wire = Wire::connect(&broker.bootstrap()).await?;
    wire.create_topic("topic", 1, &[]).await?;
    Ok((broker, wire))
}

fn on_produce(nth: u32, action: FaultAction) -> Fault {
    Fault {
        api_key: ApiKey::Produce,
        target: FaultTarget::Nth(nth),
        action,
    }
}

async fn end(wire: &Wire) -> Result<i64> {
    Ok(wire.list_offset("topic", 0, -1, 0).await?.offset)
}

#[tokio::test]
async fn the_named_request_is_answered_with_the_error() -> Result<()> {
    let (broker, wire) = start().await?;
    let producer = wire.initialise(None, 1000).await?;
    broker.inject(on_produce(2, FaultAction::Error(ResponseError::RequestTimedOut)));
    let mut codes = Vec::new();
    for sequence in [0, 1, 1, 2] {
        let batch = producer.batch(sequence, &[(None, Some("v"))])?;
        codes.push(wire.produce("topic", 0, &batch, None).await?.error_code);
    }
    assert_eq!(codes, [0, ResponseError::RequestTimedOut.code(), 0, 0]);
    assert_eq!(end(&wire).await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_may_have_been_served_or_not() -> Result<()> {
    for (action, served) in [(FaultAction::Close, 0), (FaultAction::HandleThenClose, 1)] {
        let (broker, wire) = start().await?;
        let producer = wire.initialise(None, 1000).await?;
        broker.inject(on_produce(1, action));
        let batch = producer.batch(0, &[(None, Some("v"))])?;
        assert!(
            wire.produce("topic", 0, &batch, None).await.is_err(),
            "{action:?} has an answer"
        );
        let wire = Wire::connect(&broker.bootstrap()).await?;
        assert_eq!(end(&wire).await?, served, "{action:?}");
        // Sent again it is there once.
        assert_eq!(wire.produce("topic", 0, &batch, None).await?.base_offset, 0);
        assert_eq!(end(&wire).await?, 1, "{action:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_gets_over_every_fault() -> Result<()> {
    let (broker, wire) = start().await?;
    for (nth, action) in [
        (1, FaultAction::HandleThenClose),
        (3, FaultAction::Close),
        (5, FaultAction::Error(ResponseError::NotLeaderOrFollower)),
        (7, FaultAction::Delay(Duration::from_millis(20))),
        (8, FaultAction::HandleThenClose),
    ] {
        broker.inject(on_produce(nth, action));
    }
    tokio::task::block_in_place(|| -> Result<()> {
        let producer = Producer::new(&ClientConfig::new(&broker.bootstrap()), Arc::new(Ignored))?;
        for round in 0..20 {
            let value = format!("{round}");
            let record = ProducerRecord {
                topic: "topic",
                value: Some(value.as_bytes()),
                ..ProducerRecord::default()
            };
            producer.send(&record, 0)?;
            producer.flush(Duration::from_secs(60))?;
        }
        Ok(())
    })?;
    assert_eq!(end(&wire).await?, 20);
    Ok(())
}
