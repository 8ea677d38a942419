//! Groups of aggregates: the key, the store, and the cells that the functions share.

use std::collections::HashMap;

use super::Compiler;
use crate::aggregate::{CellKind, CellPlan, CellRead};
use crate::expression::{Syntax, ValueType};
use crate::plan::dependencies::{Needed, Parts, expression_fingerprint};
use crate::plan::fingerprint::Fingerprint;
use crate::plan::{Action, AggregateGroup, Output, Step};
use crate::resource::{AggregateSpec, Function, Since, StoreKind, Ttl};
use crate::slot::{Register, Slot};

/// Most aggregates of one key; a row's number of cells is one byte.
const LARGEST_GROUP: usize = 255;

impl Compiler<'_> {
    /// Compiles the group of an aggregate, with all of its needed members.
    pub(super) fn compile_group(&mut self, first: &Needed, spec: &AggregateSpec, by: &[Syntax], all: &[Needed]) {
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
}
