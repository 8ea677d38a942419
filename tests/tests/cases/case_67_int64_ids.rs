//! An id reaches an int64 tensor exactly, and an int64 output reaches the output record exactly: a float32 knows no odd number
//! above 2^24.

use anyhow::Result;
use serde_json::json;

use crate::one_model::{OneModel, values};

#[tokio::test(flavor = "multi_thread")]
async fn ids_above_two_to_the_24_come_through() -> Result<()> {
    let stage = OneModel::start("67-int64-ids").await?;
    let document = stage.document(
        "int_out.onnx",
        &json!({ "pid": ["pid"] }),
        &json!({ "next": "next_id" }),
    );
    stage.put(&OneModel::fields(&["pid"]), &document).await?;
    let task = stage.task()?;
    let ids: Vec<i64> = (0..60)
        .map(|number| 16_800_001 + number * 7)
        .chain([(1 << 53) - 1])
        .collect();
    let events: Vec<_> = ids.iter().map(|id| json!({ "pid": id })).collect();
    stage.send(&events)?;
    let expected: Vec<_> = ids.iter().map(|id| json!(id + 1)).collect();
    assert_eq!(values(&stage.outputs(ids.len()).await?, "next"), expected);
    let answer = stage.ask("evaluate", &events[0]).await?;
    assert_eq!(answer["inputs"], json!([{ "pid": 16_800_001 }]));
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parity_of_an_id_is_its_own() -> Result<()> {
    let stage = OneModel::start("67-int64-ids").await?;
    let document = stage.document("int_ids2.onnx", &json!({ "pid": ["pid"] }), &json!({ "odd": "y" }));
    stage.put(&OneModel::fields(&["pid"]), &document).await?;
    let task = stage.task()?;
    let events: Vec<_> = (16_800_000..16_800_060).map(|id: i64| json!({ "pid": id })).collect();
    stage.send(&events)?;
    let expected: Vec<_> = (0..60).map(|number| json!(f64::from(number % 2))).collect();
    assert_eq!(values(&stage.outputs(60).await?, "odd"), expected);
    task.stop()
}
