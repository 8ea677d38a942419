//! An LSTM and a GRU over an event's own values start from their initial state with every event, whatever ran before it: on
//! whichever thread, in whichever batch. <https://github.com/sonos/tract/issues/1194>

use anyhow::Result;
use serde_json::{Value, json};

use crate::one_model::{OneModel, near, values};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

async fn equal_inputs_give_equal_outputs(file: &str, expected: f64, expected_of_opposite: f64) -> Result<()> {
    let stage = OneModel::start("66-lstm-state-leak").await?;
    let document = stage.document(file, &json!({ "input": NAMES }), &json!({ "score": "output" }));
    stage.put(&OneModel::fields(&NAMES), &document).await?;
    let task = stage.task()?;
    let event = |sign: f64| -> Value {
        let numbers = [0.5, -1.0, 2.0, 0.25, 3.0, -0.75];
        NAMES
            .iter()
            .zip(numbers)
            .map(|(name, number)| ((*name).to_owned(), json!(sign * number)))
            .collect()
    };
    // One by one, then many at once, so that they are batches of every size.
    let mut sent = 0;
    for _ in 0..3 {
        stage.send(&[event(1.0)])?;
        sent += 1;
        stage.outputs(sent).await?;
    }
    let crowd: Vec<Value> = (0..150)
        .map(|number| event(if number % 3 == 0 { -1.0 } else { 1.0 }))
        .collect();
    stage.send(&crowd)?;
    let scores = values(&stage.outputs(sent + crowd.len()).await?, "score");
    for (number, score) in scores.iter().enumerate() {
        let opposite = number >= sent && (number - sent) % 3 == 0;
        near(score, if opposite { expected_of_opposite } else { expected });
    }
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_lstm_starts_from_its_initial_state() -> Result<()> {
    equal_inputs_give_equal_outputs("rec_lstm.onnx", 0.080_766_677_86, 0.014_026_191_09).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gru_starts_from_its_initial_state() -> Result<()> {
    equal_inputs_give_equal_outputs("rec_gru.onnx", 0.199_321_717_02, 0.083_716_198_80).await
}
