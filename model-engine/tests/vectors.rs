#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]
//! Every recorded model must answer as ONNX Runtime did, whatever the number of rows.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use model_engine::{Batching, ElementType, Limits, Model, OutputValue, Session, Values};
use serde_json::Value;

const ROWS: [usize; 5] = [1, 3, 8, 64, 65];

fn vectors() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/vectors")
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

/// Rows of a tensor in its own type; null is NaN.
fn values(element: ElementType, rows: &Value, count: usize) -> Values {
    let rows = rows.as_array().unwrap().iter().take(count);
    let numbers = rows.flat_map(|row| row.as_array().unwrap());
    let double = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    match element {
        ElementType::Float => Values::Float(numbers.map(|value| double(value) as f32).collect()),
        ElementType::Double => Values::Double(numbers.map(double).collect()),
        ElementType::Int64 | ElementType::Text => Values::Int64(numbers.map(|value| value.as_i64().unwrap()).collect()),
        ElementType::Int32 => Values::Int32(
            numbers
                .map(|value| value.as_i64().unwrap().try_into().unwrap())
                .collect(),
        ),
        ElementType::Boolean => Values::Boolean(numbers.map(|value| value.as_bool().unwrap()).collect()),
    }
}

/// PROBIT loses half of a float's digits near a score of 0.5, and the order of operations shows.
fn tolerance(name: &str) -> f64 {
    if name.contains("probit") { 2e-3 } else { 1e-5 }
}

fn agree(expected: &Value, got: Option<OutputValue<'_>>, tolerance: f64) -> bool {
    match got {
        Some(OutputValue::Text(text)) => expected.as_str() == Some(text),
        Some(OutputValue::Integer(value)) => {
            expected.as_i64().or_else(|| expected.as_bool().map(i64::from)) == Some(value)
        }
        Some(OutputValue::Float(value)) => near(expected, value.into(), tolerance),
        // Doubles are as good as doubles are.
        Some(OutputValue::Double(value)) => near(expected, value, 1e-12),
        None => false,
    }
}

fn near(expected: &Value, got: f64, tolerance: f64) -> bool {
    match expected.as_f64() {
        Some(expected) => (got - expected).abs() <= tolerance * expected.abs().max(1.0),
        None if got.is_nan() => expected.is_null(),
        None => expected.as_str() == Some(got.to_string().as_str()),
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
        let inputs: Vec<Values> = model
            .inputs()
            .iter()
            .map(|input| values(input.element, &vector["inputs"][&input.name], rows))
            .collect();
        let answer = session.run(&inputs, 0..rows).map_err(|error| error.to_string())?;
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

fn load(name: &str) -> Model {
    let onnx = std::fs::read(vectors().join(format!("{name}.onnx"))).unwrap();
    Model::load(&onnx, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn only_rows_that_change_each_others_answers_run_one_by_one() {
    let mut wrong = Vec::new();
    for name in names() {
        let model = load(&name);
        let one_by_one = matches!(model.batching(), Batching::OneByOne { .. });
        if one_by_one != name.starts_with("mix_") || (one_by_one && model.batch_sizes() != [1]) {
            wrong.push(format!("{name}: {:?}", model.batching()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A trial is for what the proof does not know.
#[test]
fn ordinary_models_are_proven_to_keep_their_rows_apart() {
    let by_trial: Vec<String> = names()
        .into_iter()
        .filter(|name| matches!(load(name).batching(), Batching::Together { by_trial: Some(_) }))
        .collect();
    assert_eq!(by_trial, [""; 0]);
}

/// All values of the given rows, as text: equal texts are equal bits.
fn answers(model: &Model, session: &mut Session, inputs: &[Values], rows: Range<usize>) -> Result<Vec<String>, String> {
    let answer = session.run(inputs, rows.clone()).map_err(|error| error.to_string())?;
    let mut texts = Vec::new();
    for output in model.outputs() {
        for column in 0..output.width() {
            let column = output.classes.get(column).cloned().unwrap_or(column.to_string());
            let selector = model.selector(&format!("{}[{column}]", output.name)).unwrap();
            texts.extend((0..rows.len()).map(|row| format!("{:?}", answer.get(&selector, row))));
        }
    }
    Ok(texts)
}

/// Whatever ran before in a session, well or not, a run gives what it gives in a session of its own.
#[test]
fn no_run_leaves_anything_for_the_next() {
    for name in names() {
        let model = Arc::new(load(&name));
        let vector: Value =
            serde_json::from_slice(&std::fs::read(vectors().join(format!("{name}.json"))).unwrap()).unwrap();
        let specs = model.inputs();
        let inputs: Vec<Values> = specs
            .iter()
            .map(|input| values(input.element, &vector["inputs"][&input.name], 65))
            .collect();
        // Positions outside of every table, numbers that spoil every sum.
        let spoiling: Vec<Values> = specs
            .iter()
            .map(|input| match input.element {
                ElementType::Float => Values::Float(vec![f32::NAN; 65 * input.width()]),
                ElementType::Double => Values::Double(vec![f64::NAN; 65 * input.width()]),
                ElementType::Int64 | ElementType::Text => Values::Int64(vec![i64::MAX; 65 * input.width()]),
                ElementType::Int32 => Values::Int32(vec![i32::MAX; 65 * input.width()]),
                ElementType::Boolean => Values::zeros(ElementType::Boolean, 65 * input.width()),
            })
            .collect();
        let mut sessions = [model.session(), model.session()];
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            (noise % below as u64) as usize
        };
        for step in 0..10 {
            let session = &mut sessions[next(2)];
            if step % 3 == 2 {
                let _ = session.run(&spoiling, 0..1 + next(20));
            }
            let first = next(65);
            let rows = first..first + 1 + next(65 - first);
            let fresh = answers(&model, &mut model.session(), &inputs, rows.clone());
            assert_eq!(
                answers(&model, session, &inputs, rows.clone()),
                fresh,
                "{name}, step {step}, rows {rows:?}"
            );
        }
    }
}
