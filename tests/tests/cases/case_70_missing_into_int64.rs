//! An event without the id that an embedding needs gets no prediction, and not that of id 0. It is counted, and the status says
//! which feature of which event it was. <https://github.com/catboost/catboost/issues/2999>

use anyhow::Result;
use serde_json::{Value, json};

use crate::one_model::{OneModel, near, values};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_id_is_an_error_of_its_event() -> Result<()> {
    let stage = OneModel::start("70-missing-into-int64").await?;
    let inputs = json!({ "user": ["user"], "item": ["item"] });
    let mut document = stage.document("embedding_net.onnx", &inputs, &json!({ "score": "score" }));
    // One failure would open the circuit breaker.
    document["on_error"] = json!({ "open_after": 1, "within": "1h", "retry_after": "1h" });
    stage.put(&OneModel::fields(&["user", "item"]), &document).await?;
    let task = stage.task()?;
    let wrong = [
        json!({ "item": 2 }),
        json!({ "user": null, "item": 2 }),
        json!({ "user": "seven", "item": 2 }),
        json!({ "user": 7.5, "item": 2 }),
        json!({ "user": 1e30, "item": 2 }),
    ];
    stage.send(&wrong)?;
    stage.send(&[json!({ "user": 7, "item": 2 }), json!({ "user": true, "item": 2.0 })])?;
    let scores = values(&stage.outputs(2).await?, "score");
    assert_eq!(scores.len(), 2);
    near(&scores[0], 0.743_842_184_54);
    stage.until_input_errors(wrong.len() as u64).await?;
    let status = stage.ask("status", &Value::Null).await?;
    let figures = &status["figures"];
    assert_eq!(
        (&status["state"], &figures["errors"], &figures["last_error"]),
        (&json!("SERVING"), &json!(0), &Value::Null)
    );
    assert_eq!(
        (&figures["input_errors"], &figures["predictions"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(
        figures["last_input_error"],
        "events-0 offset 4: feature user of tensor user is 1000000000000000000000000000000, which is out of the range of int64"
    );
    // The same words for an event by hand.
    for (event, words) in wrong.iter().zip([
        "is missing, and int64 has no missing value: give the feature a default",
        "is missing, and int64 has no missing value: give the feature a default",
        "is a string and no number, which counts as missing, and int64 has no missing value: give the feature a default",
        "is 7.5, which is not a whole number as int64 wants it",
        "which is out of the range of int64",
    ]) {
        let answer = stage.ask("evaluate", event).await?;
        let error = answer["input_error"].as_str().expect("an error");
        assert!(error.starts_with("feature user of tensor user is ") && error.contains(words), "{error}");
        assert_eq!(answer["outputs"], Value::Null);
    }
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_stands_for_a_missing_id() -> Result<()> {
    let stage = OneModel::start("70-missing-into-int64").await?;
    let inputs = json!({ "user": ["user"], "item": ["item"] });
    let document = stage.document("embedding_net.onnx", &inputs, &json!({ "score": "score" }));
    let mut features = OneModel::fields(&["user", "item"]);
    features["user"]["default"] = json!(7);
    stage.put(&features, &document).await?;
    let task = stage.task()?;
    stage.send(&[
        json!({ "item": 2 }),
        json!({ "user": "seven", "item": 2 }),
        json!({ "user": 0, "item": 2 }),
    ])?;
    let scores = values(&stage.outputs(3).await?, "score");
    near(&scores[0], 0.743_842_184_54);
    near(&scores[1], 0.743_842_184_54);
    near(&scores[2], 0.318_654_298_78);
    let status = stage.ask("status", &Value::Null).await?;
    assert_eq!(status["figures"]["input_errors"], 0);
    task.stop()
}
