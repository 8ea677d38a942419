//! A scikit-learn pipeline with double inputs runs, and in doubles. <https://github.com/onnx/sklearn-onnx/issues/753>

use anyhow::Result;
use serde_json::json;

use crate::one_model::{OneModel, values};

/// Probabilities of ONNX Runtime.
const YES: [f64; 3] = [0.801_667_480_372_888_8, 0.578_475_215_530_279, 0.157_604_556_644_478_6];

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_doubles_is_computed_in_doubles() -> Result<()> {
    let stage = OneModel::start("69-double-logistic-refused").await?;
    let fields = json!({ "label": "label", "yes": "probabilities[1]" });
    let document = stage.document("double_scaler.onnx", &json!({ "X": ["at", "amount"] }), &fields);
    stage.put(&OneModel::fields(&["at", "amount"]), &document).await?;
    let task = stage.task()?;
    // The seconds of a day and a half: a float32 tells times 128 seconds apart from each other at best.
    stage.send(&[
        json!({ "at": 1_700_050_000.25, "amount": 11_020_000.75 }),
        json!({ "at": 1_700_043_568.5, "amount": 11_010_793.25 }),
        json!({ "at": 1_700_040_000.0, "amount": 10_900_000.5 }),
    ])?;
    let outputs = stage.outputs(3).await?;
    assert_eq!(values(&outputs, "label"), [json!(1), json!(1), json!(0)]);
    for (got, expected) in values(&outputs, "yes").iter().zip(YES) {
        let got = got.as_f64().unwrap();
        assert!((got - expected).abs() < 1e-14, "{got} {expected}");
    }
    task.stop()
}
