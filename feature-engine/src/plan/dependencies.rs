//! What the wanted features need, in an order in which each comes after what it needs.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::fingerprint::Fingerprint;
use crate::expression::Syntax;
use crate::resource::{AggregateSpec, FeatureDefinition, FeatureView, FieldError};

/// A chain of features that need each other is followed so far.
const LONGEST_CHAIN: usize = 100;

/// A feature that is needed.
pub(super) struct Needed {
    pub name: String,
    pub parts: Parts,
    /// Number of aggregates on the longest way from the event to here, this one included.
    pub depth: u32,
    /// Identity of the definition and of all definitions below.
    pub fingerprint: u64,
}

/// A feature's parsed expressions.
pub(super) enum Parts {
    Lookup {
        store: String,
        key: Syntax,
    },
    Expression(Syntax),
    Aggregate {
        spec: AggregateSpec,
        of: Option<Syntax>,
        by: Vec<Syntax>,
    },
}

impl Parts {
    fn expressions(&self) -> Vec<&Syntax> {
        match self {
            Parts::Lookup { key, .. } => vec![key],
            Parts::Expression(syntax) => vec![syntax],
            Parts::Aggregate { of, by, .. } => of.iter().chain(by).collect(),
        }
    }
}

/// Parses and orders what `roots` need: by depth, so that a group of aggregates finds everything that its members need
/// computed, and within a depth each after what it needs. Features with errors are left out, and so is what needs them.
pub(super) fn needed(view: &FeatureView, roots: &[&str], errors: &mut Vec<FieldError>) -> Vec<Needed> {
    let mut walk = Walk {
        view,
        done: IndexMap::new(),
        path: Vec::new(),
        errors,
    };
    for root in roots {
        walk.visit(root);
    }
    let mut needed: Vec<Needed> = walk.done.into_values().flatten().collect();
    needed.sort_by_key(|feature| feature.depth);
    needed
}

struct Walk<'w> {
    view: &'w FeatureView,
    /// `None` for a feature with errors.
    done: IndexMap<String, Option<Needed>>,
    path: Vec<String>,
    errors: &'w mut Vec<FieldError>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str) {
        let Some(feature) = self.view.features.get(name) else {
            return;
        };
        if self.done.contains_key(name) {
            return;
        }
        if let Some(start) = self.path.iter().position(|on_path| on_path == name) {
            let cycle: Vec<&str> = self.path.iter().skip(start).map(String::as_str).chain([name]).collect();
            self.errors.push(FieldError::new(
                format!("features.{name}"),
                format!("depends on itself: {}", cycle.join(" -> ")),
            ));
            return;
        }
        if self.path.len() >= LONGEST_CHAIN {
            let message = format!("is at the end of a chain of more than {LONGEST_CHAIN} features");
            self.errors.push(FieldError::new(format!("features.{name}"), message));
            self.done.insert(name.to_owned(), None);
            return;
        }
        let before = self.errors.len();
        let parts = parse(name, &feature.definition, self.errors);
        self.path.push(name.to_owned());
        let uses: Vec<String> = parts
            .iter()
            .flat_map(Parts::expressions)
            .flat_map(Syntax::variables)
            .map(str::to_owned)
            .collect();
        for used in &uses {
            self.visit(used);
        }
        self.path.pop();
        let parts = parts.filter(|_| self.errors.len() == before);
        let needed = parts.map(|parts| self.describe(name, parts, &uses));
        self.done.insert(name.to_owned(), needed);
    }

    fn describe(&self, name: &str, parts: Parts, uses: &[String]) -> Needed {
        let below = || uses.iter().filter_map(|used| self.done.get(used)?.as_ref());
        let depth = below().map(|needed| needed.depth).max().unwrap_or(0);
        let fingerprints: HashMap<&str, u64> = below()
            .map(|needed| (needed.name.as_str(), needed.fingerprint))
            .collect();
        let fingerprint = match &parts {
            Parts::Lookup { store, key } => Fingerprint::new()
                .text("lookup")
                .text(store)
                .number(expression_fingerprint(key, &fingerprints)),
            Parts::Expression(syntax) => Fingerprint::new()
                .text("expression")
                .number(expression_fingerprint(syntax, &fingerprints)),
            Parts::Aggregate { spec, of, by } => of.iter().chain(by).fold(
                Fingerprint::new()
                    .text("aggregate")
                    .text(&format!("{:?}", spec.function)),
                |all, syntax| all.number(expression_fingerprint(syntax, &fingerprints)),
            ),
        };
        let depth = depth + u32::from(matches!(parts, Parts::Aggregate { .. }));
        Needed {
            name: name.to_owned(),
            parts,
            depth,
            fingerprint: fingerprint.finish(),
        }
    }
}

/// Identity of an expression and of the features that it uses.
pub(super) fn expression_fingerprint(syntax: &Syntax, features: &HashMap<&str, u64>) -> u64 {
    let used = syntax.variables().into_iter().filter_map(|name| features.get(name));
    used.fold(Fingerprint::new().text(&syntax.canonical()), |all, used| {
        all.number(*used)
    })
    .finish()
}

fn parse(name: &str, definition: &FeatureDefinition, errors: &mut Vec<FieldError>) -> Option<Parts> {
    let mut syntax = |field: String, text: &str| match Syntax::parse(text) {
        Ok(syntax) => Some(syntax),
        Err(message) => {
            errors.push(FieldError::new(format!("features.{name}.{field}"), message));
            None
        }
    };
    match definition {
        FeatureDefinition::Lookup { store, key } => Some(Parts::Lookup {
            store: store.clone(),
            key: syntax("lookup.key".to_owned(), key)?,
        }),
        FeatureDefinition::Expression(text) => Some(Parts::Expression(syntax("expression".to_owned(), text)?)),
        FeatureDefinition::Aggregate(spec) => {
            let of = spec.of.as_ref().map(|of| syntax("aggregate.of".to_owned(), of));
            let by: Vec<Option<Syntax>> = spec
                .by
                .iter()
                .enumerate()
                .map(|(index, text)| syntax(format!("aggregate.by[{index}]"), text))
                .collect();
            let of = match of {
                Some(None) => return None,
                Some(of) => of,
                None => None,
            };
            Some(Parts::Aggregate {
                spec: spec.clone(),
                of,
                by: by.into_iter().collect::<Option<_>>()?,
            })
        }
    }
}
