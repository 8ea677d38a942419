//! A feature view compiled for what its models want.
//!
//! ```text
//! view + wanted -> dependencies (cycles, depth of aggregates) -> compiler (names, types, each computation once)
//!     -> FeaturePlan: one straight list of steps over registers, aggregate groups, lookups
//! ```

mod compiler;
mod dependencies;
mod fingerprint;
mod group;
mod program;

use std::collections::{BTreeMap, HashMap, HashSet};

use indexmap::IndexMap;

use crate::resource::{Feature, FeatureDefinition, FeatureView, FieldError, Store};
use crate::slot::Register;

pub use group::AggregateGroup;
pub(crate) use group::{Output, encode_key_part};
pub(crate) use program::{Action, Program, Step};

/// The stores that there are, by name.
pub trait StoreCatalog {
    /// The store of this name.
    fn store(&self, name: &str) -> Option<&Store>;
}

impl<S: std::hash::BuildHasher> StoreCatalog for HashMap<String, Store, S> {
    fn store(&self, name: &str) -> Option<&Store> {
        self.get(name)
    }
}

impl StoreCatalog for BTreeMap<String, Store> {
    fn store(&self, name: &str) -> Option<&Store> {
        self.get(name)
    }
}

impl<S: std::hash::BuildHasher> StoreCatalog for IndexMap<String, Store, S> {
    fn store(&self, name: &str) -> Option<&Store> {
        self.get(name)
    }
}

/// What a plan must compute: the features of models' inputs, and the expressions of output keys, filters, event types
/// and windows.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    inputs: Vec<String>,
    shown: Vec<String>,
    expressions: Vec<WantedExpression>,
}

#[derive(Clone, Debug)]
struct WantedExpression {
    field: String,
    text: String,
    filter: bool,
}

impl Wanted {
    /// Nothing.
    pub fn new() -> Wanted {
        Wanted::default()
    }

    /// Everything that a view declares, so that its compilation shows everything that is wrong with it.
    pub fn everything(view: &FeatureView) -> Wanted {
        Wanted {
            shown: view.features.keys().cloned().collect(),
            ..Wanted::default()
        }
    }

    /// All of a view's state: its aggregates, whether or not anybody reads them. What a row of aggregates holds and how long
    /// it lives then follows from the view alone, and not from who reads it.
    pub fn state(mut self, view: &FeatureView) -> Wanted {
        let is_aggregate = |feature: &Feature| matches!(feature.definition, FeatureDefinition::Aggregate(_));
        let aggregates = view.features.iter().filter(|(_, feature)| is_aggregate(feature));
        self.shown.extend(aggregates.map(|(name, _)| name.clone()));
        self
    }

    /// A column of a model's input; it must be numeric.
    pub fn input(mut self, feature: impl Into<String>) -> Wanted {
        self.inputs.push(feature.into());
        self
    }

    /// Columns of a model's input; they must be numeric.
    pub fn inputs(mut self, features: impl IntoIterator<Item = impl Into<String>>) -> Wanted {
        self.inputs.extend(features.into_iter().map(Into::into));
        self
    }

    /// An expression that gives a value, such as `output.key`. `field` is where its errors are reported.
    pub fn expression(mut self, field: impl Into<String>, text: impl Into<String>) -> Wanted {
        self.expressions.push(WantedExpression {
            field: field.into(),
            text: text.into(),
            filter: false,
        });
        self
    }

    /// An expression that gives true or false. `field` is where its errors are reported.
    pub fn filter(mut self, field: impl Into<String>, text: impl Into<String>) -> Wanted {
        self.expressions.push(WantedExpression {
            field: field.into(),
            text: text.into(),
            filter: true,
        });
        self
    }
}

/// A feature of a plan, for reading its value after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureSlot {
    /// What expressions see, and what is shown.
    pub(crate) register: Register,
    /// What a model's input takes.
    pub(crate) input: Register,
    /// A constant: what stands for what is missing.
    pub(crate) default: Register,
    pub(crate) index: u32,
    /// Whether an expression or an aggregate has made it a double.
    pub(crate) is_double: bool,
}

/// A wanted expression of a plan, for reading its value after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpressionId(pub(crate) u32);

/// A compiled view: immutable, shared by the evaluators of all threads.
#[derive(Debug)]
pub struct FeaturePlan {
    pub(crate) program: Program,
    pub(crate) features: IndexMap<String, FeatureSlot>,
    pub(crate) expressions: IndexMap<String, Register>,
    /// Of features and expressions, each once.
    pub(crate) results: Box<[Register]>,
    pub(crate) groups: Vec<AggregateGroup>,
    pub(crate) global_stores: Vec<String>,
    /// The lookups by the number of their rows: feature, and index of the store.
    pub(crate) lookups: Vec<(String, u32)>,
    /// Features that have a default.
    pub(crate) defaults: HashSet<String>,
    pub(crate) event_time: Option<String>,
}

impl FeaturePlan {
    /// Compiles a view. Only what `wanted` needs is in the plan.
    ///
    /// # Errors
    /// Everything that is wrong: unknown names, cycles, types, stores, partitioning; by the view's fields, or the fields
    /// given with the wanted expressions.
    pub fn compile(
        view: &FeatureView,
        wanted: &Wanted,
        catalog: &dyn StoreCatalog,
    ) -> Result<FeaturePlan, Vec<FieldError>> {
        compiler::compile(view, wanted, catalog)
    }

    /// The groups of aggregates; [`crate::AggregateStore`] names them by their index here.
    pub fn groups(&self) -> &[AggregateGroup] {
        &self.groups
    }

    /// Names of the global stores; [`crate::GlobalLookup`] names them by their index here.
    pub fn global_stores(&self) -> &[String] {
        &self.global_stores
    }

    /// Whether headers of the event are needed.
    pub fn reads_headers(&self) -> bool {
        !self.program.headers.is_empty()
    }

    /// Whether a feature that is missing has a default.
    pub fn has_default(&self, feature: &str) -> bool {
        self.defaults.contains(feature)
    }

    /// The features that look a row up, with the names of their stores.
    pub fn lookups(&self) -> impl Iterator<Item = (&str, &str)> {
        let store = |index: u32| self.global_stores.get(index as usize).map_or("", String::as_str);
        self.lookups
            .iter()
            .map(move |(feature, index)| (feature.as_str(), store(*index)))
    }

    /// The feature of this name, if the plan computes it: as a column of an input, where it is one. A lookup has no value and
    /// so no slot.
    pub fn slot(&self, feature: &str) -> Option<FeatureSlot> {
        self.features.get(feature).copied()
    }

    /// The features that the plan computes, in the order of [`crate::Evaluator::missing_counts`].
    pub fn features(&self) -> impl Iterator<Item = (&str, FeatureSlot)> {
        self.features.iter().map(|(name, slot)| (name.as_str(), *slot))
    }

    /// The wanted expression of this text.
    pub fn expression(&self, text: &str) -> Option<ExpressionId> {
        self.expressions
            .get_index_of(text)
            .map(|index| ExpressionId(index as u32))
    }
}
