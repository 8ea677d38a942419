//! Topics that documents must not name: those in which workers and connectors keep what is theirs. Pure.
//!
//! A tenant's outputs in a changelog would become state, of other tenants too; a global store on the worker's config topic
//! would show the secrets of connectors.

use connect_api::config::ConfigMap;
use feature_engine::resource::{FieldError, Resource};
use std::collections::BTreeMap;

/// The worker's own topics: name, and what it keeps there.
#[derive(Clone, Debug, Default)]
pub struct InternalTopics(BTreeMap<String, &'static str>);

impl InternalTopics {
    /// Of a worker with these properties and this registry topic.
    pub fn of(properties: &ConfigMap, registry: &str) -> InternalTopics {
        let mut topics = BTreeMap::from([(
            registry.to_owned(),
            "the registry of tenants, stores, feature views and models",
        )]);
        for (option, what) in [
            ("config.storage.topic", "the configurations of connectors"),
            ("offset.storage.topic", "the offsets of source connectors"),
            ("status.storage.topic", "the status of connectors"),
        ] {
            if let Some(topic) = properties.get(option).cloned().flatten() {
                topics.insert(topic, what);
            }
        }
        InternalTopics(topics)
    }

    /// What a topic of this name is for, if it is internal.
    fn purpose(&self, topic: &str) -> Option<&'static str> {
        if let Some(purpose) = self.0.get(topic) {
            return Some(purpose);
        }
        match topic {
            _ if topic.starts_with("__") => Some("Kafka's own"),
            _ if topic.starts_with("connect-") && topic.ends_with("-changelog") => Some("the state of a connector"),
            _ if topic.starts_with("connect-") && topic.ends_with("-features") => {
                Some("the feature log of a connector")
            }
            _ => None,
        }
    }

    /// Everything in a document that names such a topic.
    pub fn check(&self, resource: &Resource) -> Vec<FieldError> {
        let named: Vec<(&str, Option<&str>)> = match resource {
            Resource::Tenant(tenant) => vec![
                ("outputs.topic", tenant.outputs.topic.as_deref()),
                ("outputs.shed", tenant.outputs.shed.as_deref()),
                ("outputs.errors", tenant.outputs.errors.as_deref()),
            ],
            Resource::Store(store) => vec![("global.topic", store.global_topic())],
            Resource::FeatureView(_) => Vec::new(),
            Resource::Model(model) => vec![("output.topic", model.output.topic.as_deref())],
        };
        let named = named.into_iter().filter_map(|(field, topic)| Some((field, topic?)));
        named
            .filter_map(|(field, topic)| {
                let purpose = self.purpose(topic)?;
                Some(FieldError::new(
                    field,
                    format!("{topic} is for {purpose}; name another topic"),
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use feature_engine::resource::parse_document;
    use serde_json::{Value, json};

    fn errors(document: Value) -> Vec<(String, String)> {
        let properties = [
            ("config.storage.topic", "connect-configs"),
            ("offset.storage.topic", "connect-offsets"),
            ("status.storage.topic", "connect-status"),
        ];
        let properties = properties.map(|(name, topic)| (name.to_owned(), Some(topic.to_owned())));
        let topics = InternalTopics::of(&properties.into_iter().collect(), "g-inference-registry");
        let mut document = document;
        document["apiVersion"] = "millrace/v1".into();
        let resource = parse_document(&document).unwrap();
        let errors = topics.check(&resource).into_iter();
        errors.map(|error| (error.field, error.message)).collect()
    }

    #[test]
    fn what_is_internal_is_refused_where_it_is_named() {
        for topic in [
            "connect-configs",
            "connect-offsets",
            "connect-status",
            "g-inference-registry",
            "__consumer_offsets",
            "connect-inference-products-changelog",
            "connect-inference-features",
        ] {
            for (document, field) in [
                (
                    json!({ "kind": "tenant", "name": "t", "outputs": { "topic": topic } }),
                    "outputs.topic",
                ),
                (
                    json!({ "kind": "tenant", "name": "t", "outputs": { "shed": topic } }),
                    "outputs.shed",
                ),
                (
                    json!({ "kind": "store", "name": "s", "global": { "topic": topic } }),
                    "global.topic",
                ),
                (
                    json!({ "kind": "model", "tenant": "t", "name": "m", "artifact": "file:///m.onnx",
                        "subscribe": { "topics": ["e"] }, "inputs": { "features": ["a"] }, "trigger": { "each": {} },
                        "output": { "topic": topic, "fields": { "b": "v" } } }),
                    "output.topic",
                ),
            ] {
                let errors = errors(document);
                let [(found, message)] = errors.as_slice() else {
                    panic!("{topic}: {errors:?}")
                };
                assert_eq!(found, field);
                assert!(message.starts_with(&format!("{topic} is for ")), "{message}");
            }
        }
    }

    #[test]
    fn other_topics_are_not() {
        for topic in [
            "catalog.products",
            "connect-lists",
            "features",
            "a-changelog",
            "_schemas",
        ] {
            assert_eq!(
                errors(json!({ "kind": "store", "name": "s", "global": { "topic": topic } })),
                []
            );
        }
        assert_eq!(
            errors(json!({ "kind": "store", "name": "s", "keyed": { "by": "event.x" } })),
            []
        );
    }
}
