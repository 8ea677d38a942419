//! A model whose rows change each other's answers runs them one by one, and its status says so: a household's score does not
//! depend on whose events wait beside it. <https://github.com/microsoft/onnxruntime/issues/10111>

use anyhow::Result;
use serde_json::{Value, json};

use crate::one_model::{OneModel, near, values};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn event(numbers: [f64; 6]) -> Value {
    NAMES
        .iter()
        .zip(numbers)
        .map(|(name, number)| ((*name).to_owned(), json!(number)))
        .collect()
}

/// The event's answer, alone and among others.
async fn alone_and_in_a_crowd(file: &str, field: &str, numbers: [f64; 6], suspect: &str) -> Result<Value> {
    let stage = OneModel::start("71-dynamic-quantization").await?;
    let document = stage.document(file, &json!({ "input": NAMES }), &json!({ "score": field }));
    stage.put(&OneModel::fields(&NAMES), &document).await?;
    let status = stage.ask("status", &Value::Null).await?;
    assert_eq!(
        (&status["rows"], &status["batch_sizes"]),
        (&json!("one by one"), &json!([1])),
        "{status}"
    );
    let reason = status["rows_reason"].as_str().expect("a reason");
    assert!(reason.contains(suspect), "{reason}");
    let validated = stage.ask("validate", &document).await?;
    assert_eq!(
        (&validated["rows"], &validated["rows_reason"]),
        (&status["rows"], &status["rows_reason"])
    );
    let task = stage.task()?;
    stage.send(&[event(numbers)])?;
    let alone = values(&stage.outputs(1).await?, "score").swap_remove(0);
    // Others that are much larger.
    let crowd: Vec<Value> = (0..60)
        .map(|number| {
            if number % 7 == 3 {
                event(numbers)
            } else {
                event([1e3 * f64::from(number); 6])
            }
        })
        .collect();
    stage.send(&crowd)?;
    let scores = values(&stage.outputs(61).await?, "score");
    for number in (3..60).step_by(7) {
        assert_eq!(scores[1 + number], alone, "event {number} of the crowd");
    }
    task.stop()?;
    Ok(alone)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quantised_row_keeps_its_own_scale() -> Result<()> {
    let numbers = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
    let alone = alone_and_in_a_crowd("quantized_dynamic.onnx", "output", numbers, "DynamicQuantizeLinear").await?;
    near(&alone, 0.680_189_430_71);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_its_own_mean() -> Result<()> {
    let alone = alone_and_in_a_crowd("batch_mean.onnx", "output[2]", [0.5; 6], "ReduceMean of node").await?;
    assert_eq!(alone, 0.0);
    Ok(())
}
