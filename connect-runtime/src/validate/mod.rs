//! Validation of connector configurations: every error, by option (contract 4.5 and 4.6).
//!
//! ```text
//!   config --resolve--> framework definition + transformations, predicates --> values
//!                       checks across options, plugins, worker ------------->  errors on them
//!                       the connector's own definition and validate ------->   its values
//!                       client overrides, converters' own options --------->   theirs
//!          --redact---> whatever came from a config provider is shown as its reference
//! ```

mod checks;
pub mod enrich;
pub mod framework;
mod response;

pub use response::definition_json;

use crate::config::{ConfigProviders, WorkerConfig};
use crate::herder::{Refusal, isolated};
use crate::plugins::{Plugins, unknown_connector};
use checks::Subject;
use connect_api::config::{ConfigKey, ConfigValue, entry};
use connect_api::{ConfigMap, ConnectError};
use std::sync::Arc;
use std::time::Duration;

/// Time for a connector's own checks, which may look outside.
const CONNECTOR_DEADLINE: Duration = Duration::from_secs(60);

/// One option in an answer.
#[derive(Debug, Clone)]
pub struct ValidatedOption {
    /// its definition, if it has one
    pub definition: Option<ConfigKey>,
    /// its value and errors
    pub value: ConfigValue,
}

/// The outcome of a validation.
#[derive(Debug, Clone)]
pub struct Validation {
    /// `connector.class`
    pub name: String,
    /// groups in order of first use
    pub groups: Vec<String>,
    /// options in upstream's order
    pub options: Vec<ValidatedOption>,
}

/// Validates connector configurations of one worker.
#[derive(Clone)]
pub struct Validator {
    /// the worker's plugins
    pub plugins: Arc<Plugins>,
    /// the worker's settings
    pub worker: Arc<WorkerConfig>,
    /// the worker's config providers
    pub providers: Arc<ConfigProviders>,
}

impl Validation {
    /// Number of error messages.
    pub fn error_count(&self) -> usize {
        self.options.iter().map(|option| option.value.errors.len()).sum()
    }

    /// Refuses an invalid configuration, with every message.
    pub fn into_result(self) -> Result<(), Refusal> {
        let errors: Vec<&str> = self
            .options
            .iter()
            .flat_map(|option| option.value.errors.iter().map(String::as_str))
            .collect();
        match errors.as_slice() {
            [] => Ok(()),
            errors => Err(Refusal::BadRequest(format!(
                "Connector configuration is invalid and contains the following {} error(s):\n{}\nYou can also find the above list of errors at the endpoint `/connector-plugins/{{connectorType}}/config/validate`",
                errors.len(),
                errors.join("\n")
            ))),
        }
    }
}

impl Validator {
    /// Validates `config`.
    ///
    /// # Errors
    /// No class, an unknown class, or config providers that fail; everything else is in the outcome.
    pub async fn validate(&self, config: &ConfigMap) -> Result<Validation, Refusal> {
        // config providers belong to the worker
        let raw: ConfigMap = config
            .iter()
            .filter(|(name, _)| !name.starts_with("config.providers"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let class = enrich::text(&raw, "connector.class").map(str::trim).unwrap_or_default();
        if class.is_empty() {
            return Err(Refusal::BadRequest(
                "Connector config contains no connector type".to_owned(),
            ));
        }
        let plugin = self
            .plugins
            .connector(class)
            .ok_or_else(|| Refusal::BadRequest(unknown_connector(&self.plugins, class)))?;
        let resolved = self
            .resolve(&raw)
            .await
            .map_err(|error| Refusal::BadRequest(error.message().to_owned()))?;

        let definition = enrich::enriched(&self.plugins, plugin.kind(), &resolved);
        let mut values = definition.validate(&resolved);
        let subject = Subject {
            plugins: &self.plugins,
            worker: &self.worker,
            plugin: &**plugin,
            config: &resolved,
        };
        checks::framework(&subject, &mut values);
        let overrides = checks::overrides(&subject);
        let converters = checks::converters(&subject, &mut values);

        let own_definition = plugin.config_def();
        let mut own_values = own_definition.validate(&resolved);
        let (checked, seen, before) = (Arc::clone(plugin), resolved.clone(), own_values.clone());
        let own = isolated(
            format!("validating connector class {class}"),
            CONNECTOR_DEADLINE,
            move || async move {
                let mut values = before;
                checked.validate(&seen, &mut values).await;
                Ok(values)
            },
        );
        match own.await {
            Ok(checked) => own_values = checked,
            Err(error) => entry(&mut values, "connector.class")
                .errors
                .push(error.message().to_owned()),
        }

        let mut groups = definition.groups();
        for group in own_definition.groups() {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let known = |name: &str| {
            definition.key(name).is_some()
                || own_definition.key(name).is_some()
                || ["producer.override.", "consumer.override.", "admin.override."]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                || converters.iter().any(|(definition, _)| definition.key(name).is_some())
        };
        let mut options: Vec<ValidatedOption> = checks::nulls(&raw, known)
            .into_iter()
            .map(|value| ValidatedOption {
                definition: None,
                value,
            })
            .collect();
        let mut defined = |definition: &connect_api::ConfigDef, values: Vec<ConfigValue>| {
            for value in values {
                match options.iter_mut().find(|option| option.value.name == value.name) {
                    Some(option) => option.value.errors.extend(value.errors),
                    None => options.push(ValidatedOption {
                        definition: definition.key(&value.name).cloned(),
                        value,
                    }),
                }
            }
        };
        defined(&definition, values);
        defined(&own_definition, own_values);
        defined(&connect_api::ConfigDef::new(), overrides);
        for (definition, values) in converters {
            defined(&definition, values);
        }
        for option in &mut options {
            redact(&raw, &resolved, &mut option.value);
        }
        Ok(Validation {
            name: class.to_owned(),
            groups,
            options,
        })
    }

    async fn resolve(&self, config: &ConfigMap) -> Result<ConfigMap, ConnectError> {
        let (providers, config) = (Arc::clone(&self.providers), config.clone());
        match tokio::task::spawn_blocking(move || providers.resolve(&config)).await {
            Ok(resolved) => resolved,
            Err(error) => Err(ConnectError::fatal("config providers failed").caused_by(error)),
        }
    }
}

/// What a config provider gave is not shown: neither as a value, nor in an error, nor in values to offer.
fn redact(raw: &ConfigMap, resolved: &ConfigMap, value: &mut ConfigValue) {
    let (given, meant) = (raw.get(&value.name), resolved.get(&value.name));
    if given == meant {
        return;
    }
    value.value = given.cloned().flatten();
    value.recommended_values.clear();
    if !value.errors.is_empty() {
        value.errors = vec![format!(
            "Invalid value for configuration '{}': the value resolved from the config provider reference failed validation",
            value.name
        )];
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
