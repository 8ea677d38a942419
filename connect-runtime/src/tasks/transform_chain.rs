//! A connector's transforms in the order of their aliases, each behind its predicate.

use crate::errors::{ErrorHandler, FailedRecord, Handled};
use crate::plugins::{PluginKind, Plugins};
use connect_api::config::{ConfigMap, with_prefix};
use connect_api::transform::Record;
use connect_api::{ConnectError, Predicate, Stage, Transformation};
use std::sync::Arc;

/// One transform of a chain.
struct Step {
    class: &'static str,
    predicate: Option<Arc<dyn Predicate>>,
    negate: bool,
    transformation: Arc<dyn Transformation>,
}

/// A connector's transforms.
pub(crate) struct TransformChain {
    steps: Vec<Step>,
}

fn text<'a>(config: &'a ConfigMap, name: &str) -> Option<&'a str> {
    config
        .get(name)
        .and_then(Option::as_deref)
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

impl TransformChain {
    /// Builds the transforms of `config` (the connector's).
    ///
    /// # Errors
    /// An alias without a class, an unknown class or predicate, or a transform's own option, by name.
    pub(crate) fn new(plugins: &Plugins, config: &ConfigMap) -> Result<Self, ConnectError> {
        let mut steps = Vec::new();
        let aliases = text(config, "transforms").unwrap_or_default();
        for alias in aliases.split(',').map(str::trim).filter(|alias| !alias.is_empty()) {
            let prefix = format!("transforms.{alias}.");
            let type_name = format!("{prefix}type");
            let class = class(config, &type_name)?;
            let plugin = plugins
                .transformation(class)
                .ok_or_else(|| not_found(plugins, PluginKind::Transformation, &type_name, class))?;
            let predicate = match text(config, &format!("{prefix}predicate")) {
                Some(name) => Some(predicate(plugins, config, name)?),
                None => None,
            };
            let negate = text(config, &format!("{prefix}negate")).is_some_and(|text| text.eq_ignore_ascii_case("true"));
            let mut options = with_prefix(config, &prefix);
            for framework_option in ["type", "predicate", "negate", "plugin.version"] {
                options.shift_remove(framework_option);
            }
            steps.push(Step {
                class: plugin.class(),
                predicate,
                negate,
                transformation: plugin.configure(&options)?,
            });
        }
        Ok(Self { steps })
    }

    /// Whether records pass unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs `record` through the chain; `None` where a transform dropped it. `Handled::Skipped` where one failed and the
    /// connector tolerates it.
    pub(crate) async fn apply<R: FailedRecord>(
        &self,
        errors: &ErrorHandler,
        original: &R,
        mut record: Record,
    ) -> Result<Handled<Option<Record>>, ConnectError> {
        for step in &self.steps {
            let operation = || step.apply(record.clone());
            match errors
                .run(Stage::Transformation, step.class, original, operation)
                .await?
            {
                Handled::Done(Some(changed)) => record = changed,
                Handled::Done(None) => return Ok(Handled::Done(None)),
                Handled::Skipped => return Ok(Handled::Skipped),
            }
        }
        Ok(Handled::Done(Some(record)))
    }
}

impl Step {
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError> {
        if let Some(predicate) = &self.predicate
            && predicate.test(&record)? == self.negate
        {
            return Ok(Some(record));
        }
        self.transformation.apply(record)
    }
}

fn predicate(plugins: &Plugins, config: &ConfigMap, name: &str) -> Result<Arc<dyn Predicate>, ConnectError> {
    let prefix = format!("predicates.{name}.");
    let type_name = format!("{prefix}type");
    let class = class(config, &type_name)?;
    let plugin = plugins
        .predicate(class)
        .ok_or_else(|| not_found(plugins, PluginKind::Predicate, &type_name, class))?;
    let mut options = with_prefix(config, &prefix);
    options.shift_remove("type");
    options.shift_remove("plugin.version");
    plugin.configure(&options)
}

/// The class that an option must name.
fn class<'a>(config: &'a ConfigMap, option: &str) -> Result<&'a str, ConnectError> {
    text(config, option).ok_or_else(|| {
        ConnectError::config(format!(
            "Missing required configuration \"{option}\" which has no default value."
        ))
    })
}

fn not_found(plugins: &Plugins, kind: PluginKind, option: &str, class: &str) -> ConnectError {
    ConnectError::config(plugins.unusable(kind, class).message(option, class))
}
