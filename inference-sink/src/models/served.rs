//! One version of a model, loaded and checked: immutable, shared by tasks and executors.

use feature_engine::resource::{FieldError, Model, Tenant, Trigger};
use model_engine::{Limits, ModelError, OutputSelector};
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
        let engine = model_engine::Model::load(artifact, &limits).map_err(|error| vec![load_error(&error, tenant)])?;
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
            widths: engine.inputs().iter().map(model_engine::TensorSpec::width).collect(),
            engine,
            features,
            fields,
        })
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

    /// A hash of which features go where: feature log entries of another signature do not fit.
    pub fn signature(&self) -> u64 {
        // FNV-1a, which is stable over builds and platforms.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for feature in self
            .features
            .iter()
            .flat_map(|features| features.iter().map(String::as_str).chain(["\n"]))
        {
            for byte in feature.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    }

    /// Runs every compiled batch size once, on zeros.
    pub fn warm(&self) -> Result<(), ModelError> {
        let mut session = self.engine.session();
        for rows in self.engine.batch_sizes() {
            let zeros: Vec<Vec<f32>> = self.widths.iter().map(|width| vec![0.0; width * rows]).collect();
            let inputs: Vec<&[f32]> = zeros.iter().map(Vec::as_slice).collect();
            session.run(*rows, &inputs)?;
        }
        Ok(())
    }
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
