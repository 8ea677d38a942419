//! From a view and what is wanted of it to the steps of a plan.

use std::collections::HashMap;
use std::mem;

use indexmap::IndexMap;
use regex::Regex;

use super::dependencies::{Needed, Parts, expression_fingerprint, needed};
use super::fingerprint::Fingerprint;
use super::program::RowField;
use super::{Action, AggregateGroup, FeaturePlan, FeatureSlot, Output, Program, Step, StoreCatalog, Wanted};
use crate::aggregate::{CellKind, CellPlan, CellRead};
use crate::event::FieldPaths;
use crate::expression::{Constant, Lowering, Names, Operation, Syntax, ValueType};
use crate::resource::{AggregateSpec, Default, FeatureView, FieldError, Function, Since, StoreKind, Ttl};
use crate::slot::{Register, Slot, TextRef};

/// Most aggregates of one key; a row's number of cells is one byte.
const LARGEST_GROUP: usize = 255;

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

    fn parse_expressions<'w>(&mut self, wanted: &'w Wanted) -> Vec<(&'w str, Syntax, &'w super::WantedExpression)> {
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

    fn compile_feature(&mut self, feature: &Needed, all: &[Needed]) {
        let name = &feature.name;
        let compiled = match &feature.parts {
            Parts::Lookup { store, key } => self.compile_lookup(name, store, key),
            Parts::Expression(syntax) => self
                .lower_value(&format!("features.{name}.expression"), syntax)
                .and_then(|(register, value_type)| self.with_default(name, register, value_type)),
            Parts::Aggregate { spec, by, .. } => {
                if !self.aggregates.contains_key(name) {
                    self.compile_group(feature, spec, by, all);
                }
                let register = self.aggregates.get(name).copied();
                register.and_then(|register| self.with_default(name, register, ValueType::Number))
            }
        };
        if let Some(compiled) = compiled {
            self.features.insert(name.clone(), compiled);
        }
    }

    fn compile_lookup(&mut self, name: &str, store: &str, key: &Syntax) -> Option<Compiled> {
        let field = format!("features.{name}.lookup.store");
        match self.catalog.store(store) {
            None => self.error(field, format!("there is no store `{store}`")),
            Some(found) if !found.is_global() => {
                self.error(
                    field,
                    format!("store `{store}` is keyed; a lookup reads a global store"),
                );
            }
            Some(_) => {}
        }
        let (key, _) = self.lower_value(&format!("features.{name}.lookup.key"), key)?;
        let index = self
            .global_stores
            .iter()
            .position(|known| known == store)
            .unwrap_or_else(|| {
                self.global_stores.push(store.to_owned());
                self.global_stores.len() - 1
            });
        let row = self.program.rows as u32;
        self.program.rows += 1;
        let register = self.step(Action::Lookup {
            row,
            store: index as u32,
            key,
        });
        self.rows.insert(register, row);
        Some(Compiled {
            register,
            value_type: ValueType::Row,
        })
    }

    /// Compiles the group of an aggregate, with all of its needed members.
    fn compile_group(&mut self, first: &Needed, spec: &AggregateSpec, by: &[Syntax], all: &[Needed]) {
        let canonical = |by: &[Syntax]| by.iter().map(Syntax::canonical).collect::<Vec<_>>();
        let key_text = canonical(by);
        let shares = |other: &Needed| match &other.parts {
            Parts::Aggregate { spec: theirs, by, .. } => {
                other.depth == first.depth
                    && theirs.store == spec.store
                    && theirs.ttl == spec.ttl
                    && canonical(by) == key_text
            }
            _ => false,
        };
        let members: Vec<&Needed> = all.iter().filter(|other| shares(other)).collect();
        for member in &members {
            self.check_partitioning(&member.name, &key_text);
        }
        let store_ttl = self.check_store(first, spec, &key_text);
        let own_ttl = spec.ttl.map(|after| Ttl {
            after,
            since: Since::Write,
        });
        let mut key = Vec::with_capacity(by.len());
        for (index, part) in by.iter().enumerate() {
            let field = format!("features.{}.aggregate.by[{index}]", first.name);
            key.extend(self.lower_value(&field, part).map(|(register, _)| register));
        }
        let mut group = AggregateGroup {
            store: spec.store.clone().unwrap_or_else(|| self.view.name.clone()),
            by: spec.by.clone(),
            ttl: own_ttl.or(store_ttl),
            features: members.iter().map(|member| member.name.clone()).collect(),
            identity: self.group_identity(first.depth, spec, by),
            key,
            cells: Vec::new(),
            of: Vec::new(),
            counts: Vec::new(),
            outputs: Vec::new(),
        };
        for member in &members {
            self.compile_aggregate(member, &mut group);
        }
        if group.cells.len() > LARGEST_GROUP {
            let message = format!(
                "more than {LARGEST_GROUP} aggregates share the key [{}]",
                group.by.join(", ")
            );
            self.error(format!("features.{}.aggregate.by", first.name), message);
        }
        let index = self.groups.len() as u32;
        self.groups.push(group);
        self.program.steps.push(Step {
            register: 0,
            action: Action::Aggregate(index),
        });
    }

    fn check_partitioning(&mut self, name: &str, key: &[String]) {
        let field = format!("features.{name}.aggregate.by");
        match &self.partitioned_by {
            Some(partition) if !key.contains(partition) => {
                let message = format!(
                    "must contain `{partition}`, which the topic is partitioned by: events of one key would be in several \
                     partitions, and each would have a part of the aggregate"
                );
                self.error(field, message);
            }
            None if self.view.partitioned_by.is_none() => {
                self.error(
                    field,
                    "needs the view's `partitioned_by`: the expression that the topic is partitioned by",
                );
            }
            _ => {}
        }
    }

    /// Checks the store of a group and gives its time to live.
    fn check_store(&mut self, first: &Needed, spec: &AggregateSpec, key: &[String]) -> Option<Ttl> {
        let field = format!("features.{}.aggregate.store", first.name);
        let name = spec.store.as_ref().unwrap_or(&self.view.name);
        let Some(store) = self.catalog.store(name) else {
            if spec.store.is_some() {
                self.error(field, format!("there is no store `{name}`"));
            }
            return None;
        };
        let StoreKind::Keyed { keyed, ttl, .. } = &store.kind else {
            self.error(
                field,
                format!("store `{name}` is global; aggregates are kept in a keyed store"),
            );
            return None;
        };
        let ttl = *ttl;
        for text in &keyed.by {
            match Syntax::parse(text) {
                Ok(syntax) if key.contains(&syntax.canonical()) => {}
                _ => {
                    let message = format!("`by` must contain `{text}`, which store `{name}` is keyed by");
                    self.error(format!("features.{}.aggregate.by", first.name), message);
                }
            }
        }
        ttl
    }

    fn group_identity(&self, depth: u32, spec: &AggregateSpec, by: &[Syntax]) -> u64 {
        let fingerprints = self.fingerprints_by_name();
        let ttl = spec.ttl.map_or(0, |ttl| ttl.as_millis());
        let start = Fingerprint::new()
            .text("group")
            .text(&self.view.name)
            .text(spec.store.as_ref().unwrap_or(&self.view.name))
            .number(u64::from(depth))
            .number(ttl);
        by.iter()
            .fold(start, |all, part| {
                all.number(expression_fingerprint(part, &fingerprints))
            })
            .finish()
    }

    fn fingerprints_by_name(&self) -> HashMap<&str, u64> {
        self.fingerprints
            .iter()
            .map(|(name, fingerprint)| (name.as_str(), *fingerprint))
            .collect()
    }

    fn compile_aggregate(&mut self, member: &Needed, group: &mut AggregateGroup) {
        let Parts::Aggregate { spec, of, .. } = &member.parts else {
            return;
        };
        let half_life_ms = spec.half_life.map_or(1.0, |span| span.as_millis() as f64);
        let unit_ms = spec.unit.map_or(1.0, |unit| unit.millis());
        let (kind, read) = match spec.function {
            Function::Count => (CellKind::Count, CellRead::OrZero),
            Function::Sum => (CellKind::Sum, CellRead::OrZero),
            Function::Mean => (CellKind::Sum, CellRead::Mean),
            Function::Min => (CellKind::Min, CellRead::Value),
            Function::Max => (CellKind::Max, CellRead::Value),
            Function::First => (CellKind::First, CellRead::Value),
            Function::Last => (CellKind::Last, CellRead::Value),
            Function::TimeSinceLast => (CellKind::LastTime, CellRead::Since { unit_ms }),
            Function::DecayedSum => (CellKind::DecayedSum, CellRead::Decayed { half_life_ms }),
        };
        let counts = matches!(kind, CellKind::Count | CellKind::LastTime);
        let mut of_register = None;
        if let Some(of) = of {
            let field = format!("features.{}.aggregate.of", member.name);
            let Some((register, value_type)) = self.lower_value(&field, of) else {
                return;
            };
            let numeric = [ValueType::Number, ValueType::Integer, ValueType::Bool];
            if !counts && !numeric.iter().any(|wanted| value_type.may_be(*wanted)) {
                self.error(
                    field,
                    format!("`{}` is {value_type}; an aggregate takes numbers", of.canonical()),
                );
                return;
            }
            of_register = Some(register);
        }
        let fingerprints = self.fingerprints_by_name();
        let of_fingerprint = of.as_ref().map_or(0, |of| expression_fingerprint(of, &fingerprints));
        let half_life = if kind == CellKind::DecayedSum {
            half_life_ms as u64
        } else {
            0
        };
        let identity = Fingerprint::new()
            .number(kind as u64)
            .number(of_fingerprint)
            .number(half_life)
            .finish();
        let id = (identity ^ (identity >> 32)) as u32;
        let same = |cell: &CellPlan, of: &Option<Register>| {
            cell.kind == kind && *of == of_register && cell.half_life_ms == half_life_ms
        };
        let cell = group
            .cells
            .iter()
            .zip(&group.of)
            .position(|(cell, of)| same(cell, of))
            .unwrap_or_else(|| {
                group.cells.push(CellPlan { id, kind, half_life_ms });
                group.of.push(of_register);
                group.counts.push(counts);
                group.cells.len() - 1
            });
        if group.cells.iter().filter(|other| other.id == id).count() > 1 {
            let message =
                "its identity in stored state is that of another aggregate of this key; write `of` in another way";
            self.error(format!("features.{}.aggregate", member.name), message);
        }
        let register = self.register(Slot::Missing);
        group.outputs.push(Output {
            register,
            cell,
            read,
            including_this: spec.including_this,
        });
        self.aggregates.insert(member.name.clone(), register);
    }

    /// Ends a feature's computation: what an input cannot take is missing, and what is missing has the default.
    fn with_default(&mut self, name: &str, register: Register, value_type: ValueType) -> Option<Compiled> {
        let is_input = self.numeric.iter().any(|input| input == name);
        let register = if is_input && value_type.is_dynamic() {
            self.operation(Operation::Numeric(register))
        } else {
            register
        };
        let declared = self
            .view
            .features
            .get(name)
            .and_then(|feature| feature.default.as_ref());
        let default = match self.default_constant(declared, value_type) {
            Ok(default) => default,
            Err(message) => {
                self.error(format!("features.{name}.default"), message);
                return None;
            }
        };
        let index = self.slots.len() as u32;
        let register = self.step(Action::Default {
            value: register,
            default,
            feature: index,
        });
        self.slots.insert(name.to_owned(), FeatureSlot { register, index });
        Some(Compiled { register, value_type })
    }

    /// The register of a default, as a value of the feature's type.
    fn default_constant(&mut self, default: Option<&Default>, value_type: ValueType) -> Result<Register, String> {
        use ValueType::{Any, Bool, Integer, Json, Number, Text};
        let constant = match (default, value_type) {
            (None, _) => {
                return Ok(self.constant_register(ConstantKey::Missing, Slot::Missing));
            }
            (Some(Default::Number(value)), Number | Json | Any) => Constant::Number(*value),
            (Some(Default::Number(value)), Integer) if value.trunc() == *value => Constant::Integer(*value as i64),
            (Some(Default::Number(value)), Bool) if *value == 0.0 || *value == 1.0 => Constant::Bool(*value == 1.0),
            (Some(Default::Bool(value)), Bool | Json | Any) => Constant::Bool(*value),
            (Some(Default::Bool(value)), Number) => Constant::Number(f64::from(u8::from(*value))),
            (Some(Default::Text(value)), Text | Json | Any) => Constant::Text(value),
            (Some(_), other) => return Err(format!("the feature is {other}, its default is not")),
        };
        Ok(self.constant(constant))
    }

    fn check_inputs(&mut self, wanted: &Wanted) {
        for name in &wanted.inputs {
            let field = format!("features.{name}");
            if !self.view.features.contains_key(name) {
                self.error(field, format!("view `{}` has no feature `{name}`", self.view.name));
                continue;
            }
            let message = match self.features.get(name).map(|compiled| compiled.value_type) {
                Some(ValueType::Row) => {
                    "is a row, and a model's input takes numbers; make a feature of one of its fields"
                }
                Some(ValueType::Text) => "is a string, and a model's input takes numbers",
                Some(ValueType::Time) => {
                    "is a timestamp, and a model's input takes numbers; use int() or a part such as getHours()"
                }
                _ => continue,
            };
            self.error(field, message);
        }
    }

    fn compile_expression(&mut self, field: &str, syntax: &Syntax, wanted: &super::WantedExpression) {
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
        Ok(FeaturePlan {
            program: self.program,
            features: self.slots,
            expressions: self.expressions,
            groups: self.groups,
            global_stores: self.global_stores,
            event_time: self.view.event_time.clone(),
        })
    }

    fn register(&mut self, initial: Slot) -> Register {
        self.program.initial.push(initial);
        self.program.initial.len() as Register - 1
    }

    fn step(&mut self, action: Action) -> Register {
        let register = self.register(Slot::Missing);
        self.program.steps.push(Step { register, action });
        register
    }

    fn constant_register(&mut self, key: ConstantKey, value: Slot) -> Register {
        if let Some(register) = self.constants.get(&key) {
            return *register;
        }
        let register = self.register(value);
        self.constants.insert(key, register);
        register
    }
}

/// A register that is filled from the event, made when it is first asked for.
macro_rules! event_register {
    ($self:ident . $field:ident) => {{
        let known = $self.program.$field;
        let register = known.unwrap_or_else(|| $self.register(Slot::Missing));
        $self.program.$field = Some(register);
        register
    }};
}

impl Names for Compiler<'_> {
    fn constant(&mut self, constant: Constant<'_>) -> Register {
        match constant {
            Constant::Bool(value) => self.constant_register(ConstantKey::Bool(value), Slot::Bool(value)),
            Constant::Integer(value) => self.constant_register(ConstantKey::Integer(value), Slot::Integer(value)),
            Constant::Number(value) => {
                self.constant_register(ConstantKey::Number(value.to_bits()), Slot::Number(value))
            }
            Constant::Text(text) => {
                if let Some(register) = self.constants.get(&ConstantKey::Text(text.to_owned())) {
                    return *register;
                }
                let start = self.program.constants.len() as u32;
                self.program.constants.push_str(text);
                let place = TextRef::Constant {
                    start,
                    end: self.program.constants.len() as u32,
                };
                self.constant_register(ConstantKey::Text(text.to_owned()), Slot::Text(place))
            }
        }
    }

    fn operation(&mut self, operation: Operation) -> Register {
        if let Some(register) = self.computed.get(&operation) {
            return *register;
        }
        let register = self.step(Action::Compute(operation));
        self.computed.insert(operation, register);
        register
    }

    fn pattern(&mut self, pattern: Regex) -> u32 {
        let patterns = &mut self.program.patterns;
        let known = patterns.iter().position(|known| known.as_str() == pattern.as_str());
        known.unwrap_or_else(|| {
            patterns.push(pattern);
            patterns.len() - 1
        }) as u32
    }

    fn elements(&mut self, elements: &[Register]) -> u32 {
        let known = self
            .program
            .elements
            .windows(elements.len().max(1))
            .position(|window| window == elements);
        known.unwrap_or_else(|| {
            self.program.elements.extend_from_slice(elements);
            self.program.elements.len() - elements.len()
        }) as u32
    }

    fn event_field(&mut self, path: &[&str]) -> Register {
        if let Some(register) = self.program.paths.register(path) {
            return register;
        }
        let register = self.register(Slot::Missing);
        self.program.paths.insert(path, register);
        register
    }

    fn header(&mut self, name: &str) -> Register {
        if let Some((_, register)) = self.program.headers.iter().find(|(known, _)| known == name) {
            return *register;
        }
        let register = self.register(Slot::Missing);
        self.program.headers.push((name.to_owned(), register));
        register
    }

    fn variable(&mut self, name: &str) -> Result<(Register, ValueType), String> {
        let known = match name {
            "key" => (event_register!(self.key), ValueType::Text),
            "topic" => (event_register!(self.topic), ValueType::Text),
            "partition" => (event_register!(self.partition), ValueType::Integer),
            "offset" => (event_register!(self.offset), ValueType::Integer),
            "timestamp" => (event_register!(self.timestamp), ValueType::Time),
            "event_time" if self.in_event_time => return Err("`event_time` cannot be made from itself".to_owned()),
            "event_time" => (event_register!(self.event_time), ValueType::Time),
            feature if self.in_event_time && self.view.features.contains_key(feature) => {
                return Err(format!(
                    "`{feature}` is a feature, and features come after the event time"
                ));
            }
            feature => match self.features.get(feature) {
                Some(compiled) => (compiled.register, compiled.value_type),
                None if self.view.features.contains_key(feature) => {
                    return Err(format!("feature `{feature}` has errors of its own"));
                }
                None => {
                    return Err(format!(
                        "there is no feature `{feature}` in view `{}`, and no variable of this name; a field of the event is \
                         written event.{feature}",
                        self.view.name
                    ));
                }
            },
        };
        Ok(known)
    }

    fn row_field(&mut self, row: Register, field: &str) -> Register {
        if let Some(register) = self.row_fields.get(&(row, field.to_owned())) {
            return *register;
        }
        let number = self.program.row_fields.len() as u32;
        let row_number = self.rows.get(&row).copied().unwrap_or_default();
        self.program.row_fields.push(RowField {
            row: row_number,
            name: field.into(),
        });
        let register = self.step(Action::RowField(number));
        self.row_fields.insert((row, field.to_owned()), register);
        register
    }
}
