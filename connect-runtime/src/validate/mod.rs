//! Validation of connector configurations: every error, by option (contract 4.5 and 4.6).
//!
//! ```text
//!   config --resolve--> framework definition + transformations, predicates --> values
//!                       checks across options, plugins, worker ------------->  errors on them
//!                       the connector's own definition and validate ------->   its values
//!                       client overrides, converters' own options --------->   theirs
//!                       what nobody reads --------------------------------->   an error, or a warning
//!          --redact---> whatever came from a config provider is shown as its reference
//! ```

mod checks;
pub mod enrich;
pub mod framework;
mod response;
mod unread;

pub use response::definition_json;

use crate::config::{ConfigProviders, WorkerConfig};
use crate::herder::{Refusal, isolated};
use crate::plugins::{Plugins, unknown_connector};
use checks::Subject;
use connect_api::config::{ConfigKey, ConfigValue, UnreadOption, entry};
use connect_api::{ConfigDef, ConfigMap, ConnectError, ConnectorPlugin};
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
    /// options that nobody reads, and that are no error
    pub unread: Vec<UnreadOption>,
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

    /// Refuses an invalid configuration, with every message. Of a valid one: the options that nobody reads.
    pub fn into_result(self) -> Result<Vec<UnreadOption>, Refusal> {
        let errors: Vec<&str> = self
            .options
            .iter()
            .flat_map(|option| option.value.errors.iter().map(String::as_str))
            .collect();
        match errors.as_slice() {
            [] => Ok(self.unread),
            errors => Err(refusal(errors)),
        }
    }
}

/// The refusal of a configuration with these errors.
pub(crate) fn refusal(errors: &[&str]) -> Refusal {
    Refusal::BadRequest(format!(
        "Connector configuration is invalid and contains the following {} error(s):\n{}\nYou can also find the above list of errors at the endpoint `/connector-plugins/{{connectorType}}/config/validate`",
        errors.len(),
        errors.join("\n")
    ))
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
        let Some(given) = enrich::text(&raw, "connector.class") else {
            return Err(Refusal::BadRequest(
                "Connector config contains no connector type".to_owned(),
            ));
        };
        let class = given.trim();
        let plugin = self
            .plugins
            .connector(class)
            .ok_or_else(|| Refusal::BadRequest(unknown_connector(&self.plugins, class)))?;
        let resolved = self.resolve(&raw).await.map_err(Refusal::Provider)?;
        let subject = Subject {
            plugins: &self.plugins,
            worker: &self.worker,
            plugin: &**plugin,
            config: &resolved,
        };
        let mut outcome = match self.missing_version(&subject) {
            Some(outcome) => outcome,
            None => self.outcome(&subject, plugin, config, &raw).await,
        };
        for option in &mut outcome.options {
            redact(&raw, &resolved, &mut option.value);
        }
        Ok(Validation {
            name: class.to_owned(),
            ..outcome
        })
    }

    /// The outcome where the connector's class is there, but not in the version that is asked for: nothing else can be
    /// said.
    fn missing_version(&self, subject: &Subject<'_>) -> Option<Validation> {
        const OPTION: &str = "connector.plugin.version";
        let (class, installed) = (subject.plugin.class(), subject.plugin.version());
        let missing = checks::missing_version(subject.config, OPTION, class, installed)?;
        let definition = enrich::with_version(framework::shared(), subject.plugin);
        let mut values = definition.validate(subject.config);
        for converter in ["key.converter", "value.converter", "header.converter"] {
            entry(&mut values, &format!("{converter}.plugin.version")).visible = false;
        }
        entry(&mut values, "connector.class").errors.push(missing.clone());
        entry(&mut values, OPTION).errors.push(missing);
        let mut options = Options::default();
        options.add(&definition, values);
        Some(Validation {
            name: String::new(),
            groups: definition.groups(),
            options: options.0,
            unread: Vec::new(),
        })
    }

    async fn outcome(
        &self,
        subject: &Subject<'_>,
        plugin: &Arc<dyn ConnectorPlugin>,
        config: &ConfigMap,
        raw: &ConfigMap,
    ) -> Validation {
        let resolved = subject.config;
        let definition = enrich::enriched(&self.plugins, &self.worker, &**plugin, resolved);
        let mut values = definition.validate(resolved);
        checks::framework(subject, &mut values);
        let overrides = checks::overrides(subject);
        let converters = checks::converters(subject, &mut values);
        let own_definition = plugin.config_def();
        let own_values = match own_values(plugin, &own_definition, resolved).await {
            Ok(own_values) => own_values,
            Err((before, error)) => {
                entry(&mut values, "connector.class")
                    .errors
                    .push(error.message().to_owned());
                before
            }
        };
        let mut framework = definition.clone();
        for (converter, _) in &converters {
            framework = framework.embed("", None, converter.clone());
        }
        let mut groups = definition.groups();
        let further = own_definition.groups().into_iter().chain(framework.groups());
        for group in further {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let unread = unread::options(config, plugin.kind(), &framework, &own_definition);

        let mut options = Options::default();
        options.refuse(unread.iter().filter(|option| option.refused));
        options.add(&definition, values);
        options.add(&own_definition, own_values);
        options.add(&ConfigDef::new(), overrides);
        for (definition, values) in converters {
            options.add(&definition, values);
        }
        let own_null = |name: &str| own_definition.key(name).is_some();
        options.refuse_nulls(raw.iter().filter(|(name, value)| value.is_none() && !own_null(name)));
        Validation {
            name: String::new(),
            groups,
            options: options.0,
            unread: unread.into_iter().filter(|option| !option.refused).collect(),
        }
    }

    async fn resolve(&self, config: &ConfigMap) -> Result<ConfigMap, ConnectError> {
        let (providers, config) = (Arc::clone(&self.providers), config.clone());
        match tokio::task::spawn_blocking(move || providers.resolve(&config)).await {
            Ok(resolved) => resolved,
            Err(error) => Err(ConnectError::fatal("config providers failed").caused_by(error)),
        }
    }
}

/// The outcome of the connector's own options; without that of its own check where that fails.
async fn own_values(
    plugin: &Arc<dyn ConnectorPlugin>,
    definition: &ConfigDef,
    config: &ConfigMap,
) -> Result<Vec<ConfigValue>, (Vec<ConfigValue>, ConnectError)> {
    let before = definition.validate(config);
    let (checked, seen, values) = (Arc::clone(plugin), config.clone(), before.clone());
    let own = isolated(
        format!("validating connector class {}", plugin.class()),
        CONNECTOR_DEADLINE,
        move || async move {
            let mut values = values;
            checked.validate(&seen, &mut values).await;
            Ok(values)
        },
    );
    own.await.map_err(|error| (before, error))
}

/// The options of an answer, in order.
#[derive(Default)]
struct Options(Vec<ValidatedOption>);

impl Options {
    /// Adds options with their definitions. What is there already gets the errors.
    fn add(&mut self, definition: &ConfigDef, values: Vec<ConfigValue>) {
        for value in values {
            match self.0.iter_mut().find(|option| option.value.name == value.name) {
                Some(option) => option.value.errors.extend(value.errors),
                None => self.0.push(ValidatedOption {
                    definition: definition.key(&value.name).cloned(),
                    value,
                }),
            }
        }
    }

    /// Adds options that were or nearly are options, with what to write instead. Their values are not shown: one may be a
    /// misspelt password.
    fn refuse<'a>(&mut self, unread: impl Iterator<Item = &'a UnreadOption>) {
        for option in unread {
            let mut value = ConfigValue::new(&option.name, None);
            value.errors.push(option.message.clone());
            self.0.push(ValidatedOption {
                definition: None,
                value,
            });
        }
    }

    /// Adds the error of an option that is given as null where the connector does not say what that means. One that nobody
    /// defines goes in front.
    fn refuse_nulls<'a>(&mut self, nulls: impl Iterator<Item = (&'a String, &'a Option<String>)>) {
        let mut unknown = Vec::new();
        for (name, _) in nulls {
            const NULL: &str = "Null value can not be supplied as the configuration value.";
            match self.0.iter_mut().find(|option| option.value.name == *name) {
                Some(option) => option.value.errors.push(NULL.to_owned()),
                None => {
                    let mut value = ConfigValue::new(name, None);
                    value.errors.push(NULL.to_owned());
                    unknown.push(ValidatedOption {
                        definition: None,
                        value,
                    });
                }
            }
        }
        unknown.append(&mut self.0);
        self.0 = unknown;
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
