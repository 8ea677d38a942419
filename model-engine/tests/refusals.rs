#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
//! What is refused, and by which words; what a run reports; bytes of every kind never panic.

use std::path::PathBuf;
use std::sync::Arc;

use model_engine::{ElementType, Limits, Model, ModelError, OutputValue, Values};
use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb::{self, tensor_proto::DataType, tensor_shape_proto::dimension::Value as DimValue};

fn recorded(name: &str) -> Vec<u8> {
    std::fs::read(
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
            .join("tests/vectors")
            .join(format!("{name}.onnx")),
    )
    .unwrap()
}

fn input(name: &str, element: DataType, dims: &[DimValue]) -> pb::ValueInfoProto {
    let dim = |value: &DimValue| pb::tensor_shape_proto::Dimension {
        value: Some(value.clone()),
        ..Default::default()
    };
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
                elem_type: element as i32,
                shape: Some(pb::TensorShapeProto {
                    dim: dims.iter().map(dim).collect(),
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn rows_of(width: i64) -> Vec<DimValue> {
    vec![DimValue::DimParam("rows".into()), DimValue::DimValue(width)]
}

fn node(operator: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let (domain, operator) = operator.rsplit_once('.').unwrap_or(("", operator));
    pb::NodeProto {
        op_type: operator.into(),
        domain: domain.into(),
        name: name.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: outputs.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn floats(name: &str, dims: &[i64], values: Vec<f32>) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: values,
        ..Default::default()
    }
}

/// A graph from `x` to the outputs named.
fn graph(
    inputs: Vec<pb::ValueInfoProto>,
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
    outputs: &[&str],
) -> Vec<u8> {
    let opset = |domain: &str, version| pb::OperatorSetIdProto {
        domain: domain.into(),
        version,
    };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        graph: Some(pb::GraphProto {
            node: nodes,
            initializer: constants,
            input: inputs,
            output: outputs
                .iter()
                .map(|name| pb::ValueInfoProto {
                    name: (*name).into(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
    .encode_to_vec()
}

fn from_x(nodes: Vec<pb::NodeProto>, constants: Vec<pb::TensorProto>) -> Vec<u8> {
    graph(vec![input("x", DataType::Float, &rows_of(4))], nodes, constants, &["y"])
}

fn load(onnx: &[u8]) -> Result<Model, ModelError> {
    Model::load(onnx, &Limits::default())
}

/// The refusal's text.
fn refusal(onnx: &[u8]) -> String {
    load(onnx)
        .map(|_| ())
        .expect_err("the model must be refused")
        .to_string()
}

#[test]
fn versions_that_nobody_has_are_refused_with_what_to_do() {
    let usual = || {
        let onnx = from_x(vec![node("Relu", "r", &["x"], &["y"])], vec![]);
        pb::ModelProto::decode(onnx.as_slice()).unwrap()
    };
    assert!(load(&usual().encode_to_vec()).is_ok());
    let mut later = usual();
    later.ir_version = 99;
    let said = refusal(&later.encode_to_vec());
    assert!(
        said.starts_with("IR version 99 is not known: the newest that"),
        "{said}"
    );
    for (index, domain) in [(0, "ai.onnx"), (1, "ai.onnx.ml")] {
        let mut later = usual();
        later.opset_import[index].version = 99;
        let said = refusal(&later.encode_to_vec());
        assert!(
            said.starts_with(&format!("opset 99 of domain {domain} is not known")),
            "{said}"
        );
        assert!(said.contains("export the model with target_opset "), "{said}");
        let mut never = usual();
        never.opset_import[index].version = 0;
        assert!(refusal(&never.encode_to_vec()).contains("is not known: the oldest that"));
    }
}

#[test]
fn refusals_have_no_words_of_the_engine() {
    let axes = |values: &[i64]| ints("axes", values);
    for (nodes, constants) in [
        (
            vec![node("Add", "a", &["x", "w"], &["y"])],
            vec![floats("w", &[7], vec![0.5; 7])],
        ),
        (
            vec![node("MatMul", "m", &["x", "w"], &["y"])],
            vec![floats("w", &[3, 3], vec![0.5; 9])],
        ),
        (vec![node("Reshape", "s", &["x", "axes"], &["y"])], vec![axes(&[3, 3])]),
        (vec![node("Expand", "e", &["x", "axes"], &["y"])], vec![axes(&[2, 7])]),
        (vec![node("Concat", "c", &["x", "x"], &["y"])], vec![]),
        (vec![node("Squeeze", "q", &["x", "axes"], &["y"])], vec![axes(&[9])]),
    ] {
        let Err(error) = load(&from_x(nodes, constants)) else {
            continue;
        };
        let said = error.to_string().to_lowercase();
        for word in [
            "tdim",
            "tract",
            "datumtype",
            "fact",
            "infer",
            "wire",
            "typedmodel",
            "sym",
        ] {
            assert!(!said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn broken_bytes_and_empty_graphs() {
    assert!(refusal(b"not a model at all").starts_with("not a usable ONNX model"));
    assert_eq!(refusal(b""), "not a usable ONNX model: there is no graph in it");
    let whole = recorded("sk_mlp");
    assert!(load(&whole[..whole.len() / 2]).is_err());
    let nothing_out = graph(
        vec![input("x", DataType::Float, &rows_of(4))],
        vec![node("Relu", "r", &["x"], &["y"])],
        vec![],
        &[],
    );
    assert_eq!(load(&nothing_out).unwrap_err(), ModelError::NoOutputs);
    let nothing_in = graph(vec![], vec![node("Relu", "r", &["x"], &["y"])], vec![], &["y"]);
    assert_eq!(load(&nothing_in).unwrap_err(), ModelError::NoInputs);
    assert!(
        refusal(&from_x(vec![node("Relu", "r", &["ghost"], &["y"])], vec![]))
            .contains("nothing computes its input 'ghost'")
    );
    assert!(refusal(&from_x(vec![node("Relu", "r", &["x"], &["z"])], vec![])).contains("shape of 'y'"));
    let circle = vec![node("Add", "a", &["x", "c"], &["b"]), node("Relu", "r", &["b"], &["c"])];
    assert!(
        refusal(&graph(
            vec![input("x", DataType::Float, &rows_of(4))],
            circle,
            vec![],
            &["c"]
        ))
        .contains("circle")
    );
}

#[test]
fn operators_are_refused_by_name_and_node() {
    for (operator, reason) in [
        ("Loop", "loops are refused"),
        ("Scan", "loops are refused"),
        ("If", "branches are refused"),
        ("NonZero", "depends on data"),
        ("Unique", "depends on data"),
        ("RandomNormalLike", "same output"),
        ("Nonsense", "does not know it"),
        ("ai.onnx.ml.LabelEncoder", "not among the operators"),
        ("ai.onnx.ml.SVMClassifier", "not among the operators"),
        ("com.example.Magic", "'com.example' are not known"),
    ] {
        let text = refusal(&from_x(vec![node(operator, "the_node", &["x"], &["y"])], vec![]));
        assert!(
            text.contains(operator) && text.contains("the_node") && text.contains(reason),
            "{text}"
        );
    }
}

#[test]
fn shapes_and_element_types() {
    let relu = || vec![node("Relu", "r", &["x"], &["y"])];
    let shaped = |dims: &[DimValue]| graph(vec![input("x", DataType::Float, dims)], relu(), vec![], &["y"]);
    let dynamic = shaped(&[DimValue::DimParam("rows".into()), DimValue::DimParam("words".into())]);
    assert_eq!(
        refusal(&dynamic),
        "shape of 'x': [rows, words] leaves a dimension open that is not the batch: \
         export the model with numbers after the first dimension, as in [None, 6]"
    );
    assert!(refusal(&shaped(&[])).contains("the first must be the batch"));
    assert!(refusal(&shaped(&rows_of(-7))).contains("not positive"));
    let text = graph(vec![input("x", DataType::String, &rows_of(4))], relu(), vec![], &["y"]);
    assert!(refusal(&text).contains("tensor 'x' has element type string"));
    // The rows are summed up: one answer for all of them is no answer per row.
    let one = vec![pb::NodeProto {
        attribute: vec![pb::AttributeProto {
            name: "keepdims".into(),
            i: 0,
            r#type: 2,
            ..Default::default()
        }],
        ..node("ReduceSum", "s", &["x"], &["y"])
    }];
    let text = refusal(&from_x(one, vec![]));
    assert!(text.contains("'y'") && text.contains("not the batch"), "{text}");
    // An inner dimension that does not fit.
    let text = refusal(&from_x(
        vec![node("MatMul", "m", &["x", "w"], &["y"])],
        vec![floats("w", &[3, 2], vec![0.0; 6])],
    ));
    assert!(text.starts_with("not a usable ONNX model"), "{text}");
}

#[test]
fn limits_are_kept() {
    let model = recorded("lgbm");
    let limits = Limits {
        max_bytes: 1000,
        ..Limits::default()
    };
    assert_eq!(
        Model::load(&model, &limits).unwrap_err(),
        ModelError::TooLarge {
            bytes: model.len(),
            limit: 1000
        }
    );
    let limits = Limits {
        max_memory_bytes: 1000,
        ..Limits::default()
    };
    for name in ["lgbm", "sk_mlp", "net_layer_norm"] {
        let refused = Model::load(&recorded(name), &limits).unwrap_err();
        assert!(
            matches!(refused, ModelError::Memory { needed, limit: 1000 } if needed > 1000),
            "{refused}"
        );
    }
    for sizes in [vec![], vec![0, 1], vec![8, 1], vec![1, 1]] {
        let limits = Limits {
            batch_sizes: sizes.clone(),
            ..Limits::default()
        };
        assert_eq!(
            Model::load(&model, &limits).unwrap_err(),
            ModelError::BatchSizes { sizes }
        );
    }
    let loaded = load(&recorded("sk_logistic")).unwrap();
    assert!(loaded.memory_bytes() > 0 && loaded.memory_bytes() < 100_000);
}

#[test]
fn small_files_cannot_blow_up() {
    const HUGE: i64 = 1 << 20;
    let add = node("Add", "a", &["x", "big"], &["y"]);
    let memory = |nodes: Vec<pb::NodeProto>, constants| {
        let refused = load(&from_x(nodes, constants)).unwrap_err();
        assert!(matches!(refused, ModelError::Memory { .. }), "{refused}");
    };
    memory(
        vec![node("ConstantOfShape", "c", &["s"], &["big"]), add.clone()],
        vec![ints("s", &[HUGE, HUGE])],
    );
    memory(
        vec![node("Expand", "e", &["x", "s"], &["y"])],
        vec![ints("s", &[HUGE, HUGE, 4])],
    );
    memory(
        vec![node("Tile", "t", &["x", "s"], &["y"])],
        vec![ints("s", &[1, HUGE * HUGE])],
    );
    let side = 1 << 14;
    let outer = vec![node("MatMul", "m", &["p", "q"], &["big"]), add];
    memory(
        outer,
        vec![
            floats("p", &[side, 1], vec![0.0; side as usize]),
            floats("q", &[1, side], vec![0.0; side as usize]),
        ],
    );
    // Not constant, but wide: counted from the shapes.
    let wide = [
        node("MatMul", "m", &["x3", "q"], &["y"]),
        node("Unsqueeze", "u", &["x", "axes"], &["x3"]),
    ];
    let count = 1 << 20;
    memory(
        vec![wide[1].clone(), wide[0].clone()],
        vec![ints("axes", &[2]), floats("q", &[1, count], vec![0.0; count as usize])],
    );
}

#[test]
fn tensors_outside_of_the_file_are_refused() {
    let mut tensor = floats("w", &[4], vec![]);
    tensor.data_location = Some(1);
    tensor.external_data = vec![pb::StringStringEntryProto {
        key: "location".into(),
        value: "/etc/passwd".into(),
    }];
    assert!(
        refusal(&from_x(vec![node("Add", "a", &["x", "w"], &["y"])], vec![tensor])).contains("stored outside the file")
    );
}

#[test]
fn trees_that_contradict_themselves() {
    let mut model = pb::ModelProto::decode(recorded("tree_sum_1").as_slice()).unwrap();
    let change = |model: &mut pb::ModelProto, name: &str, at: usize, value: i64| {
        let node = &mut model.graph.as_mut().unwrap().node[0];
        let attribute = node
            .attribute
            .iter_mut()
            .find(|attribute| attribute.name == name)
            .unwrap();
        std::mem::replace(&mut attribute.ints[at], value)
    };
    for (name, value, reason) in [
        ("nodes_truenodeids", 0, "circle"),
        ("nodes_truenodeids", 99, "missing"),
        ("nodes_featureids", 6, "looks at feature 6, its input has 6"),
        ("nodes_featureids", -1, "feature -1"),
        ("target_ids", 1, "names target 1 of 1"),
        ("nodes_nodeids", 1, "twice"),
    ] {
        let before = change(&mut model, name, 0, value);
        let text = refusal(&model.encode_to_vec());
        assert!(
            text.contains(reason) && text.contains("TreeEnsembleRegressor"),
            "{name}: {text}"
        );
        change(&mut model, name, 0, before);
    }
    load(&model.encode_to_vec()).unwrap();
}

#[test]
fn selectors_name_what_there_is() {
    let model = load(&recorded("sk_forest_names")).unwrap();
    assert!(model.selector("probabilities[2]").is_ok());
    assert!(model.selector("label").is_ok());
    let text = |selector: &str| model.selector(selector).unwrap_err().to_string();
    assert!(text("probability").contains("the model has label: string[rows], probabilities: float[rows, 3]"));
    assert!(text("probabilities").contains("it has 3 columns"));
    assert!(text("probabilities[3]").contains("'3' is not a column from 0 to 2"));
    let mapped = load(&recorded("sk_forest_names_zipmap")).unwrap();
    assert!(mapped.selector("output_probability[low]").is_ok());
    assert!(mapped.selector("output_probability['high']").is_ok());
    let refused = mapped.selector("output_probability[0]").unwrap_err().to_string();
    assert!(refused.contains("no class '0' among high, low, middle"), "{refused}");
}

#[test]
fn runs_check_their_inputs() {
    let model = Arc::new(load(&recorded("sk_logistic")).unwrap());
    assert_eq!(
        model.check_width(0, 5).unwrap_err().to_string(),
        "input 'X' takes 6 features per row, 5 were given"
    );
    model.check_width(0, 6).unwrap();
    let mut session = model.session();
    assert!(matches!(
        session.run(&[Values::Float(vec![0.0; 10])], 0..2),
        Err(ModelError::InputWidth {
            expected: 6,
            got: 5,
            ..
        })
    ));
    assert!(matches!(
        session.run(&[], 0..1),
        Err(ModelError::InputCount { expected: 1, got: 0 })
    ));
    assert_eq!(session.run(&[Values::Float(vec![])], 0..0).unwrap().rows(), 0);
    assert_eq!(session.run(&[Values::Float(vec![0.0; 12])], 0..2).unwrap().rows(), 2);
}

#[test]
fn rows_that_are_not_finite_are_told() {
    for name in ["sk_logistic", "net_layer_norm"] {
        let model = Arc::new(load(&recorded(name)).unwrap());
        let output = model.outputs().last().unwrap().name.clone();
        let selector = model.selector(&format!("{output}[1]")).unwrap();
        let mut rows = vec![0.5_f32; 3 * 6];
        rows[7] = f32::NAN;
        let mut session = model.session();
        let answer = session.run(&[Values::Float(rows)], 0..3).unwrap();
        let finite: Vec<bool> = (0..4).map(|row| answer.all_finite(&selector, row)).collect();
        assert_eq!(finite, [true, false, true, false], "{name}");
        assert_eq!(answer.get(&selector, 3), None);
    }
}

#[test]
fn a_fixed_batch_is_padded() {
    let nodes = vec![node("Relu", "r", &["x"], &["y"])];
    let fixed = graph(
        vec![input(
            "x",
            DataType::Float,
            &[DimValue::DimValue(4), DimValue::DimValue(1)],
        )],
        nodes,
        vec![],
        &["y"],
    );
    let model = Arc::new(load(&fixed).unwrap());
    assert_eq!(model.batch_sizes(), [4]);
    let selector = model.selector("y").unwrap();
    let rows: Vec<f32> = (0..7).map(|row| row as f32 - 3.0).collect();
    let mut session = model.session();
    let answer = session.run(&[Values::Float(rows.clone())], 0..7).unwrap();
    for (row, value) in rows.iter().enumerate() {
        assert_eq!(answer.get(&selector, row), Some(OutputValue::Float(value.max(0.0))));
    }
}

#[test]
fn the_hash_is_of_the_artifact() {
    let bytes = recorded("sk_linear");
    let model = load(&bytes).unwrap();
    assert_eq!(model.sha256().len(), 64);
    assert_eq!(load(&bytes).unwrap().sha256(), model.sha256());
    assert_ne!(load(&recorded("sk_logistic")).unwrap().sha256(), model.sha256());
}

/// Loads and, if that is possible, runs; either may fail, neither may panic.
fn survive(onnx: &[u8]) {
    let limits = Limits {
        max_memory_bytes: 32 << 20,
        batch_sizes: vec![1, 4],
        ..Limits::default()
    };
    let Ok(model) = Model::load(onnx, &limits) else { return };
    let model = Arc::new(model);
    let inputs: Vec<Values> = model
        .inputs()
        .iter()
        .map(|input| match input.element {
            ElementType::Double => Values::Double(vec![0.5; 5 * input.width()]),
            ElementType::Int64 | ElementType::Text => Values::Int64(vec![0; 5 * input.width()]),
            ElementType::Int32 => Values::Int32(vec![0; 5 * input.width()]),
            ElementType::Boolean => Values::Boolean(vec![true; 5 * input.width()]),
            ElementType::Float => Values::Float(vec![0.5; 5 * input.width()]),
        })
        .collect();
    if let Ok(outputs) = model.session().run(&inputs, 0..5) {
        assert_eq!(outputs.rows(), 5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        which in 0_usize..8,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let name = ["sk_mlp", "sk_tree", "tree_v5", "tree_sum_3", "net_mixed", "net_embedding", "sk_logistic_names_zipmap", "net_convolution"][which];
        let mut bytes = recorded(name);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survive(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&bytes);
    }
}
