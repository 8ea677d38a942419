//! The plugins of a worker, and how their classes are named (contract 1.9): by fully qualified class, by simple class
//! name, or by the simple name without the word of its kind. A name that fits several classes fits none.

use connect_api::{
    ConnectorKind, ConnectorPlugin, ConverterPlugin, HeaderConverterPlugin, PredicatePlugin, TransformationPlugin,
    WorkerExtension,
};
use std::sync::Arc;

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
            converters: crate::converters::plugins(),
            header_converters: crate::converters::header_plugins(),
            transformations: crate::transforms::plugins(),
            predicates: crate::transforms::predicates(),
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
    let available: Vec<&str> = plugins.connectors.iter().map(|plugin| plugin.class()).collect();
    format!(
        "Failed to find any class that implements Connector and which name matches {name}, available connectors are: {}",
        available.join(", ")
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
