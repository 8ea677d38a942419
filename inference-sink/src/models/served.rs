//! One version of a model, loaded and checked: immutable, shared by tasks and executors.

use super::InputError;
use feature_engine::resource::{FieldError, Model, Tenant, Trigger};
use model_engine::{Batching, ElementType, Limits, ModelError, OutputSelector, TensorSpec, Values};
use std::sync::Arc;

/// Batch sizes that every model is compiled for.
pub const BATCH_SIZES: [usize; 3] = [1, 8, 64];

/// A version of a model that can run.
#[derive(Debug)]
pub struct ServedModel {
    /// `tenant/name`
    pub identity: Arc<str>,
    /// the version
    pub version: u64,
    /// `tenant/name@version`
    pub lineage: Arc<str>,
    /// the document
    pub document: Arc<Model>,
    /// topic of its outputs
    pub output_topic: Arc<str>,
    /// the compiled artifact
    pub engine: Arc<model_engine::Model>,
    /// features of each model input, in the order of the engine's inputs
    features: Vec<Vec<String>>,
    widths: Vec<usize>,
    signature: u64,
    signature_of_floats: Option<u64>,
    fields: Vec<(Vec<u8>, OutputSelector)>,
}

impl ServedModel {
    /// Loads an artifact and checks the document against it. Errors name the document's fields.
    pub fn load(document: &Arc<Model>, tenant: &Tenant, artifact: &[u8]) -> Result<ServedModel, Vec<FieldError>> {
        let limits = Limits {
            max_memory_bytes: usize::try_from(tenant.memory.as_bytes()).unwrap_or(usize::MAX),
            batch_sizes: batch_sizes(&document.trigger),
            ..Limits::default()
        };
        // One tensor in the document may stand for the only input under any name.
        let only = document.inputs.values().next().filter(|_| document.inputs.len() == 1);
        let features = |tensor: &str| document.inputs.get(tensor).or(only).map(Vec::len);
        let engine = model_engine::Model::load_for(artifact, &limits, &features)
            .map_err(|error| vec![load_error(&error, tenant)])?;
        let engine = Arc::new(engine);
        let mut errors = Vec::new();
        let features = match_inputs(document, &engine, &mut errors);
        let mut fields = Vec::new();
        for (name, text) in &document.output.fields {
            match engine.selector(text) {
                Ok(selector) => fields.push((json_name(name), selector)),
                Err(error) => errors.push(FieldError::new(format!("output.fields.{name}"), error.to_string())),
            }
        }
        let output_topic = document.output.topic.as_ref().or(tenant.outputs.topic.as_ref());
        if output_topic.is_none() {
            errors.push(FieldError::new(
                "output.topic",
                format!(
                    "is required: tenant {} has no outputs.topic to fall back on",
                    tenant.name
                ),
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let version = document.version.unwrap_or(1);
        let identity = document.identity();
        Ok(ServedModel {
            lineage: format!("{identity}@{version}").into(),
            identity: identity.into(),
            version,
            output_topic: output_topic.map_or("", String::as_str).into(),
            document: document.clone(),
            widths: engine.inputs().iter().map(TensorSpec::width).collect(),
            signature: signature(&engine, &features),
            signature_of_floats: signature_of_floats(&engine, &features),
            engine,
            features,
            fields,
        })
    }

    /// How its rows are run, as status says it: `batched` or `one by one`, and why where there is something to say.
    pub fn rows(&self) -> (&'static str, Option<String>) {
        match self.engine.batching() {
            Batching::Together { by_trial: None } => ("batched", None),
            Batching::Together {
                by_trial: Some(operator),
            } => {
                let reason = format!("{operator} is not known to keep rows apart; a trial has shown that it does here");
                ("batched", Some(reason))
            }
            Batching::OneByOne { reason } => ("one by one", Some(reason.clone())),
        }
    }

    /// Whether loading it for this tenant would give the same.
    pub fn fits(&self, tenant: &Tenant) -> bool {
        let topic = self.document.output.topic.as_ref().or(tenant.outputs.topic.as_ref());
        topic.is_some_and(|topic| **topic == *self.output_topic)
            && self.engine.memory_bytes() as u64 <= tenant.memory.as_bytes()
    }

    /// Features per row of each model input.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Names of the features of each model input, in order.
    pub fn features(&self) -> &[Vec<String>] {
        &self.features
    }

    /// Output fields: the JSON text `"name":` and what it selects.
    pub fn fields(&self) -> &[(Vec<u8>, OutputSelector)] {
        &self.fields
    }

    /// A hash of which features go where, in which order and as which type: stored rows of another signature do not fit.
    pub fn signature(&self) -> u64 {
        self.signature
    }

    /// The signature of rows that were stored when every feature was a float32, if all of them are still.
    pub fn signature_of_floats(&self) -> Option<u64> {
        self.signature_of_floats
    }

    /// No rows, for each input.
    pub fn empty_inputs(&self) -> Vec<Values> {
        self.engine
            .inputs()
            .iter()
            .map(|input| Values::new(input.element))
            .collect()
    }

    /// Whether a row has the inputs of this version.
    pub fn takes(&self, row: &[Values]) -> bool {
        let inputs = self.engine.inputs();
        let fits = |(values, input): (&Values, &TensorSpec)| {
            values.element() == input.element && values.len() == input.width()
        };
        row.len() == inputs.len() && row.iter().zip(inputs).all(fits)
    }

    /// Why an event gives this model no row, by feature and tensor.
    pub fn input_error(&self, error: &InputError) -> String {
        let tensor = self
            .engine
            .inputs()
            .get(error.input)
            .map_or("", |input| input.name.as_str());
        let features = self.features.get(error.input).map_or(&[][..], Vec::as_slice);
        let feature = features.get(error.unfit.position).map_or("", String::as_str);
        format!("feature {feature} of tensor {tensor} {}", error.unfit.misfit)
    }

    /// Runs every compiled batch size once, on zeros.
    pub fn warm(&self) -> Result<(), ModelError> {
        let mut session = self.engine.session();
        for rows in self.engine.batch_sizes() {
            let zeros = |input: &TensorSpec| Values::zeros(input.element, input.width() * rows);
            let inputs: Vec<Values> = self.engine.inputs().iter().map(zeros).collect();
            session.run(&inputs, 0..*rows)?;
        }
        Ok(())
    }
}

/// A word that is no feature's name: what comes next is of another input.
const END: &str = "\n";

fn signature(engine: &model_engine::Model, features: &[Vec<String>]) -> u64 {
    let types: Vec<String> = engine.inputs().iter().map(|input| input.element.to_string()).collect();
    let inputs = types.iter().zip(features);
    hash(inputs.flat_map(|(element, features)| [element].into_iter().chain(features).map(String::as_str).chain([END])))
}

fn signature_of_floats(engine: &model_engine::Model, features: &[Vec<String>]) -> Option<u64> {
    let floats = engine.inputs().iter().all(|input| input.element == ElementType::Float);
    let words = features
        .iter()
        .flat_map(|features| features.iter().map(String::as_str).chain([END]));
    floats.then(|| hash(words))
}

/// FNV-1a, which is stable over builds and platforms.
fn hash<'w>(words: impl Iterator<Item = &'w str>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
        let bytes = word.bytes().chain([0]);
        bytes.fold(hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    })
}

fn batch_sizes(trigger: &Trigger) -> Vec<usize> {
    let mut sizes = BATCH_SIZES.to_vec();
    if let Trigger::Batch { max_batch_size, .. } = trigger {
        let size = *max_batch_size as usize;
        if size <= 256 && !sizes.contains(&size) {
            sizes.push(size);
            sizes.sort_unstable();
        }
    }
    sizes
}

fn load_error(error: &ModelError, tenant: &Tenant) -> FieldError {
    let message = match error {
        ModelError::Memory { .. } => format!("{error} (memory of tenant {})", tenant.name),
        _ => error.to_string(),
    };
    FieldError::new("artifact", message)
}

/// The features of each engine input. One tensor in the document may stand for the only input under any name.
fn match_inputs(document: &Model, engine: &model_engine::Model, errors: &mut Vec<FieldError>) -> Vec<Vec<String>> {
    let names = || {
        engine
            .inputs()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for tensor in document.inputs.keys() {
        let known = engine.inputs().iter().any(|input| input.name == *tensor);
        let only = document.inputs.len() == 1 && engine.inputs().len() == 1;
        if !known && !only {
            errors.push(FieldError::new(
                format!("inputs.{tensor}"),
                format!("the model has no such input; it has {}", names()),
            ));
        }
    }
    let mut features = Vec::new();
    for (index, input) in engine.inputs().iter().enumerate() {
        let only = (document.inputs.len() == 1 && engine.inputs().len() == 1)
            .then(|| document.inputs.first())
            .flatten();
        let found = document.inputs.get_key_value(&input.name).or(only);
        let Some((tensor, columns)) = found else {
            errors.push(FieldError::new(
                "inputs",
                format!("input {input} of the model is missing"),
            ));
            continue;
        };
        if let Err(error) = engine.check_width(index, columns.len()) {
            errors.push(FieldError::new(format!("inputs.{tensor}"), error.to_string()));
        }
        features.push(columns.clone());
    }
    features
}

fn json_name(name: &str) -> Vec<u8> {
    let mut text = serde_json::Value::from(name).to_string().into_bytes();
    text.push(b':');
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use feature_engine::resource::Resource;

    /// The bytes of a small model with one input and one output.
    pub(crate) const LINEAR: &[u8] = include_bytes!("../../tests/vectors/linear.onnx");

    pub(crate) fn document(fields: serde_json::Value) -> Arc<Model> {
        let mut document = serde_json::json!({
            "apiVersion": "millrace/v1", "kind": "model", "tenant": "ads", "name": "bid", "version": 3,
            "artifact": "file:///models/linear.onnx", "subscribe": { "topics": ["events"] },
            "inputs": { "features": ["a", "b", "c"] }, "trigger": { "each": {} },
            "output": { "topic": "predictions", "fields": { "bid": "variable" } },
        });
        if let (Some(document), serde_json::Value::Object(fields)) = (document.as_object_mut(), fields) {
            document.extend(fields);
        }
        match feature_engine::resource::parse_document(&document).unwrap() {
            Resource::Model(model) => Arc::new(model),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn a_model() -> Arc<ServedModel> {
        Arc::new(ServedModel::load(&document(serde_json::json!({})), &Tenant::named("ads"), LINEAR).unwrap())
    }
}
