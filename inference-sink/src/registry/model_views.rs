//! Which feature view gives a model its features, for each of its topics. Pure.
//!
//! ```text
//! named by the document       that one, whatever else fits
//! not named, one fits         that one; PUT writes its name into the document that is kept
//! not named, several fit      PUT is refused (409): whichever was taken, another's view could take its place
//! ```
//! A view fits if it reads the topic and has all of the features. So a view that is put later changes no model that is there:
//! a model that was kept without a name (by an earlier version) refuses the view that would fit as well.

use super::fold::Resources;
use feature_engine::resource::{FeatureView, FieldError, Model};
use std::sync::Arc;

/// The view that gives a model its features for the events of a topic. Error: why there is none.
pub fn view_of<'a>(resources: &'a Resources, model: &Model, topic: &str) -> Result<&'a Arc<FeatureView>, FieldError> {
    let named = model.views.iter().filter_map(|name| resources.views.get(name));
    if let Some(view) = named.into_iter().find(|view| view.source == topic) {
        return match missing(view, model) {
            None => Ok(view),
            Some(feature) => Err(lacks(view, feature)),
        };
    }
    match fitting(resources, model, topic).first() {
        Some(view) => Ok(*view),
        None => Err(none_fits(resources, model, topic)),
    }
}

/// The views that would do for a topic, by name.
fn fitting<'a>(resources: &'a Resources, model: &Model, topic: &str) -> Vec<&'a Arc<FeatureView>> {
    let of_topic = resources.views.values().filter(|view| view.source == topic);
    of_topic.filter(|view| missing(view, model).is_none()).collect()
}

/// The first feature of a model that a view does not have.
fn missing<'m>(view: &FeatureView, model: &'m Model) -> Option<&'m str> {
    model
        .input_features()
        .find(|feature| !view.features.contains_key(*feature))
}

fn lacks(view: &FeatureView, feature: &str) -> FieldError {
    let known = view.features.keys().cloned().collect::<Vec<_>>().join(", ");
    let message = format!(
        "feature view {} of topic {} has no feature {feature}; it has {known}",
        view.name, view.source
    );
    FieldError::new("inputs", message)
}

fn none_fits(resources: &Resources, model: &Model, topic: &str) -> FieldError {
    let of_topic: Vec<&Arc<FeatureView>> = resources.views.values().filter(|view| view.source == topic).collect();
    match of_topic.as_slice() {
        [] => FieldError::new(
            "subscribe.topics",
            format!("no feature view has the source {topic}; put one first"),
        ),
        [view] => lacks(view, missing(view, model).unwrap_or_default()),
        views => FieldError::new(
            "inputs",
            format!(
                "no single feature view of topic {topic} has all of the features: {}",
                names(views)
            ),
        ),
    }
}

fn names(views: &[&Arc<FeatureView>]) -> String {
    let names: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
    names.join(", ")
}

/// Whether a document names the view of a topic.
fn names_view_of(resources: &Resources, model: &Model, topic: &str) -> bool {
    let mut named = model.views.iter().filter_map(|name| resources.views.get(name));
    named.any(|view| view.source == topic)
}

/// The document with the views that it does not name: those that the version before it reads, where they still fit, else the
/// only ones that do.
pub fn with_views(resources: &Resources, model: Model, before: Option<&Model>) -> Model {
    let mut views = model.views.clone();
    for topic in &model.subscribe.topics {
        if names_view_of(resources, &model, topic) {
            continue;
        }
        let fitting = fitting(resources, &model, topic);
        let kept = before.and_then(|before| {
            let mut kept = fitting.iter().filter(|view| before.views.contains(&view.name));
            kept.next()
        });
        match (kept, fitting.as_slice()) {
            (Some(view), _) => views.push(view.name.clone()),
            (None, [only]) => views.push(only.name.clone()),
            (None, _) => {}
        }
    }
    views.sort();
    views.dedup();
    Model { views, ..model }
}

/// What is wrong with the names of views.
pub fn check_names(resources: &Resources, model: &Model) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in &model.views {
        match resources.views.get(name) {
            None => errors.push(FieldError::new(
                "view",
                format!("there is no feature view {name}; put it first"),
            )),
            Some(view) if !model.subscribe.topics.contains(&view.source) => errors.push(FieldError::new(
                "view",
                format!(
                    "feature view {name} reads topic {}, to which the model does not subscribe",
                    view.source
                ),
            )),
            Some(_) => {}
        }
    }
    for topic in &model.subscribe.topics {
        let named: Vec<&Arc<FeatureView>> = model
            .views
            .iter()
            .filter_map(|name| resources.views.get(name))
            .filter(|view| view.source == *topic)
            .collect();
        if named.len() > 1 {
            let message = format!("names more than one view of topic {topic}: {}", names(&named));
            errors.push(FieldError::new("view", message));
        }
    }
    errors
}

/// Topics of which a model does not say whose view it reads, though several fit.
pub fn ambiguous(resources: &Resources, model: &Model) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for topic in &model.subscribe.topics {
        let fitting = fitting(resources, model, topic);
        if fitting.len() > 1 && !names_view_of(resources, model, topic) {
            let message = format!(
                "several feature views of topic {topic} have all of the features: {}; name the one that the model reads",
                names(&fitting)
            );
            errors.push(FieldError::new("view", message));
        }
    }
    errors
}

/// Models that would not know any more which view they read, once a view is there: they were kept without its name.
pub fn made_ambiguous(before: &Resources, after: &Resources, view: &FeatureView) -> Vec<FieldError> {
    let topic = view.source.as_str();
    let newly = |model: &&Arc<Model>| {
        let fit = |resources| {
            let fitting = fitting(resources, model, topic);
            fitting.iter().any(|fitting| fitting.name == view.name)
        };
        model.subscribe.topics.iter().any(|subscribed| subscribed == topic)
            && !names_view_of(after, model, topic)
            && fit(after)
            && !fit(before)
            && fitting(after, model, topic).len() > 1
    };
    let models = after.models.values().filter(newly);
    models
        .map(|model| {
            let message = format!(
                "model {} does not name the view that it reads, and this one would fit as well as {}: put the model again first",
                model.identity(),
                names(&fitting(before, model, topic))
            );
            FieldError::new("", message)
        })
        .collect()
}
