//! `POST /inference/models/{tenant}/{name}/evaluate`: one event by hand, with every feature and every output shown.

use super::refused;
use crate::models::{ServedModel, write_inputs};
use crate::registry::Deployment;
use crate::registry::check::{Stores, wanted};
use crate::registry::model_views::view_of;
use crate::service::{GlobalRows, Started};
use connect_api::extension::{RestRequest, RestResponse};
use feature_engine::resource::FieldError;
use feature_engine::{
    CatalogRow, Evaluator, Event, FeaturePlan, FeatureSlot, GlobalLookup, MemoryState, Scalar, Wanted,
};
use model_engine::{OutputValue, Values};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The body: `{"event": {...}, "topic": "...", "key": "...", "timestamp": 0, "headers": {...}}`, or the event alone.
pub(super) async fn answer(started: &Arc<Started>, request: &RestRequest, name: &str) -> RestResponse {
    let deployment = started.deployment();
    if !deployment.resources.models.contains_key(name) {
        return RestResponse::error(404, &format!("there is no model {name}"));
    }
    let Some(model) = deployment.models.get(name).cloned() else {
        return RestResponse::error(409, &format!("model {name} serves no version yet"));
    };
    if model.engine().is_none() {
        let error = deployment.failures.get(name).map_or("", |(_, error)| error);
        return RestResponse::error(
            409,
            &format!("the artifact of {} cannot be loaded now: {error}", model.lineage),
        );
    }
    let body: Value = match serde_json::from_slice(&request.body) {
        Ok(body) => body,
        Err(error) => return refused(&[FieldError::new("", format!("not valid JSON: {error}"))]),
    };
    let started = started.clone();
    let ran = tokio::task::spawn_blocking(move || evaluate(&started, &deployment, &model, &body));
    match ran.await {
        Ok(Ok(answer)) => RestResponse::json(200, &answer),
        Ok(Err(errors)) => refused(&errors),
        Err(error) => RestResponse::error(500, &format!("the evaluation failed: {error}")),
    }
}

struct Rows(Vec<Option<Arc<dyn GlobalRows>>>);

impl GlobalLookup for Rows {
    fn get(&mut self, store: usize, key: &[u8]) -> Option<Arc<CatalogRow>> {
        self.0.get(store)?.as_ref()?.get(key)
    }
}

fn evaluate(
    started: &Started,
    deployment: &Deployment,
    model: &Arc<ServedModel>,
    body: &Value,
) -> Result<Value, Vec<FieldError>> {
    let wrong = |field: &str, message: String| vec![FieldError::new(field, message)];
    let (event_json, envelope) = match body.get("event") {
        Some(event) => (event, body),
        None => (body, &Value::Null),
    };
    let topic = envelope.get("topic").and_then(Value::as_str).map(str::to_owned);
    let topic = topic
        .or_else(|| model.document.subscribe.topics.first().cloned())
        .unwrap_or_default();
    let resources = &deployment.resources;
    let view = view_of(resources, &model.document, &topic).map_err(|error| vec![error])?;
    // Every feature of the view is shown, beside what the model needs.
    let all = wanted(Wanted::everything(view), &model.document);
    let plan = Arc::new(FeaturePlan::compile(view, &all, &Stores(resources))?);
    let mut rows = Rows(
        plan.global_stores()
            .iter()
            .map(|store| started.globals.get(store))
            .collect(),
    );
    let value = event_json.to_string();
    let headers: Vec<(String, String)> = envelope
        .get("headers")
        .and_then(Value::as_object)
        .map(|headers| {
            headers
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
                .collect()
        })
        .unwrap_or_default();
    let headers: Vec<(&str, Option<&[u8]>)> = headers.iter().map(|(k, v)| (k.as_str(), Some(v.as_bytes()))).collect();
    let event = Event {
        topic: &topic,
        partition: 0,
        offset: 0,
        timestamp_ms: envelope
            .get("timestamp")
            .and_then(Value::as_i64)
            .unwrap_or_else(crate::clock::wall_ms),
        key: envelope.get("key").and_then(Value::as_str).map(str::as_bytes),
        value: value.as_bytes(),
        headers: &headers,
    };
    let mut evaluator = Evaluator::new(plan.clone());
    // Aggregates start empty: reading a partition's state is its task's alone.
    let mut state = MemoryState::new(plan.groups());
    evaluator
        .evaluate(&event, &mut rows, &mut state)
        .map_err(|error| wrong("event", error.to_string()))?;
    let mut features = Map::new();
    for (name, slot) in plan.features() {
        features.insert(name.to_owned(), shown(evaluator.feature_scalar(slot)));
    }
    let slots: Vec<Vec<FeatureSlot>> = model
        .features()
        .map(|names| names.iter().filter_map(|name| plan.slot(name)).collect())
        .collect();
    let mut inputs = model.signature.empty();
    let refused = write_inputs(&evaluator, &slots, &mut inputs).map_err(|error| model.input_error(&error));
    let outputs = match refused {
        Ok(()) => outputs(model, &inputs).map_err(|error| wrong("artifact", error))?,
        Err(_) => Value::Null,
    };
    let matches = model
        .document
        .subscribe
        .filter
        .as_ref()
        .and_then(|text| plan.expression(text));
    Ok(json!({
        "model": &*model.lineage, "feature_view": view.name, "event_time": evaluator.event_time_ms(),
        "filter": matches.map(|filter| evaluator.scalar(filter).is_true()), "features": features,
        "inputs": model.features().zip(&inputs).map(|(names, row)| {
            names.iter().cloned().zip(elements(row)).collect::<Map<String, Value>>()
        }).collect::<Vec<_>>(),
        "input_error": refused.err(),
        "outputs": outputs,
        "note": "aggregates are shown as for a key that was never seen",
    }))
}

/// The output fields of one row.
fn outputs(model: &Arc<ServedModel>, inputs: &[Values]) -> Result<Value, String> {
    let engine = model.engine().ok_or("is not loaded")?;
    let mut session = engine.session();
    let outputs = session.run(inputs, 0..1).map_err(|error| error.to_string())?;
    let mut fields = Map::new();
    for (name, text) in &model.document.output.fields {
        let value = engine.selector(text).ok().and_then(|selector| {
            Some(match outputs.get(&selector, 0)? {
                OutputValue::Float(number) => json!(number),
                OutputValue::Double(number) => json!(number),
                OutputValue::Integer(number) => json!(number),
                OutputValue::Text(text) => json!(text),
            })
        });
        fields.insert(name.clone(), value.unwrap_or(Value::Null));
    }
    Ok(Value::Object(fields))
}

fn elements(values: &Values) -> Vec<Value> {
    match values {
        Values::Float(values) => values.iter().map(|value| json!(value)).collect(),
        Values::Double(values) => values.iter().map(|value| json!(value)).collect(),
        Values::Int64(values) => values.iter().map(|value| json!(value)).collect(),
        Values::Int32(values) => values.iter().map(|value| json!(value)).collect(),
        Values::Boolean(values) => values.iter().map(|value| json!(value)).collect(),
    }
}

fn shown(value: Scalar<'_>) -> Value {
    match value {
        Scalar::Missing => Value::Null,
        Scalar::Bool(value) => value.into(),
        Scalar::Integer(value) | Scalar::Timestamp(value) => value.into(),
        Scalar::Unsigned(value) => value.into(),
        Scalar::Number(value) => value.into(),
        Scalar::Text(text) => text.into(),
    }
}
