//! What a document must agree with before it is taken: the other documents. Pure.

use super::fold::{Kind, Resources};
use super::model_views::{ambiguous, check_names, made_ambiguous, view_of};
use feature_engine::resource::{
    FeatureDefinition, FeatureView, FieldError, Model, Resource, Store, StoreKind, Tenant, Trigger,
};
use feature_engine::{FeaturePlan, StoreCatalog, Wanted};
use std::sync::Arc;

/// The stores of the registry, for compiling views.
pub struct Stores<'a>(pub &'a Resources);

impl StoreCatalog for Stores<'_> {
    fn store(&self, name: &str) -> Option<&Store> {
        self.0.stores.get(name).map(|store| &**store)
    }
}

/// Everything in a document that does not agree with the others.
pub fn check(resources: &Resources, resource: &Resource) -> Vec<FieldError> {
    let mut after = resources.clone();
    after.insert(resource.clone());
    match resource {
        Resource::Tenant(tenant) => check_tenant(tenant),
        Resource::Store(store) => check_store(resources, &after, store),
        Resource::FeatureView(view) => check_view(resources, &after, view),
        Resource::Model(model) => check_model(&after, model),
    }
}

/// Where a document, which is right by itself, would leave it open which view a model reads.
pub fn conflicts(resources: &Resources, resource: &Resource) -> Vec<FieldError> {
    match resource {
        Resource::Tenant(_) | Resource::Store(_) => Vec::new(),
        Resource::FeatureView(view) => {
            let mut after = resources.clone();
            after.insert(resource.clone());
            made_ambiguous(resources, &after, view)
        }
        Resource::Model(model) => ambiguous(resources, model),
    }
}

/// Who uses a resource, by name; it cannot be deleted while there is anybody.
pub fn users(resources: &Resources, kind: Kind, name: &str) -> Vec<String> {
    match kind {
        Kind::Tenant => resources
            .models
            .values()
            .filter(|m| m.tenant == name)
            .map(|m| format!("model {}", m.identity()))
            .collect(),
        Kind::Store => {
            let uses = |view: &&Arc<FeatureView>| stores_of(view).contains(&name);
            resources
                .views
                .values()
                .filter(uses)
                .map(|view| format!("feature view {}", view.name))
                .collect()
        }
        Kind::FeatureView => resources
            .models
            .values()
            .filter(|model| {
                model
                    .subscribe
                    .topics
                    .iter()
                    .any(|topic| view_of(resources, model, topic).is_ok_and(|view| view.name == name))
            })
            .map(|model| format!("model {}", model.identity()))
            .collect(),
        Kind::Model | Kind::ModelControl | Kind::ModelInputs | Kind::Layout => Vec::new(),
    }
}

/// What a plan must compute for a model.
pub fn wanted(wanted: Wanted, model: &Model) -> Wanted {
    let mut wanted = wanted.inputs(model.input_features().map(str::to_owned));
    if let Some(filter) = &model.subscribe.filter {
        wanted = wanted.filter("subscribe.filter", filter);
    }
    if let Some(event_type) = &model.subscribe.event_type {
        wanted = wanted.expression("subscribe.event_type", event_type);
    }
    if let Some(key) = &model.output.key {
        wanted = wanted.expression("output.key", key);
    }
    if let Trigger::Window { by, .. } = &model.trigger {
        for (index, expression) in by.iter().enumerate() {
            wanted = wanted.expression(format!("trigger.window.by[{index}]"), expression);
        }
    }
    wanted
}

/// What a document may say and this version does not do is refused, never ignored.
fn check_tenant(tenant: &Tenant) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut refuse = |field: &str, there: bool, instead: &str| {
        if there {
            errors.push(FieldError::new(field, format!("is not supported yet: {instead}")));
        }
    };
    refuse(
        "outputs.errors",
        tenant.outputs.errors.is_some(),
        "failed rows are counted, and a model's status has the last error",
    );
    refuse(
        "feature_log.max_bytes",
        tenant.feature_log.max_bytes.is_some(),
        "use feature_log.retention",
    );
    refuse(
        "access",
        !(tenant.access.read.is_empty() && tenant.access.write.is_empty()),
        "restrict REST as a whole",
    );
    errors
}

fn check_store(before: &Resources, after: &Resources, store: &Store) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(old) = before.stores.get(&store.name) {
        let used = users(before, Kind::Store, &store.name);
        if old.is_global() != store.is_global() && !used.is_empty() {
            errors.push(FieldError::new(
                "",
                format!(
                    "a global store cannot become a keyed one, or the other way round, while it is used by {}",
                    used.join(", ")
                ),
            ));
        }
    }
    if !before.stores.contains_key(&store.name)
        && let Some(view) = after.views.get(&store.name).filter(|view| has_own_store(view))
    {
        errors.push(FieldError::new(
            "name",
            format!(
                "feature view {} keeps its aggregates under this name; use another, and name it in the aggregates' `store`",
                view.name
            ),
        ));
    }
    for view in after
        .views
        .values()
        .filter(|view| stores_of(view).contains(&store.name.as_str()))
    {
        if let Err(found) = FeaturePlan::compile(view, &Wanted::everything(view), &Stores(after)) {
            errors.extend(found.into_iter().map(|e| {
                FieldError::new(
                    "",
                    format!("feature view {} would be wrong: {}: {}", view.name, e.field, e.message),
                )
            }));
        }
    }
    errors
}

fn check_view(before: &Resources, after: &Resources, view: &FeatureView) -> Vec<FieldError> {
    let plan = match FeaturePlan::compile(view, &Wanted::everything(view), &Stores(after)) {
        Ok(plan) => plan,
        Err(errors) => return errors,
    };
    let mut errors = check_identities(after, view, &plan);
    let had_own_store = before.views.get(&view.name).is_some_and(|view| has_own_store(view));
    if has_own_store(view) && !had_own_store && after.stores.contains_key(&view.name) {
        errors.push(FieldError::new(
            "name",
            "is that of a store, under which the view's own aggregates would be kept; name the aggregates' `store`, or use \
             another name",
        ));
    }
    let reads = |resources: &Resources, model: &Model| {
        let mut topics = model.subscribe.topics.iter();
        topics.any(|topic| view_of(resources, model, topic).is_ok_and(|read| read.name == view.name))
            || model.views.contains(&view.name)
    };
    for model in after
        .models
        .values()
        .filter(|model| reads(before, model) || reads(after, model))
    {
        errors.extend(check_model(after, model).into_iter().map(|error| {
            FieldError::new(
                "",
                format!(
                    "model {} would be wrong: {}: {}",
                    model.identity(),
                    error.field,
                    error.message
                ),
            )
        }));
    }
    errors
}

/// Rows of aggregates begin with a hash of their view and key. Two views whose hashes are alike would have each other's rows.
fn check_identities(after: &Resources, view: &FeatureView, plan: &FeaturePlan) -> Vec<FieldError> {
    let others = after.views.values().filter(|other| other.name != view.name);
    let mut errors = Vec::new();
    for other in others.filter(|other| has_aggregates(other)) {
        let Ok(theirs) = FeaturePlan::compile(other, &Wanted::new().state(other), &Stores(after)) else {
            continue;
        };
        let taken = |identity: u64| theirs.groups().iter().any(|group| group.identity == identity);
        for group in plan.groups().iter().filter(|group| taken(group.identity)) {
            let message = format!(
                "its rows could not be told from those of feature view {}; write `by` in another way, or name the view differently",
                other.name
            );
            let feature = group.features.first().map_or("", String::as_str);
            errors.push(FieldError::new(format!("features.{feature}.aggregate.by"), message));
        }
    }
    errors
}

/// Whether aggregates name no store: they are kept under the view's name.
fn has_own_store(view: &FeatureView) -> bool {
    view.features.values().any(
        |feature| matches!(&feature.definition, FeatureDefinition::Aggregate(aggregate) if aggregate.store.is_none()),
    )
}

fn has_aggregates(view: &FeatureView) -> bool {
    let mut features = view.features.values();
    features.any(|feature| matches!(feature.definition, FeatureDefinition::Aggregate(_)))
}

fn check_model(after: &Resources, model: &Model) -> Vec<FieldError> {
    let mut errors = check_names(after, model);
    match after.tenants.get(&model.tenant) {
        None => errors.push(FieldError::new(
            "tenant",
            format!("there is no tenant {}; put it first", model.tenant),
        )),
        Some(tenant) if model.output.topic.is_none() && tenant.outputs.topic.is_none() => errors.push(FieldError::new(
            "output.topic",
            format!(
                "is required: tenant {} has no outputs.topic to fall back on",
                tenant.name
            ),
        )),
        Some(_) => {}
    }
    if model.output.store.is_some() {
        errors.push(FieldError::new(
            "output.store",
            "is not supported yet: read the output topic",
        ));
    }
    for topic in &model.subscribe.topics {
        match view_of(after, model, topic) {
            Err(error) => errors.push(error),
            Ok(view) => {
                if let Err(found) = FeaturePlan::compile(view, &wanted(Wanted::new(), model), &Stores(after)) {
                    errors.extend(
                        found
                            .into_iter()
                            .filter(|error| !errors.contains(error))
                            .collect::<Vec<_>>(),
                    );
                }
                errors.extend(check_window(view, model));
            }
        }
    }
    errors
}

/// A window by key is state, so its key must contain what the topic is partitioned by.
fn check_window(view: &FeatureView, model: &Model) -> Option<FieldError> {
    let Trigger::Window { by, .. } = &model.trigger else {
        return None;
    };
    match &view.partitioned_by {
        Some(partitioned_by) if by.contains(partitioned_by) => None,
        Some(partitioned_by) => Some(FieldError::new(
            "trigger.window.by",
            format!(
                "must contain {partitioned_by}, by which topic {} is partitioned: windows would be partial",
                view.source
            ),
        )),
        None => Some(FieldError::new(
            "trigger.window.by",
            format!(
                "feature view {} does not say what its topic is partitioned by",
                view.name
            ),
        )),
    }
}

fn stores_of(view: &FeatureView) -> Vec<&str> {
    view.features
        .values()
        .filter_map(|feature| match &feature.definition {
            FeatureDefinition::Lookup { store, .. } => Some(store.as_str()),
            // A view's own store has its name, declared or not.
            FeatureDefinition::Aggregate(aggregate) => Some(aggregate.store.as_deref().unwrap_or(&view.name)),
            FeatureDefinition::Expression(_) => None,
        })
        .collect()
}

/// Whether a store's expired entries are archived.
pub fn is_archived(store: &Store) -> bool {
    matches!(store.kind, StoreKind::Keyed { archive: true, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use feature_engine::resource::parse_document;
    use serde_json::{Value, json};

    fn resource(document: Value) -> Resource {
        let mut document = document;
        document["apiVersion"] = "millrace/v1".into();
        parse_document(&document).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn registry(documents: Vec<Value>) -> Resources {
        let mut resources = Resources::default();
        for document in documents {
            let resource = resource(document);
            assert_eq!(check(&resources, &resource), []);
            resources.insert(resource);
        }
        resources
    }

    fn tenant() -> Value {
        json!({ "kind": "tenant", "name": "ads", "outputs": { "topic": "out" } })
    }

    fn view() -> Value {
        json!({ "kind": "feature_view", "name": "purchase", "source": "events", "partitioned_by": "event.household",
            "features": {
                "amount": { "expression": "event.amount" },
                "spent": { "aggregate": { "function": "sum", "of": "event.amount", "by": ["event.household"] } } } })
    }

    fn model(changes: Value) -> Value {
        let mut model = json!({ "kind": "model", "tenant": "ads", "name": "bid", "artifact": "file:///m.onnx",
            "subscribe": { "topics": ["events"] }, "inputs": { "features": ["amount", "spent"] }, "trigger": { "each": {} },
            "output": { "fields": { "bid": "variable" } } });
        if let (Value::Object(model), Value::Object(changes)) = (&mut model, changes) {
            model.extend(changes);
        }
        model
    }

    #[track_caller]
    fn refused(resources: &Resources, document: Value, field: &str, words: &str) {
        let errors = check(resources, &resource(document));
        assert!(
            errors.iter().any(|e| e.field == field && e.message.contains(words)),
            "{errors:?}"
        );
    }

    #[test]
    fn what_a_model_names_must_be_there() {
        let resources = registry(vec![tenant(), view()]);
        assert_eq!(check(&resources, &resource(model(json!({})))), []);
        refused(
            &resources,
            model(json!({ "tenant": "nobody" })),
            "tenant",
            "no tenant nobody",
        );
        refused(
            &resources,
            model(json!({ "inputs": { "features": ["amount", "size"] } })),
            "inputs",
            "has no feature size",
        );
        refused(
            &resources,
            model(json!({ "subscribe": { "topics": ["clicks"] } })),
            "subscribe.topics",
            "source clicks",
        );
        refused(
            &resources,
            model(json!({ "output": { "fields": { "b": "v" }, "store": "latest" } })),
            "output.store",
            "not supported",
        );
    }

    #[test]
    fn state_that_would_be_partial_is_refused() {
        let resources = registry(vec![tenant()]);
        let mut wrong = view();
        wrong["features"]["spent"]["aggregate"]["by"] = json!(["event.store"]);
        let errors = check(&resources, &resource(wrong));
        assert!(
            errors.iter().any(|e| e.message.contains("event.household")),
            "{errors:?}"
        );
        let resources = registry(vec![tenant(), view()]);
        let window = json!({ "window": { "tumbling": "5m", "by": ["event.store"] } });
        refused(
            &resources,
            model(json!({ "trigger": window })),
            "trigger.window.by",
            "must contain event.household",
        );
    }

    #[test]
    fn undeclared_stores_are_refused_by_name() {
        let resources = registry(vec![tenant()]);
        let mut wrong = view();
        wrong["features"]["spent"]["aggregate"]["store"] = "nowhere".into();
        wrong["features"]["product"] = json!({ "lookup": { "store": "products", "key": "event.product" } });
        let errors = check(&resources, &resource(wrong));
        for store in ["nowhere", "products"] {
            assert!(
                errors.iter().any(|error| error.message.contains(store)),
                "{store}: {errors:?}"
            );
        }
    }

    #[test]
    fn what_is_in_use_is_named() {
        let mut resources = registry(vec![tenant(), view()]);
        resources.insert(resource(model(json!({}))));
        assert_eq!(users(&resources, Kind::Tenant, "ads"), ["model ads/bid"]);
        assert_eq!(users(&resources, Kind::FeatureView, "purchase"), ["model ads/bid"]);
        let mut smaller = view();
        smaller["features"].as_object_mut().unwrap().remove("spent");
        refused(&resources, smaller, "", "model ads/bid would be wrong");
    }
}
