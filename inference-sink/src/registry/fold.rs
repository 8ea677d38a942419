//! What the registry topic says, as a pure fold over its records: the last record of a key holds.
//!
//! ```text
//! key                                             value
//! {"kind":"tenant","name":"ads"}                  the document, as GET answers it
//! {"kind":"model","name":"ads/bid"}               the document, with version and sha256
//! {"kind":"model_control","name":"ads/bid"}       {"paused":true,"resumed":3}
//! {"kind":"model_inputs","name":"ads/bid"}        what rows of a version hold, as its artifact says
//! {"kind":"layout","name":"<connector>"}          the connector's layout
//! ```
//! A record without a value deletes. A record that cannot be read changes nothing and is kept by key for the status: a
//! newer worker may have written it.

use super::layout::Layout;
use crate::models::InputSpec;
use feature_engine::resource::{FeatureView, Model, Resource, Store, Tenant, parse_document};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// a tenant's document
    Tenant,
    /// a store's document
    Store,
    /// a feature view's document
    FeatureView,
    /// a model's document; named `tenant/name`
    Model,
    /// what people told a model to do; named `tenant/name`
    ModelControl,
    /// what rows of a model hold; named `tenant/name`
    ModelInputs,
    /// the layout of an inference connector
    Layout,
}

impl Kind {
    /// The kind of a resource.
    pub fn of(resource: &Resource) -> Kind {
        match resource {
            Resource::Tenant(_) => Kind::Tenant,
            Resource::Store(_) => Kind::Store,
            Resource::FeatureView(_) => Kind::FeatureView,
            Resource::Model(_) => Kind::Model,
        }
    }

    /// As users call it.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Tenant => "tenant",
            Kind::Store => "store",
            Kind::FeatureView => "feature view",
            Kind::Model => "model",
            Kind::ModelControl => "model control",
            Kind::ModelInputs => "model inputs",
            Kind::Layout => "layout",
        }
    }
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// what it is about
    pub kind: Kind,
    /// which one
    pub name: String,
}

impl RecordKey {
    /// A key.
    pub fn new(kind: Kind, name: impl Into<String>) -> RecordKey {
        RecordKey {
            kind,
            name: name.into(),
        }
    }

    /// The key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of an enum and a string always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What people told a model to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelControl {
    /// it does not run; its events wait in the feature log
    #[serde(default)]
    pub paused: bool,
    /// how often somebody resumed it: every worker that sees a new number lifts what has stopped the model there
    #[serde(default)]
    pub resumed: u64,
}

/// What rows of a version hold, found when its artifact was loaded: rows can be made for it while the artifact is not at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInputs {
    /// the version
    pub version: u64,
    /// hash of its artifact
    pub sha256: String,
    /// its inputs, in the order of the artifact
    pub inputs: Vec<InputSpec>,
}

impl ModelInputs {
    /// Whether they are those of a document's version.
    pub fn are_of(&self, model: &Model) -> bool {
        model.version == Some(self.version) && model.sha256.as_ref() == Some(&self.sha256)
    }
}

/// Everything that the registry holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// by name
    pub tenants: BTreeMap<String, Arc<Tenant>>,
    /// by name
    pub stores: BTreeMap<String, Arc<Store>>,
    /// by name
    pub views: BTreeMap<String, Arc<FeatureView>>,
    /// by `tenant/name`
    pub models: BTreeMap<String, Arc<Model>>,
    /// by `tenant/name`
    pub controls: BTreeMap<String, ModelControl>,
    /// by `tenant/name`: of the version that was loaded last
    pub inputs: BTreeMap<String, Arc<ModelInputs>>,
    /// by connector
    pub layouts: BTreeMap<String, Layout>,
    /// keys of records that cannot be read
    pub unreadable: BTreeSet<String>,
}

impl Resources {
    /// Applies one record. Error: why it cannot be read; nothing has changed then.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let name = String::from_utf8_lossy(key).into_owned();
        match self.apply_readable(key, value) {
            Ok(()) => {
                self.unreadable.remove(&name);
                Ok(())
            }
            Err(error) => {
                self.unreadable.insert(name);
                Err(error)
            }
        }
    }

    fn apply_readable(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let key: RecordKey = serde_json::from_slice(key).map_err(|error| format!("key: {error}"))?;
        let Some(value) = value else {
            self.delete(&key);
            return Ok(());
        };
        match key.kind {
            Kind::ModelControl => {
                let control = serde_json::from_slice(value).map_err(|error| format!("value: {error}"))?;
                self.controls.insert(key.name, control);
            }
            Kind::ModelInputs => {
                let inputs = serde_json::from_slice(value).map_err(|error| format!("value: {error}"))?;
                self.inputs.insert(key.name, Arc::new(inputs));
            }
            Kind::Layout => {
                let layout = serde_json::from_slice(value).map_err(|error| format!("value: {error}"))?;
                self.layouts.insert(key.name, layout);
            }
            Kind::Tenant | Kind::Store | Kind::FeatureView | Kind::Model => {
                let document = serde_json::from_slice(value).map_err(|error| format!("value: {error}"))?;
                let resource = parse_document(&document)
                    .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
                if Kind::of(&resource) != key.kind || resource.identity() != key.name {
                    return Err(format!(
                        "key and document differ: the document is {}",
                        resource.identity()
                    ));
                }
                self.insert(resource);
            }
        }
        Ok(())
    }

    /// Puts a resource in.
    pub fn insert(&mut self, resource: Resource) {
        let name = resource.identity();
        match resource {
            Resource::Tenant(tenant) => drop(self.tenants.insert(name, Arc::new(tenant))),
            Resource::Store(store) => drop(self.stores.insert(name, Arc::new(store))),
            Resource::FeatureView(view) => drop(self.views.insert(name, Arc::new(view))),
            Resource::Model(model) => drop(self.models.insert(name, Arc::new(model))),
        }
    }

    /// Takes out what a key names.
    pub fn delete(&mut self, key: &RecordKey) {
        match key.kind {
            Kind::Tenant => drop(self.tenants.remove(&key.name)),
            Kind::Store => drop(self.stores.remove(&key.name)),
            Kind::FeatureView => drop(self.views.remove(&key.name)),
            Kind::Model => drop(self.models.remove(&key.name)),
            Kind::ModelControl => drop(self.controls.remove(&key.name)),
            Kind::ModelInputs => drop(self.inputs.remove(&key.name)),
            Kind::Layout => drop(self.layouts.remove(&key.name)),
        }
    }

    /// The resource that a key names.
    pub fn get(&self, kind: Kind, name: &str) -> Option<Resource> {
        match kind {
            Kind::Tenant => self
                .tenants
                .get(name)
                .map(|tenant| Resource::Tenant((**tenant).clone())),
            Kind::Store => self.stores.get(name).map(|store| Resource::Store((**store).clone())),
            Kind::FeatureView => self.views.get(name).map(|view| Resource::FeatureView((**view).clone())),
            Kind::Model => self.models.get(name).map(|model| Resource::Model((**model).clone())),
            Kind::ModelControl | Kind::ModelInputs | Kind::Layout => None,
        }
    }

    /// Names of a kind, in order.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Tenant => self.tenants.keys().cloned().collect(),
            Kind::Store => self.stores.keys().cloned().collect(),
            Kind::FeatureView => self.views.keys().cloned().collect(),
            Kind::Model => self.models.keys().cloned().collect(),
            Kind::ModelControl => self.controls.keys().cloned().collect(),
            Kind::ModelInputs => self.inputs.keys().cloned().collect(),
            Kind::Layout => self.layouts.keys().cloned().collect(),
        }
    }

    /// Whether somebody paused a model.
    pub fn is_paused(&self, model: &str) -> bool {
        self.controls.get(model).is_some_and(|control| control.paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn tenant(name: &str, weight: u32) -> Vec<u8> {
        serde_json::json!({ "apiVersion": "millrace/v1", "kind": "tenant", "name": name, "weight": weight })
            .to_string()
            .into_bytes()
    }

    proptest! {
        /// Reading a compacted topic gives what reading all of it gives.
        #[test]
        fn compaction_changes_nothing(records in prop::collection::vec((0u8..4, prop::option::of(1u32..9), any::<bool>()), 0..60)) {
            let mut whole = Resources::default();
            let mut last: HashMap<Vec<u8>, (usize, Option<Vec<u8>>)> = HashMap::new();
            for (position, (name, weight, control)) in records.into_iter().enumerate() {
                let name = format!("t{name}");
                let (key, value) = if control {
                    (RecordKey::new(Kind::ModelControl, format!("{name}/m")), weight.map(|w| format!("{{\"paused\":{}}}", w % 2 == 0).into_bytes()))
                } else {
                    (RecordKey::new(Kind::Tenant, &name), weight.map(|w| tenant(&name, w)))
                };
                whole.apply(&key.to_bytes(), value.as_deref()).unwrap();
                last.insert(key.to_bytes(), (position, value));
            }
            let mut left: Vec<_> = last.into_iter().collect();
            left.sort_by_key(|(_, (position, _))| *position);
            let mut compacted = Resources::default();
            for (key, (_, value)) in left { compacted.apply(&key, value.as_deref()).unwrap(); }
            prop_assert_eq!(compacted, whole);
        }

        #[test]
        fn any_bytes_leave_the_rest_as_it_was(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut resources = Resources::default();
            resources.apply(&RecordKey::new(Kind::Tenant, "a").to_bytes(), Some(&tenant("a", 2))).unwrap();
            let before = resources.tenants.clone();
            if resources.apply(&key, Some(&value)).is_err() {
                prop_assert_eq!(resources.tenants, before);
                prop_assert_eq!(resources.unreadable.len(), 1);
            }
        }
    }

    #[test]
    fn a_document_under_another_key_is_not_taken() {
        let mut resources = Resources::default();
        let error = resources
            .apply(&RecordKey::new(Kind::Tenant, "b").to_bytes(), Some(&tenant("a", 1)))
            .unwrap_err();
        assert!(error.contains("differ"), "{error}");
        assert!(resources.tenants.is_empty());
    }
}
