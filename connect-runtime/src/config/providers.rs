//! Config providers: references such as `${file:/run/secrets/db.properties:password}` in place of values (contract 6.3).
//!
//! A reference to an unknown provider, and a key or path that is not there or not allowed, stays as text. Values are not
//! looked at again.

use super::properties::parse_utf8;
use crate::plugins::{PluginKind, Plugins, simple_name};
use connect_api::config::regex_validator;
use connect_api::config::{ConfigKey, ConfigType, Importance, with_prefix};
use connect_api::java_regex::JavaRegex;
use connect_api::{ConfigDef, ConfigMap, ConnectError};
use indexmap::IndexMap;
use regex::{Captures, Regex};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

#[allow(clippy::expect_used)] // a constant expression, used by every test
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}").expect("the expression is valid"));

/// The parameters of a config provider, below `config.providers.NAME.param.`; none for a class that is not there.
pub fn parameters(class: &str) -> ConfigDef {
    let key = |name: &str, config_type| {
        ConfigKey::new(name, config_type)
            .default_null()
            .importance(Importance::Medium)
    };
    match simple_name(class) {
        "FileConfigProvider" | "DirectoryConfigProvider" => ConfigDef::new().define(
            key("allowed.paths", ConfigType::List)
                .doc("Absolute paths of directories and files that may be read; not set: all. They must be there when the worker starts."),
        ),
        "EnvVarConfigProvider" => ConfigDef::new().define(
            key("allowlist.pattern", ConfigType::String)
                .validator(regex_validator())
                .doc("Java regular expression of the variables that may be read; not set: all."),
        ),
        _ => ConfigDef::new(),
    }
}

/// The config providers of a worker, by name.
#[derive(Debug, Default)]
pub struct ConfigProviders {
    providers: IndexMap<String, Provider>,
}

#[derive(Debug)]
enum Provider {
    /// a properties file: path, key
    File(AllowedPaths),
    /// a directory with one file per key
    Directory(AllowedPaths),
    /// environment variables that may be read
    Environment(HashMap<String, String>),
}

impl ConfigProviders {
    /// The providers that `config.providers` names, from `config.providers.NAME.class` and `config.providers.NAME.param.*`.
    /// `environment` is what EnvVarConfigProvider reads.
    ///
    /// # Errors
    /// An unknown class, or a parameter that is wrong, by the option's name.
    pub fn configure(
        properties: &ConfigMap,
        environment: impl Iterator<Item = (String, String)> + Clone,
    ) -> Result<Self, ConnectError> {
        let mut providers = IndexMap::new();
        let names = properties
            .get("config.providers")
            .and_then(Option::as_deref)
            .unwrap_or_default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let prefix = format!("config.providers.{name}.");
            let options = with_prefix(properties, &prefix);
            let class = options.get("class").and_then(Option::as_deref).unwrap_or_default();
            let parameters = with_prefix(&options, "param.");
            for unread in self::parameters(class).unread(&parameters) {
                let message = format!(
                    "{} (config provider {name}, {prefix}param.{})",
                    unread.message, unread.name
                );
                match unread.refused {
                    true => return Err(ConnectError::config(message)),
                    false => tracing::warn!(option = %format!("{prefix}param.{}", unread.name), "{message}"),
                }
            }
            let provider = Provider::configure(class, &parameters, environment.clone()).map_err(|reason| {
                ConnectError::config(format!("{reason} (config provider {name}, {prefix}class={class})"))
            })?;
            providers.insert(name.to_owned(), provider);
        }
        Ok(Self { providers })
    }

    /// The configuration with all references resolved.
    ///
    /// # Errors
    /// A file that cannot be read, or a path where none is allowed.
    pub fn resolve(&self, config: &ConfigMap) -> Result<ConfigMap, ConnectError> {
        if self.providers.is_empty() {
            return Ok(config.clone());
        }
        let mut files = HashMap::new();
        config
            .iter()
            .map(|(name, value)| {
                let value = value
                    .as_deref()
                    .map(|text| self.resolve_text(text, &mut files))
                    .transpose()?;
                Ok((name.clone(), value))
            })
            .collect()
    }

    fn resolve_text(
        &self,
        text: &str,
        files: &mut HashMap<String, IndexMap<String, String>>,
    ) -> Result<String, ConnectError> {
        let mut failure = None;
        let resolved = REFERENCE.replace_all(text, |reference: &Captures<'_>| {
            let group = |index| reference.get(index).map_or("", |part| part.as_str());
            let looked_up = match self.providers.get(group(1)) {
                Some(provider) => provider.look_up(group(3), group(4), files),
                None => Ok(None),
            };
            match looked_up {
                Ok(Some(value)) => value,
                Ok(None) => group(0).to_owned(),
                Err(error) => {
                    failure.get_or_insert(error);
                    String::new()
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(resolved.into_owned()),
        }
    }
}

impl Provider {
    fn configure(
        class: &str,
        parameters: &ConfigMap,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let parameter = |name: &str| parameters.get(name).and_then(Option::as_deref);
        match class
            .strip_prefix("org.apache.kafka.common.config.provider.")
            .unwrap_or(class)
        {
            "FileConfigProvider" => Ok(Provider::File(AllowedPaths::parse(parameter("allowed.paths"))?)),
            "DirectoryConfigProvider" => Ok(Provider::Directory(AllowedPaths::parse(parameter("allowed.paths"))?)),
            "EnvVarConfigProvider" => {
                let allowed = parameter("allowlist.pattern")
                    .map(JavaRegex::new)
                    .transpose()
                    .map_err(|error| format!("Invalid allowlist.pattern: {error}"))?;
                let readable = |name: &str| {
                    allowed
                        .as_ref()
                        .is_none_or(|pattern| pattern.matches(name).unwrap_or(false))
                };
                Ok(Provider::Environment(
                    environment.filter(|(name, _)| readable(name)).collect(),
                ))
            }
            _ => {
                let unusable = Plugins::default().unusable(PluginKind::ConfigProvider, class);
                Err(format!("{} {}", unusable.reason, unusable.hint))
            }
        }
    }

    fn look_up(
        &self,
        path: &str,
        key: &str,
        files: &mut HashMap<String, IndexMap<String, String>>,
    ) -> Result<Option<String>, ConnectError> {
        match self {
            Provider::Environment(_) if !path.is_empty() => Err(ConnectError::config(format!(
                "Path is not supported for EnvVarConfigProvider, invalid value '{path}'"
            ))),
            Provider::Environment(variables) => Ok(variables.get(key).cloned()),
            Provider::File(_) | Provider::Directory(_) if path.is_empty() => Ok(None),
            Provider::File(allowed) => {
                let Some(file) = allowed.permit(path) else {
                    return Ok(None);
                };
                if !files.contains_key(path) {
                    let unreadable = || ConnectError::config(format!("Could not read properties from file {path}"));
                    let bytes = std::fs::read(file).map_err(|error| unreadable().caused_by(error))?;
                    let entries = parse_utf8(&bytes).map_err(|error| unreadable().caused_by(error))?;
                    files.insert(path.to_owned(), entries);
                }
                Ok(files.get(path).and_then(|entries| entries.get(key).cloned()))
            }
            Provider::Directory(allowed) => {
                let Some(directory) = allowed.permit(path) else {
                    return Ok(None);
                };
                let mut components = Path::new(key).components();
                let file = match (components.next(), components.next()) {
                    (Some(Component::Normal(name)), None) => directory.join(name),
                    _ => return Ok(None),
                };
                if !file.is_file() {
                    return Ok(None);
                }
                std::fs::read_to_string(&file).map(Some).map_err(|error| {
                    ConnectError::config(format!("Could not read file {} from {path}", file.display())).caused_by(error)
                })
            }
        }
    }
}

/// Directories and files that may be read; none given: all.
#[derive(Debug)]
struct AllowedPaths(Vec<PathBuf>);

impl AllowedPaths {
    fn parse(text: Option<&str>) -> Result<Self, String> {
        let mut paths = Vec::new();
        for entry in text
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let path = Path::new(entry);
            if !path.is_absolute() {
                return Err(format!("Path {entry} is not absolute"));
            }
            if !path.exists() {
                return Err(format!("Path {entry} does not exist"));
            }
            paths.push(normalized(path));
        }
        Ok(Self(paths))
    }

    fn permit(&self, path: &str) -> Option<PathBuf> {
        let path = normalized(Path::new(path));
        let allowed = self.0.is_empty() || self.0.iter().any(|allowed| path.starts_with(allowed));
        if !allowed {
            tracing::error!(path = %path.display(), "path is not in allowed.paths of its config provider");
        }
        allowed.then_some(path)
    }
}

/// The path without `.` and `..`, by its text alone.
fn normalized(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn strings(value: &Value) -> Vec<(String, String)> {
        let object = value.as_object().unwrap();
        object
            .iter()
            .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned()))
            .collect()
    }

    /// What the Java classes make of the same references.
    #[test]
    fn references_are_resolved_as_java_does() {
        for line in include_str!("../../tests/vectors/config-provider.jsonl").lines() {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().to_str().unwrap();
            let case: Value = serde_json::from_str(&line.replace("@DIR@", root)).unwrap();
            for (name, content) in strings(&case["files"]) {
                let path = directory.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            let mut properties = ConfigMap::new();
            let names: Vec<&str> = case["providers"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            properties.insert("config.providers".to_owned(), Some(names.join(",")));
            for name in names {
                for (option, value) in strings(&case["providers"][name]) {
                    let option = if option == "class" {
                        option
                    } else {
                        format!("param.{option}")
                    };
                    properties.insert(format!("config.providers.{name}.{option}"), Some(value));
                }
            }
            let config: ConfigMap = strings(&case["configs"])
                .into_iter()
                .map(|(name, text)| (name, Some(text)))
                .collect();
            let outcome = ConfigProviders::configure(&properties, strings(&case["env"]).into_iter())
                .and_then(|providers| providers.resolve(&config));
            match case["expect"].get("error") {
                Some(error) => {
                    let message = error["message"].as_str().unwrap();
                    assert!(outcome.unwrap_err().message().starts_with(message), "{}", case["id"]);
                }
                None => {
                    let expected: ConfigMap = strings(&case["expect"]["data"])
                        .into_iter()
                        .map(|(name, text)| (name, Some(text)))
                        .collect();
                    assert_eq!(outcome.unwrap(), expected, "{}", case["id"]);
                }
            }
        }
    }

    #[test]
    fn a_misspelt_parameter_is_refused_with_the_right_one() {
        let option = |name: &str, value: &str| (format!("config.providers.file.{name}"), Some(value.to_owned()));
        let properties = ConfigMap::from([
            ("config.providers".to_owned(), Some("file".to_owned())),
            option("class", "FileConfigProvider"),
            option("param.allowed.path", "/etc"),
        ]);
        let error = ConfigProviders::configure(&properties, std::iter::empty()).unwrap_err();
        assert!(
            error.message().contains("did you mean 'allowed.paths'?"),
            "{}",
            error.message()
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let properties = ConfigMap::from([
            ("config.providers".to_owned(), Some("file".to_owned())),
            (
                "config.providers.file.class".to_owned(),
                Some("org.apache.kafka.common.config.provider.FileConfigProvider".to_owned()),
            ),
        ]);
        let providers = ConfigProviders::configure(&properties, std::iter::empty()).unwrap();
        let config = ConfigMap::from([("k".to_owned(), Some("${file:/does/not/exist:k}".to_owned()))]);
        let error = providers.resolve(&config).unwrap_err();
        assert_eq!(error.message(), "Could not read properties from file /does/not/exist");
    }
}
