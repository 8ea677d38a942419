//! Resources as users write them: tenants, stores, feature views and models.
//!
//! ```text
//! JSON or YAML text -> document -> Fields (typed reads, every error with its path) -> Resource
//! ```
//!
//! A document is read once and completely: every wrong, missing, unknown or not yet supported field is one
//! [`FieldError`], so that a user sees all of them at once.

mod feature_view;
mod fields;
mod model;
mod quantity;
mod store;
mod tenant;

use serde::Serialize;
use serde_json::Value;

pub use feature_view::{AggregateSpec, Default, Feature, FeatureDefinition, FeatureView, Function, TimeUnit};
pub use model::{Breaker, Emit, Model, Output, Subscription, Trigger};
pub use quantity::{ByteSize, TimeSpan};
pub use store::{Gate, GlobalSource, KEY_SEPARATOR, KeyFormat, KeyedBy, Since, Store, StoreKind, Ttl};
pub use tenant::{Access, CpuLimit, FeatureLogLimits, OverLimit, Rate, Tenant, TenantOutputs};

use fields::Fields;

/// The only `apiVersion` that is understood.
pub const API_VERSION: &str = "millrace/v1";

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field as the user wrote it, e.g. `features.spend_7d.aggregate.window`; empty for the document.
    pub field: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl FieldError {
    /// An error of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldError {
        FieldError {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// A resource of any kind. Serialises to the document form, with `apiVersion` and `kind`, defaults filled in.
// There are few of them and they are not moved about, so a box would only be in the way.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// `kind: tenant`
    Tenant(Tenant),
    /// `kind: store`
    Store(Store),
    /// `kind: feature_view`
    FeatureView(FeatureView),
    /// `kind: model`
    Model(Model),
}

impl Resource {
    /// The `kind` as written in documents.
    pub fn kind(&self) -> &'static str {
        match self {
            Resource::Tenant(_) => "tenant",
            Resource::Store(_) => "store",
            Resource::FeatureView(_) => "feature_view",
            Resource::Model(_) => "model",
        }
    }

    /// What identifies the resource among those of its kind: its name, for a model `tenant/name`.
    pub fn identity(&self) -> String {
        match self {
            Resource::Tenant(tenant) => tenant.name.clone(),
            Resource::Store(store) => store.name.clone(),
            Resource::FeatureView(view) => view.name.clone(),
            Resource::Model(model) => model.identity(),
        }
    }

    /// The document of this resource; [`parse_document`] of it gives an equal resource.
    pub fn document(&self) -> Value {
        let body = match self {
            Resource::Tenant(tenant) => serde_json::to_value(tenant),
            Resource::Store(store) => serde_json::to_value(store),
            Resource::FeatureView(view) => serde_json::to_value(view),
            Resource::Model(model) => serde_json::to_value(model),
        };
        let mut document = serde_json::Map::new();
        document.insert("apiVersion".into(), API_VERSION.into());
        document.insert("kind".into(), self.kind().into());
        if let Ok(Value::Object(fields)) = body {
            document.extend(fields);
        }
        Value::Object(document)
    }
}

/// Reads one document, JSON or YAML.
///
/// # Errors
/// Every error of the document.
pub fn parse(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<Resource, Vec<FieldError>> {
    parse_document(&document_of(utf8(text.as_ref())?)?)
}

/// Reads a file that may hold several YAML documents separated by `---`, or one JSON document. Errors are those of the
/// first wrong document, its number (from 1) in front of the field when there are several.
///
/// # Errors
/// Every error of the first document that has one.
pub fn parse_all(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<Resource>, Vec<FieldError>> {
    use serde::Deserialize;
    let text = utf8(text.as_ref())?;
    let mut resources = Vec::new();
    if text.trim_start().starts_with('{') {
        return Ok(vec![parse(text)?]);
    }
    for (index, deserializer) in serde_norway::Deserializer::from_str(text).enumerate() {
        let document = Value::deserialize(deserializer).map_err(|error| {
            vec![FieldError::new(
                "",
                format!("document {}: not valid YAML: {error}", index + 1),
            )]
        })?;
        if document.is_null() {
            continue;
        }
        resources.push(parse_document(&document).map_err(|errors| {
            let locate = |e: FieldError| FieldError::new(e.field, format!("document {}: {}", index + 1, e.message));
            errors.into_iter().map(locate).collect::<Vec<_>>()
        })?);
    }
    Ok(resources)
}

/// Reads a document that is parsed already (a REST body, a registry record).
///
/// # Errors
/// Every error of the document.
pub fn parse_document(document: &Value) -> Result<Resource, Vec<FieldError>> {
    Fields::read_document(document, |fields| {
        let version = fields.text("apiVersion");
        if let Some(version) = version.filter(|version| version != API_VERSION) {
            fields.error("apiVersion", format!("`{version}` is not known; use {API_VERSION}"));
        }
        let kind = fields.required_text("kind");
        let Some(kind) = kind else {
            fields.ignore_unknown();
            return None;
        };
        Some(match kind.as_str() {
            "tenant" => Resource::Tenant(Tenant::read(fields)),
            "store" => Resource::Store(Store::read(fields)),
            "feature_view" => Resource::FeatureView(FeatureView::read(fields)),
            "model" => Resource::Model(Model::read(fields)),
            other => {
                fields.error(
                    "kind",
                    format!("`{other}` is not known; use tenant, store, feature_view or model"),
                );
                fields.ignore_unknown();
                return None;
            }
        })
    })
}

fn utf8(text: &[u8]) -> Result<&str, Vec<FieldError>> {
    let error = |error| vec![FieldError::new("", format!("not valid UTF-8: {error}"))];
    std::str::from_utf8(text).map_err(error)
}

fn document_of(text: &str) -> Result<Value, Vec<FieldError>> {
    let error = |message| vec![FieldError::new("", message)];
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| error(format!("not valid JSON: {e}")))
    } else {
        serde_norway::from_str(text).map_err(|e| error(format!("not valid YAML: {e}")))
    }
}

/// Whether a resource may be named so: 1 to 63 of `a-z`, `0-9`, `_` and `-`.
pub fn is_resource_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}
