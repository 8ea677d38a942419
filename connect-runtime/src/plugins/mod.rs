//! The plugins of a worker, and how their classes are named (contract 1.9): by fully qualified class, by simple class
//! name, or by the simple name without the word of its kind. A name that fits several classes fits none.
//!
//! ```text
//!   known.rs    classes of the Java world that are not built in
//!   missing.rs  what is said of a class that cannot be used
//!   version.rs  versions that a configuration asks for
//! ```

mod converter_definition;
mod known;
mod missing;
pub mod version;

pub(crate) use converter_definition::{CONVERTER_TYPE, converter_definition};
pub use known::{KnownClass, all as known_classes};
pub use missing::Unusable;

use connect_api::{
    ConnectorKind, ConnectorPlugin, ConverterPlugin, HeaderConverterPlugin, PredicatePlugin, TransformationPlugin,
    WorkerExtension,
};
use std::sync::Arc;

/// What a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named after Connect's interfaces
pub enum PluginKind {
    Connector,
    Transformation,
    Predicate,
    Converter,
    HeaderConverter,
    ConfigProvider,
    RestExtension,
}

impl PluginKind {
    /// Kinds whose classes [`Plugins`] holds.
    const BUILT_IN: [PluginKind; 5] = [
        PluginKind::Connector,
        PluginKind::Transformation,
        PluginKind::Predicate,
        PluginKind::Converter,
        PluginKind::HeaderConverter,
    ];

    /// The interface, whose name is cut off for an alias.
    pub fn word(self) -> &'static str {
        match self {
            PluginKind::Connector => "Connector",
            PluginKind::Transformation => "Transformation",
            PluginKind::Predicate => "Predicate",
            PluginKind::Converter => "Converter",
            PluginKind::HeaderConverter => "HeaderConverter",
            PluginKind::ConfigProvider => "ConfigProvider",
            PluginKind::RestExtension => "ConnectRestExtension",
        }
    }

    /// What it is called in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            PluginKind::Connector => "connector",
            PluginKind::Transformation => "transformation",
            PluginKind::Predicate => "predicate",
            PluginKind::Converter => "converter",
            PluginKind::HeaderConverter => "header converter",
            PluginKind::ConfigProvider => "config provider",
            PluginKind::RestExtension => "REST extension",
        }
    }

    /// What several are called in a sentence.
    pub fn plural(self) -> &'static str {
        match self {
            PluginKind::Connector => "connectors",
            PluginKind::Transformation => "transformations",
            PluginKind::Predicate => "predicates",
            PluginKind::Converter => "converters",
            PluginKind::HeaderConverter => "header converters",
            PluginKind::ConfigProvider => "config providers",
            PluginKind::RestExtension => "REST extensions",
        }
    }
}

/// The version of every plugin that is part of the runtime.
pub const BUILT_IN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Config providers that every worker has.
pub const CONFIG_PROVIDERS: [&str; 3] = [
    "org.apache.kafka.common.config.provider.FileConfigProvider",
    "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
    "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
];

/// Every plugin that this worker has. Made once, by the binary.
#[derive(Default, Clone)]
pub struct Plugins {
    /// connector classes
    pub connectors: Vec<Arc<dyn ConnectorPlugin>>,
    /// converter classes for keys and values
    pub converters: Vec<Arc<dyn ConverterPlugin>>,
    /// header converter classes
    pub header_converters: Vec<Arc<dyn HeaderConverterPlugin>>,
    /// transformation classes
    pub transformations: Vec<Arc<dyn TransformationPlugin>>,
    /// predicate classes
    pub predicates: Vec<Arc<dyn PredicatePlugin>>,
    /// what lives beside connectors
    pub extensions: Vec<Arc<dyn WorkerExtension>>,
}

impl Plugins {
    /// The runtime's own converters, transformations and predicates; no connectors and no extensions.
    pub fn builtin() -> Self {
        Self {
            converters: formats::converters(),
            header_converters: formats::header_converters(),
            transformations: transforms::transformations(),
            predicates: transforms::predicates(),
            ..Self::default()
        }
    }

    /// The connector class called `name`.
    pub fn connector(&self, name: &str) -> Option<&Arc<dyn ConnectorPlugin>> {
        by_name(&self.connectors, name, "Connector", |plugin| plugin.class())
    }

    /// The converter class called `name`.
    pub fn converter(&self, name: &str) -> Option<&Arc<dyn ConverterPlugin>> {
        by_name(&self.converters, name, "Converter", |plugin| plugin.class())
    }

    /// The header converter class called `name`.
    pub fn header_converter(&self, name: &str) -> Option<&Arc<dyn HeaderConverterPlugin>> {
        by_name(&self.header_converters, name, "HeaderConverter", |plugin| {
            plugin.class()
        })
    }

    /// The transformation class called `name`.
    pub fn transformation(&self, name: &str) -> Option<&Arc<dyn TransformationPlugin>> {
        by_name(&self.transformations, name, "Transformation", |plugin| plugin.class())
    }

    /// The predicate class called `name`.
    pub fn predicate(&self, name: &str) -> Option<&Arc<dyn PredicatePlugin>> {
        by_name(&self.predicates, name, "Predicate", |plugin| plugin.class())
    }

    /// Full names of the classes of a kind, sorted.
    pub fn classes(&self, kind: PluginKind) -> Vec<&'static str> {
        let mut classes = match kind {
            PluginKind::Connector => self.connectors.iter().map(|plugin| plugin.class()).collect(),
            PluginKind::Transformation => self.transformations.iter().map(|plugin| plugin.class()).collect(),
            PluginKind::Predicate => self.predicates.iter().map(|plugin| plugin.class()).collect(),
            PluginKind::Converter => self.converters.iter().map(|plugin| plugin.class()).collect(),
            PluginKind::HeaderConverter => self.header_converters.iter().map(|plugin| plugin.class()).collect(),
            PluginKind::ConfigProvider => CONFIG_PROVIDERS.to_vec(),
            PluginKind::RestExtension => Vec::new(),
        };
        classes.sort_unstable();
        classes
    }

    /// The full name of the class of a kind that is called `name`.
    pub fn class_named(&self, kind: PluginKind, name: &str) -> Option<&'static str> {
        match kind {
            PluginKind::Connector => self.connector(name).map(|plugin| plugin.class()),
            PluginKind::Transformation => self.transformation(name).map(|plugin| plugin.class()),
            PluginKind::Predicate => self.predicate(name).map(|plugin| plugin.class()),
            PluginKind::Converter => self.converter(name).map(|plugin| plugin.class()),
            PluginKind::HeaderConverter => self.header_converter(name).map(|plugin| plugin.class()),
            PluginKind::ConfigProvider => {
                let known = |class: &&&str| **class == name || simple_name(class) == name;
                CONFIG_PROVIDERS.iter().find(known).copied()
            }
            PluginKind::RestExtension => None,
        }
    }

    /// Connector classes of one kind.
    pub fn connectors_of(&self, kind: ConnectorKind) -> impl Iterator<Item = &Arc<dyn ConnectorPlugin>> {
        self.connectors.iter().filter(move |plugin| plugin.kind() == kind)
    }
}

/// The class name without its package.
pub fn simple_name(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

/// The simple name, cut at the last occurrence of the word of its kind.
pub fn alias<'a>(class: &'a str, kind: &str) -> &'a str {
    let simple = simple_name(class);
    match simple.rfind(kind) {
        Some(at) if at > 0 => simple.get(..at).unwrap_or(simple),
        _ => simple,
    }
}

/// What is said of a connector class that is not there (clients look for its beginning).
pub fn unknown_connector(plugins: &Plugins, name: &str) -> String {
    let available = plugins.classes(PluginKind::Connector).join(", ");
    let hint = plugins.hint(PluginKind::Connector, name);
    format!(
        "Failed to find any class that implements Connector and which name matches {name}, available connectors are: {available}. {hint}"
    )
}

fn by_name<'a, P: ?Sized>(
    plugins: &'a [Arc<P>],
    name: &str,
    kind: &str,
    class: impl Fn(&P) -> &'static str,
) -> Option<&'a Arc<P>> {
    if let Some(plugin) = plugins.iter().find(|plugin| class(plugin) == name) {
        return Some(plugin);
    }
    let mut fitting = plugins
        .iter()
        .filter(|plugin| simple_name(class(plugin)) == name || alias(class(plugin), kind) == name);
    match (fitting.next(), fitting.next()) {
        (Some(plugin), None) => Some(plugin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_the_simple_name_without_its_kind() {
        assert_eq!(
            alias("org.apache.kafka.connect.file.FileStreamSourceConnector", "Connector"),
            "FileStreamSource"
        );
        assert_eq!(
            alias("org.apache.kafka.connect.json.JsonConverter", "Converter"),
            "Json"
        );
        assert_eq!(
            alias("org.apache.kafka.connect.transforms.Filter", "Transformation"),
            "Filter"
        );
        assert_eq!(
            alias("org.apache.kafka.connect.transforms.Cast$Value", "Transformation"),
            "Cast$Value"
        );
        assert_eq!(alias("Connector", "Connector"), "Connector");
    }
}
