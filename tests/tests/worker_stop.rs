//! A stopped worker has closed every client: whoever ends the broker after it hears of no lost connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Result, ensure};
use kafka_client::open_clients;
use serde_json::{Value, json};
use tests::broker::{BrokerUnderTest, OwnDevBroker};
use tests::inference::{create_topics, produce, read};
use tests::inference_scenarios::{artifact, events};
use tests::whole_worker::WholeWorker;

/// The only test of its process, in which it counts the clients.
#[tokio::test(flavor = "multi_thread")]
async fn no_client_outlives_its_worker() -> Result<()> {
    let broker = OwnDevBroker::start().await?;
    let bootstrap = broker.bootstrap();
    let directory = tempfile::tempdir()?;
    create_topics(&bootstrap, &[("events", 2), ("predictions", 2)]).await?;
    ensure!(open_clients().is_empty(), "before: {:?}", open_clients());

    let worker = WholeWorker::start(&bootstrap, "stop", directory.path()).await?;
    put_resources(&worker).await?;
    let input = directory.path().join("lines.txt");
    std::fs::write(&input, "one\ntwo\n")?;
    let letters = json!({
        "errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dead",
        "errors.deadletterqueue.topic.replication.factor": "1"
    });
    for (name, class, further) in [
        ("source", "FileStreamSource", json!({ "file": input, "topic": "lines" })),
        (
            "sink",
            "FileStreamSink",
            json!({ "file": directory.path().join("out.txt"), "topics": "lines" }),
        ),
        (
            "inference",
            "millrace.InferenceSink",
            json!({ "topics": "events", "tasks.max": "2" }),
        ),
    ] {
        let mut config = json!({ "connector.class": class });
        let config_members = config.as_object_mut().unwrap();
        config_members.extend(further.as_object().unwrap().clone());
        if name != "source" {
            config_members.extend(letters.as_object().unwrap().clone());
        }
        let path = format!("/connectors/{name}/config");
        worker.rest.send("PUT", &path, Some(&config)).await?;
        worker.rest.until_running(name).await?;
    }
    let mut records = events(0..100);
    records.push(("h1".to_owned(), "{broken".to_owned()));
    produce(&bootstrap, "events", records)?;
    read(&bootstrap, "predictions", 100).await?;
    read(&bootstrap, "dead", 1).await?;
    read(&bootstrap, "lines", 2).await?;
    ensure!(!open_clients().is_empty(), "no client was counted");

    worker.stop().await;
    ensure!(open_clients().is_empty(), "still open: {:?}", open_clients());
    Ok(())
}

async fn put_resources(worker: &WholeWorker) -> Result<()> {
    let view = json!({
        "source": "events", "partitioned_by": "event.household", "event_time": "event.time",
        "features": {
            "amount": { "expression": "event.amount" },
            "place": { "lookup": { "store": "places", "key": "event.household" } }
        }
    });
    let model = json!({
        "artifact": artifact("logarithm.onnx"), "subscribe": { "topics": ["events"] },
        "inputs": { "features": ["amount"] }, "trigger": { "each": {} },
        "output": { "topic": "predictions", "key": "event.household", "fields": { "score": "variable" } }
    });
    // The extension starts beside the worker.
    worker.rest.until("/inference/tenants", Value::is_array).await?;
    for (path, document) in [
        ("tenants/shop", json!({ "weight": 1 })),
        ("stores/places", json!({ "global": { "topic": "places" } })),
        ("feature-views/purchase", view),
        ("models/shop/score", model),
    ] {
        worker
            .rest
            .send("PUT", &format!("/inference/{path}"), Some(&document))
            .await?;
    }
    Ok(())
}
