//! What is said of a class that cannot be used: it is of another kind, abstract, known but not built in, or misspelt.

use super::known::{self, KnownClass};
use super::{PluginKind, Plugins, alias, simple_name};
use connect_api::config::nearest;

/// Interfaces and base classes of Connect, which nobody can configure.
const ABSTRACT: [(&str, PluginKind); 7] = [
    ("org.apache.kafka.connect.connector.Connector", PluginKind::Connector),
    ("org.apache.kafka.connect.sink.SinkConnector", PluginKind::Connector),
    ("org.apache.kafka.connect.source.SourceConnector", PluginKind::Connector),
    (
        "org.apache.kafka.connect.transforms.Transformation",
        PluginKind::Transformation,
    ),
    (
        "org.apache.kafka.connect.transforms.predicates.Predicate",
        PluginKind::Predicate,
    ),
    ("org.apache.kafka.connect.storage.Converter", PluginKind::Converter),
    (
        "org.apache.kafka.connect.storage.HeaderConverter",
        PluginKind::HeaderConverter,
    ),
];

/// What to do about a class that is not built in.
pub(super) fn advice(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Connector => "Java classes cannot be loaded: run it on Java workers of a group of their own",
        PluginKind::ConfigProvider | PluginKind::RestExtension => "Java classes cannot be loaded: leave it out",
        _ => {
            "Java classes cannot be loaded: leave it out, or run the connector on Java workers of a group of their own"
        }
    }
}

/// A class that cannot be used where it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// the class's full name, where there is such a class
    pub class: Option<String>,
    /// why, in Java's words
    pub reason: String,
    /// what else there is to say: a sentence, or nothing
    pub hint: String,
}

impl Unusable {
    /// The message for `option`, whose value is `given`.
    pub fn message(&self, option: &str, given: &str) -> String {
        let space = if self.hint.is_empty() { "" } else { " " };
        match self.class {
            Some(_) => format!("{}{space}{}", self.reason, self.hint),
            None => format!(
                "Invalid value {given} for configuration {option}: {}{space}{}",
                self.reason, self.hint
            ),
        }
    }
}

impl Plugins {
    /// Whether `given` is a class of `kind` of another project, which this worker does not have.
    pub fn is_known_elsewhere(&self, kind: PluginKind, given: &str) -> bool {
        self.class_named(kind, given).is_none() && known_class(kind, given).is_some()
    }

    /// Why `given` is no class of `kind` that this worker has.
    pub fn unusable(&self, kind: PluginKind, given: &str) -> Unusable {
        if let Some(class) = self.of_another_kind(kind, given) {
            return Unusable {
                reason: format!("Class class {class} does not implement the {} interface", kind.word()),
                class: Some(class),
                hint: String::new(),
            };
        }
        if let Some(concrete) = self.concrete(kind, given) {
            let hint = match concrete.as_slice() {
                [] => String::new(),
                names => format!("Did you mean {}?", names.join(", ")),
            };
            return Unusable {
                class: Some(given.to_owned()),
                reason: "This class is abstract and cannot be created.".to_owned(),
                hint,
            };
        }
        Unusable {
            class: None,
            reason: format!("Class {given} could not be found."),
            hint: self.hint(kind, given),
        }
    }

    /// Sentences about a class that this worker does not have: what it is, what there is, what to do.
    pub(super) fn hint(&self, kind: PluginKind, given: &str) -> String {
        let (what, advice) = if let Some(known) = known_class(kind, given) {
            let (noun, project) = (known.kind.noun(), known.project);
            (
                format!("It is a {noun} of {project} that is not built into this worker"),
                Some(advice(kind)),
            )
        } else if let Some(nearest) = self.nearest(kind, given) {
            return format!("Did you mean {nearest}?");
        } else if let Some(project) = known::project_of(given) {
            (
                format!("This worker has no such {} of {project}", kind.noun()),
                Some(advice(kind)),
            )
        } else {
            (format!("There is no {} of that name", kind.noun()), None)
        };
        let have = match self.names(kind) {
            // the refusal of a connector lists them already
            _ if kind == PluginKind::Connector => String::new(),
            names if names.is_empty() => format!("; this worker has no {}", kind.plural()),
            names => format!("; this worker's {} are {}", kind.plural(), names.join(", ")),
        };
        match advice {
            Some(advice) => format!("{what}{have}. {advice}"),
            None => format!("{what}{have}"),
        }
    }

    /// A class that is built in, but something else than is wanted.
    fn of_another_kind(&self, kind: PluginKind, given: &str) -> Option<String> {
        let others = PluginKind::BUILT_IN.into_iter().filter(|other| *other != kind);
        let mut found = others.filter_map(|other| self.class_named(other, given));
        found.next().map(str::to_owned)
    }

    /// Classes that stand behind an abstract one; none behind an interface. `None` for a class that is not abstract.
    fn concrete(&self, kind: PluginKind, given: &str) -> Option<Vec<String>> {
        let is_interface =
            |(class, of): &(&str, PluginKind)| *of == kind && (*class == given || simple_name(class) == given);
        if ABSTRACT.iter().any(is_interface) {
            return Some(Vec::new());
        }
        let variants = [format!("{given}$Key"), format!("{given}$Value")];
        let own = self.classes(kind).into_iter().map(str::to_owned);
        let known = known::all()
            .filter(|known| known.kind == kind)
            .map(|known| known.class());
        let mut found: Vec<String> = own.chain(known).filter(|class| variants.contains(class)).collect();
        found.sort();
        (!found.is_empty()).then_some(found)
    }

    fn nearest(&self, kind: PluginKind, given: &str) -> Option<String> {
        let classes: Vec<String> = self.classes(kind).into_iter().map(str::to_owned).collect();
        let known: Vec<String> = known::all()
            .filter(|known| known.kind == kind)
            .map(|known| known.class())
            .collect();
        let all: Vec<&str> = classes.iter().chain(&known).map(String::as_str).collect();
        if given.contains('.') {
            return nearest(given, all.iter().copied()).map(str::to_owned);
        }
        let names = all
            .iter()
            .flat_map(|class| [simple_name(class), alias(class, kind.word())]);
        nearest(given, names).map(str::to_owned)
    }

    /// Simple names of the classes of a kind.
    fn names(&self, kind: PluginKind) -> Vec<&'static str> {
        self.classes(kind).into_iter().map(simple_name).collect()
    }
}

/// The class that is known by this name, in full or without its package, and is not built in.
fn known_class(kind: PluginKind, given: &str) -> Option<KnownClass> {
    let stands_for = |known: &KnownClass| match (kind, known.kind) {
        (PluginKind::HeaderConverter, PluginKind::Converter) => true,
        (wanted, kind) => wanted == kind,
    };
    let mut known = known::all().filter(stands_for);
    match given.contains('.') {
        true => known.find(|known| known.class() == given),
        false => known.find(|known| {
            let class = known.class();
            simple_name(&class) == given || alias(&class, known.kind.word()) == given
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: PluginKind, given: &str) -> String {
        Plugins::builtin().unusable(kind, given).message("o", given)
    }

    #[test]
    fn a_known_class_is_not_taken_for_a_misspelt_one() {
        for (kind, given, project) in [
            (
                PluginKind::Transformation,
                "org.apache.kafka.connect.transforms.Cast$Value",
                "transformation of Apache Kafka",
            ),
            (
                PluginKind::Transformation,
                "Cast$Value",
                "transformation of Apache Kafka",
            ),
            (
                PluginKind::Transformation,
                "io.debezium.transforms.outbox.EventRouter",
                "transformation of Debezium",
            ),
            (
                PluginKind::Converter,
                "io.confluent.connect.avro.AvroConverter",
                "converter of Confluent",
            ),
            (PluginKind::HeaderConverter, "AvroConverter", "converter of Confluent"),
            (PluginKind::Converter, "Protobuf", "converter of Confluent"),
            (
                PluginKind::ConfigProvider,
                "io.strimzi.kafka.KubernetesSecretConfigProvider",
                "config provider of Strimzi",
            ),
            (
                PluginKind::RestExtension,
                "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension",
                "REST extension of Apache Kafka",
            ),
        ] {
            let said = said(kind, given);
            let beginning =
                format!("Invalid value {given} for configuration o: Class {given} could not be found. It is a ");
            assert!(said.starts_with(&beginning), "{said}");
            assert!(
                said.contains(project) && said.contains("not built into this worker"),
                "{said}"
            );
            assert!(said.contains("Java classes cannot be loaded"), "{said}");
        }
        assert!(said(PluginKind::Transformation, "Cast$Value").contains("ReplaceField$Value"));
    }

    #[test]
    fn a_misspelt_class_gets_the_right_name() {
        for (kind, given, right) in [
            (PluginKind::Transformation, "RegexRuter", "RegexRouter"),
            (
                PluginKind::Transformation,
                "org.apache.kafka.connect.transforms.ReplaceFeild$Value",
                "org.apache.kafka.connect.transforms.ReplaceField$Value",
            ),
            (
                PluginKind::Converter,
                "org.apache.kafka.connect.json.JSONConverter",
                "org.apache.kafka.connect.json.JsonConverter",
            ),
            (PluginKind::Predicate, "RecordIsTombstones", "RecordIsTombstone"),
            (
                PluginKind::Converter,
                "io.confluent.connect.avro.AvroConvertor",
                "io.confluent.connect.avro.AvroConverter",
            ),
        ] {
            let said = said(kind, given);
            assert!(said.ends_with(&format!("Did you mean {right}?")), "{said}");
        }
        let said = said(PluginKind::Predicate, "org.example.Nothing");
        assert!(
            said.ends_with(
                "There is no predicate of that name; this worker's predicates are HasHeaderKey, RecordIsTombstone, \
                 TopicNameMatches"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_class_of_another_kind_and_an_abstract_one_are_told_in_javas_words() {
        let plugins = Plugins::builtin();
        let other = plugins.unusable(PluginKind::Transformation, "RecordIsTombstone");
        let class = "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone";
        assert_eq!(other.class.as_deref(), Some(class));
        assert_eq!(
            other.message("o", "RecordIsTombstone"),
            format!("Class class {class} does not implement the Transformation interface")
        );
        let flatten = "org.apache.kafka.connect.transforms.Flatten";
        assert_eq!(
            said(PluginKind::Transformation, flatten),
            format!("This class is abstract and cannot be created. Did you mean {flatten}$Key, {flatten}$Value?")
        );
        assert_eq!(
            said(PluginKind::Transformation, "Transformation"),
            "This class is abstract and cannot be created."
        );
    }

    #[test]
    fn a_connector_that_is_not_built_in_is_known() {
        let plugins = Plugins::builtin();
        let said = super::super::unknown_connector(&plugins, "io.debezium.connector.mysql.MySqlConnector");
        assert!(
            said.starts_with("Failed to find any class that implements Connector and which name matches io.debezium")
        );
        assert!(
            said.contains("It is a connector of Debezium that is not built into this worker. Java classes"),
            "{said}"
        );
    }
}
