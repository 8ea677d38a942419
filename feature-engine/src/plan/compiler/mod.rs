//! From a view and what is wanted of it to the steps of a plan.

mod aggregates;
mod features;
mod names;

use std::collections::{BTreeSet, HashMap};
use std::mem;

use indexmap::IndexMap;

use super::dependencies::needed;
use super::{AggregateGroup, FeaturePlan, FeatureSlot, Program, StoreCatalog, Wanted, WantedExpression};
use crate::event::FieldPaths;
use crate::expression::{Lowering, Names, Operation, Syntax, ValueType};
use crate::resource::{FeatureView, FieldError};
use crate::slot::{Register, Slot};

pub(super) fn compile(
    view: &FeatureView,
    wanted: &Wanted,
    catalog: &dyn StoreCatalog,
) -> Result<FeaturePlan, Vec<FieldError>> {
    let mut compiler = Compiler::new(view, catalog);
    compiler.compile_event_time();
    compiler.compile_partitioning();
    let expressions = compiler.parse_expressions(wanted);
    let mut roots: Vec<&str> = wanted.inputs.iter().chain(&wanted.shown).map(String::as_str).collect();
    roots.extend(expressions.iter().flat_map(|(_, syntax, _)| syntax.variables()));
    let features = needed(view, &roots, &mut compiler.errors);
    compiler.fingerprints = features
        .iter()
        .map(|feature| (feature.name.clone(), feature.fingerprint))
        .collect();
    compiler.numeric = wanted.inputs.clone();
    for feature in &features {
        compiler.compile_feature(feature, &features);
    }
    compiler.check_inputs(wanted);
    for (field, syntax, wanted) in &expressions {
        compiler.compile_expression(field, syntax, wanted);
    }
    compiler.finish()
}

/// A feature that has been compiled.
#[derive(Clone, Copy)]
struct Compiled {
    register: Register,
    value_type: ValueType,
}

#[derive(PartialEq, Eq, Hash)]
enum ConstantKey {
    Missing,
    Bool(bool),
    Integer(i64),
    Number(u64),
    Large(i128),
    Text(String),
}

struct Compiler<'c> {
    view: &'c FeatureView,
    catalog: &'c dyn StoreCatalog,
    errors: Vec<FieldError>,
    program: Program,
    constants: HashMap<ConstantKey, Register>,
    computed: HashMap<Operation, Register>,
    row_fields: HashMap<(Register, String), Register>,
    /// The row of a lookup's register.
    rows: HashMap<Register, u32>,
    features: HashMap<String, Compiled>,
    slots: IndexMap<String, FeatureSlot>,
    expressions: IndexMap<String, Register>,
    groups: Vec<AggregateGroup>,
    /// Registers of aggregates whose group is compiled, before their defaults.
    aggregates: HashMap<String, Register>,
    global_stores: Vec<String>,
    lookups: Vec<(String, u32)>,
    fingerprints: HashMap<String, u64>,
    numeric: Vec<String>,
    partitioned_by: Option<String>,
    /// Whether the event time is being compiled, which no feature can be part of.
    in_event_time: bool,
}

impl<'c> Compiler<'c> {
    fn new(view: &'c FeatureView, catalog: &'c dyn StoreCatalog) -> Compiler<'c> {
        Compiler {
            view,
            catalog,
            errors: Vec::new(),
            program: Program {
                paths: FieldPaths::new(),
                ..Program::default()
            },
            constants: HashMap::new(),
            computed: HashMap::new(),
            row_fields: HashMap::new(),
            rows: HashMap::new(),
            features: HashMap::new(),
            slots: IndexMap::new(),
            expressions: IndexMap::new(),
            groups: Vec::new(),
            aggregates: HashMap::new(),
            global_stores: Vec::new(),
            lookups: Vec::new(),
            fingerprints: HashMap::new(),
            numeric: Vec::new(),
            partitioned_by: None,
            in_event_time: false,
        }
    }

    fn error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, message));
    }

    fn compile_event_time(&mut self) {
        self.program.event_time = Some(self.register(Slot::Missing));
        let Some(text) = &self.view.event_time else { return };
        self.in_event_time = true;
        if let Some((register, value_type)) = self.parse_and_lower("event_time", text) {
            if matches!(value_type, ValueType::Bool) {
                self.error(
                    "event_time",
                    "is a bool; it must be a number of epoch milliseconds, a text or a timestamp",
                );
            }
            self.program.event_time_source = Some(self.operation(Operation::ToTime(register)));
        }
        self.in_event_time = false;
        self.program.event_time_steps = self.program.steps.len();
    }

    fn compile_partitioning(&mut self) {
        let Some(text) = &self.view.partitioned_by else { return };
        match Syntax::parse(text) {
            Ok(syntax) => self.partitioned_by = Some(syntax.canonical()),
            Err(message) => self.error("partitioned_by", message),
        }
    }

    fn parse_expressions<'w>(&mut self, wanted: &'w Wanted) -> Vec<(&'w str, Syntax, &'w WantedExpression)> {
        let mut parsed = Vec::new();
        for expression in &wanted.expressions {
            match Syntax::parse(&expression.text) {
                Ok(syntax) => parsed.push((expression.field.as_str(), syntax, expression)),
                Err(message) => self.error(&expression.field, message),
            }
        }
        parsed
    }

    fn parse_and_lower(&mut self, field: &str, text: &str) -> Option<(Register, ValueType)> {
        match Syntax::parse(text) {
            Ok(syntax) => self.lower(field, &syntax),
            Err(message) => {
                self.error(field, message);
                None
            }
        }
    }

    fn lower(&mut self, field: &str, syntax: &Syntax) -> Option<(Register, ValueType)> {
        match (Lowering { names: self }).lower(syntax) {
            Ok(lowered) => Some(lowered),
            Err(message) => {
                self.error(field, message);
                None
            }
        }
    }

    /// Lowers what must be a value, not a row.
    fn lower_value(&mut self, field: &str, syntax: &Syntax) -> Option<(Register, ValueType)> {
        let (register, value_type) = self.lower(field, syntax)?;
        if value_type == ValueType::Row {
            let text = syntax.canonical();
            self.error(
                field,
                format!("`{text}` is a row; name one of its fields, such as {text}.brand"),
            );
            return None;
        }
        Some((register, value_type))
    }

    fn compile_expression(&mut self, field: &str, syntax: &Syntax, wanted: &WantedExpression) {
        let Some((register, value_type)) = self.lower_value(field, syntax) else {
            return;
        };
        if wanted.filter && !value_type.may_be(ValueType::Bool) {
            self.error(
                field,
                format!("`{}` is {value_type}; it must be true or false", wanted.text),
            );
        }
        self.expressions.insert(wanted.text.clone(), register);
    }

    fn finish(mut self) -> Result<FeaturePlan, Vec<FieldError>> {
        if !self.errors.is_empty() {
            let mut errors = Vec::with_capacity(self.errors.len());
            for error in mem::take(&mut self.errors) {
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
            return Err(errors);
        }
        self.program.path_registers = self.program.paths.registers().collect();
        let features = self.view.features.iter();
        let defaults = features.filter(|(_, feature)| feature.default.is_some());
        let features_of = self.slots.values().map(|slot| slot.register);
        let results: BTreeSet<Register> = self.expressions.values().copied().chain(features_of).collect();
        Ok(FeaturePlan {
            program: self.program,
            results: results.into_iter().collect(),
            features: self.slots,
            expressions: self.expressions,
            groups: self.groups,
            global_stores: self.global_stores,
            lookups: self.lookups,
            defaults: defaults.map(|(name, _)| name.clone()).collect(),
            event_time: self.view.event_time.clone(),
        })
    }
}
