//! GET, PUT, DELETE, validate, status, pause and resume of resources.

use super::{refused, refused_with};
use crate::metrics::Metrics;
use crate::registry::check::{Stores, check, conflicts, users, wanted};
use crate::registry::model_views::{view_of, with_views};
use crate::registry::{Kind, ModelControl, ModelInputs, RecordKey, Resources};
use crate::service::Started;
use connect_api::extension::{RestRequest, RestResponse};
use feature_engine::resource::{FieldError, Model, Resource, parse_document};
use feature_engine::{FeaturePlan, Wanted};
use serde_json::{Value, json};
use std::sync::Arc;

/// Why a PUT is refused.
pub(super) enum Refusal {
    /// the document is wrong
    Wrong(Vec<FieldError>),
    /// it leaves open which of several views a model reads
    Conflict(Vec<FieldError>),
}

impl From<Vec<FieldError>> for Refusal {
    fn from(errors: Vec<FieldError>) -> Refusal {
        Refusal::Wrong(errors)
    }
}

impl Refusal {
    fn errors(self) -> Vec<FieldError> {
        match self {
            Refusal::Wrong(errors) | Refusal::Conflict(errors) => errors,
        }
    }

    fn answer(&self) -> RestResponse {
        match self {
            Refusal::Wrong(errors) => refused(errors),
            Refusal::Conflict(errors) => refused_with(409, errors),
        }
    }
}

/// What a PUT would do.
enum Plan {
    /// the registry has exactly this
    Unchanged(Resource),
    /// this is to be written
    Write { resource: Resource, created: bool },
}

/// What a model's artifact says.
struct Loaded {
    rows: Rows,
    inputs: ModelInputs,
}

pub(super) fn list(started: &Started, kind: Kind) -> RestResponse {
    RestResponse::json(200, &json!(started.deployment().resources.names(kind)))
}

pub(super) fn list_of_tenant(started: &Started, tenant: &str) -> RestResponse {
    let names = started.deployment().resources.names(Kind::Model);
    let own: Vec<&String> = names
        .iter()
        .filter(|name| name.split('/').next() == Some(tenant))
        .collect();
    RestResponse::json(200, &json!(own))
}

pub(super) fn get(started: &Started, kind: Kind, name: &str) -> RestResponse {
    match started.deployment().resources.get(kind, name) {
        Some(resource) => RestResponse::json(200, &resource.document()),
        None => missing(kind, name),
    }
}

fn missing(kind: Kind, name: &str) -> RestResponse {
    RestResponse::error(404, &format!("there is no {} {name}", kind.words()))
}

/// The document of a request's body, JSON or YAML. Kind and name of the path hold where the document has none, and must
/// agree where it has.
pub(super) fn read_body(request: &RestRequest, kind: Kind, name: &str) -> Result<Resource, Vec<FieldError>> {
    let wrong = |message: String| vec![FieldError::new("", message)];
    let text = std::str::from_utf8(&request.body).map_err(|_| wrong("the body is not UTF-8".to_owned()))?;
    let mut document: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| wrong(format!("not valid JSON: {error}")))?
    } else {
        serde_norway::from_str(text).map_err(|error| wrong(format!("not valid YAML: {error}")))?
    };
    let fields = document
        .as_object_mut()
        .ok_or_else(|| wrong("expected an object".to_owned()))?;
    let kind_name = serde_json::to_value(kind).unwrap_or_default();
    fields
        .entry("apiVersion")
        .or_insert_with(|| feature_engine::resource::API_VERSION.into());
    fields.entry("kind").or_insert(kind_name);
    match (kind, name.split_once('/')) {
        (Kind::Model, Some((tenant, model))) => {
            fields.entry("tenant").or_insert_with(|| tenant.into());
            fields.entry("name").or_insert_with(|| model.into());
        }
        _ => {
            fields.entry("name").or_insert_with(|| name.into());
        }
    }
    let resource = parse_document(&document)?;
    if Kind::of(&resource) != kind {
        return Err(vec![FieldError::new(
            "kind",
            format!("is {}, the path is that of a {}", resource.kind(), kind.words()),
        )]);
    }
    if resource.identity() != name {
        return Err(vec![FieldError::new(
            "name",
            format!("is {}, the path says {name}", resource.identity()),
        )]);
    }
    Ok(resource)
}

/// Checks a resource, writes it and waits until this worker serves it.
pub(crate) async fn put(started: &Arc<Started>, resource: Resource) -> RestResponse {
    if let Err(error) = started.registry.refresh().await {
        return RestResponse::error(503, &format!("the registry cannot be read: {error}"));
    }
    started.settle().await;
    match plan(started, resource).await {
        Err(refusal) => refusal.answer(),
        Ok((Plan::Unchanged(resource), _)) => RestResponse::json(200, &resource.document()),
        Ok((Plan::Write { resource, created }, loaded)) => {
            let document = resource.document();
            // Before the document: who serves the version knows what its rows hold.
            let inputs = loaded.map(|loaded| {
                let value = serde_json::to_vec(&loaded.inputs).unwrap_or_default();
                (RecordKey::new(Kind::ModelInputs, resource.identity()), value)
            });
            let key = RecordKey::new(Kind::of(&resource), resource.identity());
            let mut records = Vec::from_iter(inputs);
            records.push((key, document.to_string().into_bytes()));
            if let Err(error) = started.registry.write_all(&records).await {
                return RestResponse::error(503, &format!("the registry cannot be written: {error}"));
            }
            let settled = started.settle().await;
            match not_served(started, &resource, settled) {
                Some(why) => accepted(&format!("{} is kept, but {why}", resource.identity()), document),
                None => RestResponse::json(if created { 201 } else { 200 }, &document),
            }
        }
    }
}

/// Why a resource that is kept in the registry is not what this worker serves; none: it is.
fn not_served(started: &Started, resource: &Resource, settled: bool) -> Option<String> {
    if !settled {
        return Some(NOT_SETTLED.to_owned());
    }
    let Resource::Model(model) = resource else { return None };
    let deployment = started.deployment();
    let served = deployment.models.get(&model.identity());
    if served.is_some_and(|served| *served.document == *model && served.engine().is_some()) {
        return None;
    }
    let failure = deployment.failures.get(&model.identity());
    Some(match failure {
        Some((version, error)) => format!("version {version} cannot be served here now and is tried again: {error}"),
        // Somebody else's PUT came after this one.
        None => "another version has been put since".to_owned(),
    })
}

/// What a worker says that has not got to what was asked for.
const NOT_SETTLED: &str = "this worker has not taken it over within a minute: it is still loading models, and goes on";

/// 202: what was asked for is kept in the registry, and not in effect here yet.
fn accepted(message: &str, resource: Value) -> RestResponse {
    RestResponse::json(202, &json!({ "message": message, "resource": resource }))
}

/// Everything that is wrong, or what is to be done, and what a model's artifact says. Loads it.
async fn plan(started: &Arc<Started>, resource: Resource) -> Result<(Plan, Option<Loaded>), Refusal> {
    let resources = started.registry.resources();
    let before = resources.get(Kind::of(&resource), &resource.identity());
    let mut loaded = None;
    let internal = started.internal_topics.check(&resource);
    if !internal.is_empty() {
        return Err(internal.into());
    }
    let resource = match resource {
        Resource::Model(model) => {
            let old = resources.models.get(&model.identity()).cloned();
            let model = with_views(&resources, model, old.as_deref());
            let open = conflicts(&resources, &Resource::Model(model.clone()));
            if !open.is_empty() {
                return Err(Refusal::Conflict(open));
            }
            let (model, artifact) = plan_model(started, &resources, model, old.as_deref()).await?;
            loaded = Some(artifact);
            Resource::Model(model)
        }
        other => {
            let mut errors = check(&resources, &other);
            if let Resource::Store(store) = &other
                && crate::registry::check::is_archived(store)
                && started.options.archive_url.is_none()
            {
                errors.push(FieldError::new(
                    "archive",
                    "needs the worker's archive.url, which is not set",
                ));
            }
            if !errors.is_empty() {
                return Err(errors.into());
            }
            let open = conflicts(&resources, &other);
            if !open.is_empty() {
                return Err(Refusal::Conflict(open));
            }
            other
        }
    };
    Ok(match before {
        Some(before) if before == resource => (Plan::Unchanged(resource), loaded),
        before => {
            let created = before.is_none();
            (Plan::Write { resource, created }, loaded)
        }
    })
}

/// How a model's rows are run, and why where there is something to say.
type Rows = (&'static str, Option<String>);

/// A model with its version and its artifact's hash, and what the artifact says.
async fn plan_model(
    started: &Arc<Started>,
    resources: &Resources,
    mut model: Model,
    old: Option<&Model>,
) -> Result<(Model, Loaded), Vec<FieldError>> {
    let mut loaded = None;
    let mut errors = check(resources, &Resource::Model(model.clone()));
    let given = model.version;
    model.version = Some(given.unwrap_or_else(|| old.and_then(|old| old.version).unwrap_or(0) + 1));
    if let Some(tenant) = resources.tenants.get(&model.tenant).cloned() {
        let loading = (started.loader.clone(), Arc::new(model.clone()));
        let loads = tokio::task::spawn_blocking(move || {
            let served = loading.0.load(&loading.1, &tenant)?;
            let warmed = served
                .warm()
                .map_err(|error| vec![FieldError::new("artifact", format!("warming: {error}"))]);
            warmed.map(|()| Loaded {
                rows: served.rows().unwrap_or_default(),
                inputs: ModelInputs {
                    version: served.version,
                    sha256: served.engine().map_or("", |engine| engine.sha256()).to_owned(),
                    inputs: served.signature.inputs().to_vec(),
                },
            })
        });
        match loads.await {
            Ok(Ok(found)) => {
                model.sha256 = Some(found.inputs.sha256.clone());
                loaded = Some(found);
            }
            Ok(Err(found)) => errors.extend(
                found
                    .into_iter()
                    .filter(|error| !errors.contains(error))
                    .collect::<Vec<_>>(),
            ),
            Err(error) => errors.push(FieldError::new("artifact", format!("loading failed: {error}"))),
        }
    }
    if let Some(old) = old {
        let same = Model {
            version: old.version,
            ..model.clone()
        } == *old;
        if same && (given.is_none() || given == old.version) {
            model.version = old.version;
        } else if model.version <= old.version {
            errors.push(FieldError::new(
                "version",
                format!(
                    "must be above {}, the version that is there; leave it out for the next one",
                    old.version.unwrap_or(0)
                ),
            ));
        }
    }
    match loaded {
        Some(mut loaded) if errors.is_empty() => {
            loaded.inputs.version = model.version.unwrap_or(loaded.inputs.version);
            Ok((model, loaded))
        }
        _ => Err(errors),
    }
}

/// A dry run of PUT.
pub(super) async fn validate(started: &Arc<Started>, request: &RestRequest, kind: Kind, name: &str) -> RestResponse {
    let planned = match read_body(request, kind, name) {
        Ok(resource) => {
            let missing = super::output_topics::check(started, &resource).await;
            match plan(started, resource).await.map_err(Refusal::errors) {
                Ok(plan) if missing.is_empty() => Ok(plan),
                Ok(_) => Err(missing),
                Err(errors) => Err([errors, missing].concat()),
            }
        }
        Err(errors) => Err(errors),
    };
    let before = started
        .registry
        .resources()
        .get(kind, name)
        .map(|resource| resource.document());
    let mut answer = match &planned {
        Err(errors) => json!({ "valid": false, "errors": errors, "changes": [] }),
        Ok((Plan::Unchanged(_), _)) => json!({ "valid": true, "errors": [], "changes": [] }),
        Ok((Plan::Write { resource, created }, _)) => {
            let mut changes = Vec::new();
            differences(
                "",
                before.as_ref().unwrap_or(&Value::Null),
                &resource.document(),
                &mut changes,
            );
            json!({ "valid": true, "errors": [], "created": created, "changes": changes })
        }
    };
    if let (Some(answer), Ok((_, Some(loaded)))) = (answer.as_object_mut(), planned) {
        let (rows, reason) = loaded.rows;
        answer.insert("rows".to_owned(), rows.into());
        answer.extend(reason.map(|reason| ("rows_reason".to_owned(), reason.into())));
    }
    RestResponse::json(200, &answer)
}

/// Fields that differ, by path.
fn differences(path: &str, before: &Value, after: &Value, out: &mut Vec<Value>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let null = Value::Null;
                differences(
                    &path,
                    old.get(name).unwrap_or(&null),
                    new.get(name).unwrap_or(&null),
                    out,
                );
            }
        }
        _ if before == after => {}
        _ => out.push(json!({ "field": path, "from": before, "to": after })),
    }
}

pub(super) async fn delete(started: &Arc<Started>, kind: Kind, name: &str) -> RestResponse {
    let resources = started.registry.resources();
    if resources.get(kind, name).is_none() {
        return missing(kind, name);
    }
    let used = users(&resources, kind, name);
    if !used.is_empty() {
        return RestResponse::error(
            409,
            &format!("{} {name} is in use by {}", kind.words(), used.join(", ")),
        );
    }
    let of_models = [Kind::ModelControl, Kind::ModelInputs];
    let of_models = of_models.into_iter().filter(|_| kind == Kind::Model);
    for kind in [kind].into_iter().chain(of_models) {
        if let Err(error) = started.registry.write(&RecordKey::new(kind, name), None).await {
            return RestResponse::error(503, &format!("the registry cannot be written: {error}"));
        }
    }
    if !started.settle().await {
        return accepted(
            &format!("{} {name} is deleted, but {NOT_SETTLED}", kind.words()),
            Value::Null,
        );
    }
    RestResponse {
        status: 204,
        headers: Vec::new(),
        content_type: "application/json",
        body: bytes::Bytes::new(),
    }
}

pub(super) async fn pause(started: &Arc<Started>, metrics: &Metrics, name: &str, paused: bool) -> RestResponse {
    let deployment = started.deployment();
    if !deployment.resources.models.contains_key(name) {
        return missing(Kind::Model, name);
    }
    if let Err(error) = started.registry.refresh().await {
        return RestResponse::error(503, &format!("the registry cannot be read: {error}"));
    }
    let before = started
        .registry
        .resources()
        .controls
        .get(name)
        .copied()
        .unwrap_or_default();
    let control = ModelControl {
        paused,
        resumed: before.resumed + u64::from(!paused),
    };
    let value = serde_json::to_vec(&control).unwrap_or_default();
    if let Err(error) = started
        .registry
        .write(&RecordKey::new(Kind::ModelControl, name), Some(&value))
        .await
    {
        return RestResponse::error(503, &format!("the registry cannot be written: {error}"));
    }
    if !started.settle().await {
        return accepted(
            &format!("it is noted, but {NOT_SETTLED}"),
            model_status(started, metrics, name),
        );
    }
    status(started, metrics, Kind::Model, name)
}

pub(super) fn status(started: &Started, metrics: &Metrics, kind: Kind, name: &str) -> RestResponse {
    let deployment = started.deployment();
    let resources = &deployment.resources;
    if resources.get(kind, name).is_none() {
        return missing(kind, name);
    }
    let answer = match kind {
        Kind::Model => model_status(started, metrics, name),
        Kind::Store => super::stores::status(started, name),
        Kind::Tenant => {
            let figures = started.pool.figures();
            json!({ "name": name, "figures": figures.get(name), "used_by": users(resources, kind, name) })
        }
        Kind::FeatureView => {
            let figures = metrics.view(name);
            json!({ "name": name, "used_by": users(resources, kind, name), "figures": figures })
        }
        _ => json!({ "name": name, "used_by": users(resources, kind, name) }),
    };
    RestResponse::json(200, &answer)
}

fn model_status(started: &Started, metrics: &Metrics, name: &str) -> Value {
    let deployment = started.deployment();
    let mut status = serde_json::to_value(deployment.state(name)).unwrap_or_default();
    let modes = started.modes_of(name);
    if let Some(status) = status.as_object_mut() {
        status.insert("features".to_owned(), feature_figures(started, metrics, name));
        status.insert("name".to_owned(), name.into());
        let detached = modes.values().any(|mode| mode.is_detached());
        status.insert("mode".to_owned(), if detached { "detached" } else { "in step" }.into());
        let waits = modes.keys().any(|(connector, _)| started.waits_for_kafka(connector));
        status.insert("waits_for_kafka".to_owned(), waits.into());
        status.insert(
            "partitions".to_owned(),
            json!(
                modes
                    .iter()
                    .map(|((connector, partition), mode)| {
                        json!({ "connector": connector, "partition": partition, "mode": mode, "lag": mode.lag() })
                    })
                    .collect::<Vec<_>>()
            ),
        );
        if let Some(engine) = deployment.models.get(name).and_then(|served| served.engine()) {
            status.insert("batch_sizes".to_owned(), json!(engine.batch_sizes()));
            status.insert("memory_bytes".to_owned(), json!(engine.memory_bytes()));
        }
        if let Some(runtime) = deployment.runtimes.get(name) {
            status.insert(
                "figures".to_owned(),
                serde_json::to_value(runtime.figures()).unwrap_or_default(),
            );
        }
    }
    status
}

/// What became of the features that a model uses, by view: those of its inputs, and the lookups behind them. A view's figures
/// are of all models that read it.
fn feature_figures(started: &Started, metrics: &Metrics, name: &str) -> Value {
    let deployment = started.deployment();
    let Some(model) = deployment.resources.models.get(name) else {
        return Value::Null;
    };
    let topics = model.subscribe.topics.iter();
    let views = topics.filter_map(|topic| view_of(&deployment.resources, model, topic).ok());
    let by_view = views.filter_map(|view| {
        let stores = Stores(&deployment.resources);
        let plan = FeaturePlan::compile(view, &wanted(Wanted::new(), model), &stores).ok()?;
        let mut figures = metrics.view(&view.name).features;
        figures
            .retain(|feature, _| plan.slot(feature).is_some() || plan.lookups().any(|(lookup, _)| lookup == feature));
        Some((view.name.clone(), json!(figures)))
    });
    Value::Object(by_view.collect())
}
