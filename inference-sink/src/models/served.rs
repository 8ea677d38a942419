//! One version of a model: immutable, shared by tasks and executors.
//!
//! ```text
//! document + artifact bytes   -> loaded and checked: makes rows and runs them
//! document + its known inputs -> makes rows: they wait until the artifact can be loaded
//! ```

use super::{InputError, InputSignature, InputSpec};
use feature_engine::resource::{FieldError, Model, Tenant, Trigger};
use model_engine::{Batching, Limits, ModelError, OutputSelector, TensorSpec, Values};
use std::sync::Arc;

/// Batch sizes that every model is compiled for.
pub const BATCH_SIZES: [usize; 3] = [1, 8, 64];

/// A version of a model.
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
    /// what its rows hold
    pub signature: Arc<InputSignature>,
    loaded: Option<Loaded>,
}

/// What runs rows.
#[derive(Debug)]
struct Loaded {
    /// the compiled artifact
    engine: Arc<model_engine::Model>,
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
        if output_topic(document, tenant).is_none() {
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
        let signature = InputSignature::of(engine.inputs(), features);
        let mut model = Self::unloaded(document, tenant, signature);
        model.loaded = Some(Loaded { engine, fields });
        Ok(model)
    }

    /// A version whose artifact is not at hand, with its inputs as they were when it could be loaded. None: they are not this
    /// document's.
    pub fn without_artifact(document: &Arc<Model>, tenant: &Tenant, inputs: &[InputSpec]) -> Option<ServedModel> {
        let only = document.inputs.values().next().filter(|_| document.inputs.len() == 1);
        let is_own = |input: &InputSpec| document.inputs.get(&input.tensor).or(only) == Some(&input.features);
        let fits = !inputs.is_empty() && inputs.iter().all(is_own) && output_topic(document, tenant).is_some();
        fits.then(|| Self::unloaded(document, tenant, InputSignature::new(inputs.to_vec())))
    }

    fn unloaded(document: &Arc<Model>, tenant: &Tenant, signature: InputSignature) -> ServedModel {
        let version = document.version.unwrap_or(1);
        let identity = document.identity();
        ServedModel {
            lineage: format!("{identity}@{version}").into(),
            identity: identity.into(),
            version,
            output_topic: output_topic(document, tenant).map_or("", String::as_str).into(),
            document: document.clone(),
            signature: Arc::new(signature),
            loaded: None,
        }
    }

    /// What runs its rows; none: its artifact is not at hand.
    pub fn engine(&self) -> Option<&Arc<model_engine::Model>> {
        self.loaded.as_ref().map(|loaded| &loaded.engine)
    }

    /// How its rows are run, as status says it: `batched` or `one by one`, and why where there is something to say.
    pub fn rows(&self) -> Option<(&'static str, Option<String>)> {
        Some(match self.engine()?.batching() {
            Batching::Together { by_trial: None } => ("batched", None),
            Batching::Together {
                by_trial: Some(operator),
            } => {
                let reason = format!("{operator} is not known to keep rows apart; a trial has shown that it does here");
                ("batched", Some(reason))
            }
            Batching::OneByOne { reason } => ("one by one", Some(reason.clone())),
        })
    }

    /// Whether it is loaded, and loading it for this tenant would give the same.
    pub fn fits(&self, tenant: &Tenant) -> bool {
        let topic = output_topic(&self.document, tenant);
        let memory = self.engine().map(|engine| engine.memory_bytes() as u64);
        topic.is_some_and(|topic| **topic == *self.output_topic)
            && memory.is_some_and(|bytes| bytes <= tenant.memory.as_bytes())
    }

    /// Features per row of each model input.
    pub fn widths(&self) -> &[usize] {
        self.signature.widths()
    }

    /// Names of the features of each model input, in order.
    pub fn features(&self) -> impl Iterator<Item = &[String]> {
        self.signature.inputs().iter().map(|input| input.features.as_slice())
    }

    /// Output fields: the JSON text `"name":` and what it selects.
    pub fn fields(&self) -> &[(Vec<u8>, OutputSelector)] {
        self.loaded.as_ref().map_or(&[], |loaded| &loaded.fields)
    }

    /// Why a row is none of this model, by feature and tensor.
    pub fn input_error(&self, error: &InputError) -> String {
        let input = self.signature.inputs().get(error.input);
        let tensor = input.map_or("", |input| &input.tensor);
        let feature = input.and_then(|input| input.features.get(error.unfit.position));
        let feature = feature.map_or("", String::as_str);
        format!("feature {feature} of tensor {tensor} {}", error.unfit.misfit)
    }

    /// Runs every compiled batch size once, on zeros.
    pub fn warm(&self) -> Result<(), ModelError> {
        let Some(engine) = self.engine() else { return Ok(()) };
        let mut session = engine.session();
        for rows in engine.batch_sizes() {
            let zeros = |input: &TensorSpec| Values::zeros(input.element, input.width() * rows);
            let inputs: Vec<Values> = engine.inputs().iter().map(zeros).collect();
            session.run(&inputs, 0..*rows)?;
        }
        Ok(())
    }
}

fn output_topic<'a>(document: &'a Model, tenant: &'a Tenant) -> Option<&'a String> {
    document.output.topic.as_ref().or(tenant.outputs.topic.as_ref())
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
