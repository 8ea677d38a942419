//! A model that leaves its number of columns open gets it from the document. <https://github.com/onnx/sklearn-onnx/issues/982>

use anyhow::Result;
use serde_json::json;

use crate::one_model::{OneModel, near, values};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_how_many_columns_there_are() -> Result<()> {
    let stage = OneModel::start("73-dims-none-none").await?;
    let fields = json!({ "label": "label", "yes": "probabilities[1]" });
    let document = stage.document("dims_none_none.onnx", &json!({ "X": NAMES }), &fields);
    stage.put(&OneModel::fields(&NAMES), &document).await?;
    let task = stage.task()?;
    stage.send(&[
        json!({ "a": 0.1, "b": 20, "c": 3, "d": 4, "e": 0.5, "f": 0.6 }),
        json!({ "a": 1, "b": 35, "c": 3, "d": 12, "e": 0, "f": 0 }),
    ])?;
    let outputs = stage.outputs(2).await?;
    assert_eq!(values(&outputs, "label"), [json!(0), json!(1)]);
    let yes = values(&outputs, "yes");
    near(&yes[0], 0.404_735_505_58);
    near(&yes[1], 0.996_033_906_94);
    task.stop()?;
    // Columns that the weights do not fit are refused in the words of the model.
    let document = stage.document("dims_none_none.onnx", &json!({ "X": NAMES[..4] }), &fields);
    let refused = stage.ask("validate", &document).await?;
    assert_eq!(refused["valid"], false);
    assert!(
        refused["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("6 entries for 4 features"),
        "{refused}"
    );
    Ok(())
}
