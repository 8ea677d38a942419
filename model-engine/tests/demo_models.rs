#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
//! The demo's models say here what they said offline, on features that were computed offline.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::read::GzDecoder;
use model_engine::{Limits, Model, OutputValue, Values};

fn models() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../configs/demo/models")
}

fn rows(file: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(GzDecoder::new(File::open(models().join(file)).unwrap()));
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    (
        header,
        reader
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect(),
    )
}

#[test]
fn offline_predictions_are_reproduced() {
    let offline: serde_json::Value =
        serde_json::from_reader(File::open(models().join("offline.json")).unwrap()).unwrap();
    let (feature_names, features) = rows("offline_features.csv.gz");
    let (prediction_names, predictions) = rows("offline_predictions.csv.gz");
    assert!(features.len() >= 4_000 && predictions.len() >= 150_000);
    let predicted: HashMap<&str, &Vec<String>> = predictions.iter().map(|row| (row[0].as_str(), row)).collect();
    let values: Vec<f32> = features
        .iter()
        .flat_map(|row| row[1..].iter().map(|value| value.parse::<f32>().unwrap()))
        .collect();
    let values = [Values::Float(values)];

    for name in ["logistic", "mlp", "lightgbm", "costly"] {
        let about = &offline["models"][name];
        let onnx = std::fs::read(models().join(about["file"].as_str().unwrap())).unwrap();
        let model = Arc::new(Model::load(&onnx, &Limits::default()).unwrap());
        assert_eq!(model.sha256(), about["sha256"].as_str().unwrap(), "{name}");
        let order: Vec<&str> = about["features"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(order, feature_names[1..], "{name}");
        model.check_width(0, order.len()).unwrap();
        let selector = model.selector(about["output"].as_str().unwrap()).unwrap();
        let column = prediction_names.iter().position(|column| column == name).unwrap();
        let mut session = model.session();
        let answer = session.run(&values, 0..features.len()).unwrap();
        for (row, feature) in features.iter().enumerate() {
            let expected: f32 = predicted[feature[0].as_str()][column].parse().unwrap();
            match answer.get(&selector, row) {
                Some(OutputValue::Float(got)) => {
                    assert!(
                        (got - expected).abs() <= 2e-5,
                        "{name}, event {}: {got}, offline {expected}",
                        feature[0]
                    );
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_windowed_model_loads() {
    let onnx = std::fs::read(models().join("window.onnx")).unwrap();
    let model = Model::load(&onnx, &Limits::default()).unwrap();
    model.check_width(0, 5).unwrap();
    model.selector("probabilities[1]").unwrap();
}
