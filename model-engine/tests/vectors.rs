#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]
//! Every recorded model must answer as ONNX Runtime did, whatever the number of rows.

use std::path::PathBuf;
use std::sync::Arc;

use model_engine::{Limits, Model, OutputValue};
use serde_json::Value;

const ROWS: [usize; 5] = [1, 3, 8, 64, 65];

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(vectors())
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".onnx")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

/// Rows of a tensor as floats; null is NaN.
fn floats(rows: &Value, count: usize) -> Vec<f32> {
    let row = |row: &Value| -> Vec<f32> {
        row.as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_f64().map_or(f32::NAN, |value| value as f32))
            .collect()
    };
    rows.as_array().unwrap().iter().take(count).flat_map(row).collect()
}

/// PROBIT loses half of a float's digits near a score of 0.5, and the order of operations shows.
fn tolerance(name: &str) -> f64 {
    if name.contains("probit") { 2e-3 } else { 1e-5 }
}

fn agree(expected: &Value, got: Option<OutputValue<'_>>, tolerance: f64) -> bool {
    match got {
        Some(OutputValue::Text(text)) => expected.as_str() == Some(text),
        Some(OutputValue::Integer(value)) => expected.as_i64() == Some(value),
        Some(OutputValue::Float(value)) => match expected.as_f64() {
            Some(expected) => (f64::from(value) - expected).abs() <= tolerance * expected.abs().max(1.0),
            None if value.is_nan() => expected.is_null(),
            None => expected.as_str() == Some(value.to_string().as_str()),
        },
        None => false,
    }
}

#[test]
fn every_model_answers_as_onnx_runtime_does() {
    let names = names();
    assert!(names.len() >= 60, "only {} recorded models", names.len());
    let mut wrong = Vec::new();
    for name in names {
        if let Err(reason) = check(&name) {
            wrong.push(format!("{name}: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{} models differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(name: &str) -> Result<(), String> {
    let onnx = std::fs::read(vectors().join(format!("{name}.onnx"))).unwrap();
    let vector: Value =
        serde_json::from_slice(&std::fs::read(vectors().join(format!("{name}.json"))).unwrap()).unwrap();
    let model = Arc::new(Model::load(&onnx, &Limits::default()).map_err(|error| error.to_string())?);
    let mut session = model.session();
    for rows in ROWS {
        let inputs: Vec<Vec<f32>> = model
            .inputs()
            .iter()
            .map(|input| floats(&vector["inputs"][&input.name], rows))
            .collect();
        let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let answer = session.run(rows, &slices).map_err(|error| error.to_string())?;
        if answer.rows() != rows {
            return Err(format!("{} rows for {rows}", answer.rows()));
        }
        for output in model.outputs() {
            let expected = vector["outputs"][&output.name]
                .as_array()
                .ok_or(format!("no output {}", output.name))?;
            let width = expected[0].as_array().unwrap().len();
            if width != output.width() {
                return Err(format!(
                    "output {output} has width {}, expected {width}",
                    output.width()
                ));
            }
            for column in 0..width {
                let text = match output.classes.get(column) {
                    Some(class) => format!("{}[{class}]", output.name),
                    None => format!("{}[{column}]", output.name),
                };
                let selector = model.selector(&text).map_err(|error| error.to_string())?;
                for (row, expected) in expected.iter().take(rows).enumerate() {
                    let got = answer.get(&selector, row);
                    if !agree(&expected[column], got, tolerance(name)) {
                        return Err(format!(
                            "{text} of row {row} of {rows}: {got:?}, expected {}",
                            expected[column]
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
