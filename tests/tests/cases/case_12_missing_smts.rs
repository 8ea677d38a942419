//! Transforms of Apache Kafka that are not built in (KAFKA-12522 has `Cast`): whoever names one has misspelt nothing. The answer
//! says that this worker knows the class and does not have it, and lists what it has.

use crate::missing_class::{Asked, ensure_says, ensure_says_not};
use anyhow::Result;
use connect_runtime::Plugins;
use connect_runtime::plugins::known_classes;
use serde_json::json;
use std::sync::Arc;

const TYPE: &str = "transforms.c.type";

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_is_not_built_in_is_not_taken_for_a_misspelt_one() -> Result<()> {
    let worker = Asked::start("case12").await?;
    for name in ["Cast", "TimestampConverter", "Flatten", "MaskField"] {
        for class in [
            format!("org.apache.kafka.connect.transforms.{name}$Value"),
            format!("org.apache.kafka.connect.transforms.{name}$Key"),
            format!("{name}$Value"),
        ] {
            let options = json!({ "transforms": "c", TYPE: class, "transforms.c.spec": "a:string" });
            let refusals = worker.refusals(&options, TYPE).await?;
            let beginning =
                format!("Invalid value {class} for configuration {TYPE}: Class {class} could not be found. ");
            ensure_says(
                &refusals,
                &[
                    &beginning,
                    "It is a transformation of Apache Kafka that is not built into this worker",
                    "this worker's transformations are ",
                    "ReplaceField$Value",
                    "RegexRouter",
                ],
            )?;
            ensure_says_not(&refusals, "Did you mean")?;
        }
    }
    for class in ["org.apache.kafka.connect.transforms.TimestampRouter", "TimestampRouter"] {
        let refusals = worker
            .refusals(&json!({ "transforms": "c", TYPE: class }), TYPE)
            .await?;
        ensure_says(
            &refusals,
            &["not built into this worker", "this worker's transformations are "],
        )?;
    }

    let misspelt = "org.apache.kafka.connect.transforms.Csat$Value";
    let refusals = worker
        .refusals(&json!({ "transforms": "c", TYPE: misspelt }), TYPE)
        .await?;
    let words = ["could not be found. Did you mean org.apache.kafka.connect.transforms.Cast$Value?"];
    ensure_says(&refusals, &words)?;
    ensure_says_not(&refusals, "not built into")?;
    let own = json!({ "transforms": "c", TYPE: "com.example.OwnTransform" });
    let refusals = worker.refusals(&own, TYPE).await?;
    ensure_says(
        &refusals,
        &["There is no transformation of that name; this worker's transformations are "],
    )?;
    worker.stop()
}

#[test]
fn no_class_is_said_to_be_missing_that_is_built_in() {
    let mut plugins = Plugins::builtin();
    plugins.connectors.extend(connectors::plugins());
    let service = Arc::new(inference_sink::InferenceService::new());
    plugins
        .connectors
        .push(Arc::new(inference_sink::InferenceSink::new(service)));
    for known in known_classes() {
        let class = known.class();
        assert_eq!(plugins.class_named(known.kind, &class), None, "{class} is built in");
    }
}
