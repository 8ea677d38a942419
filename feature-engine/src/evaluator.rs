//! Runs a plan over events, one at a time. Scratch memory lives here and is reused, so that an event costs no allocation
//! once texts and keys have had their longest.

// Registers, features and groups are numbered by the plan, which owns as many as it names.
#![allow(clippy::indexing_slicing)]

use std::sync::Arc;

use regex::Regex;

use crate::aggregate::AggregateRow;
use crate::catalog_row::{CatalogRow, RowValue};
use crate::element::{Element, InputValue, KeptElement, Misfit, RegisterValue, Unfit};
use crate::event::{Event, EventError, StateFault, scan};
use crate::expression::{ALL_TEXTS, Computation};
use crate::number::Number;
use crate::plan::{Action, AggregateGroup, ExpressionId, FeaturePlan, FeatureSlot, Step, encode_key_part};
use crate::slot::{Register, Scalar, Slot, TextRef, Texts};

/// The rows of global stores.
pub trait GlobalLookup {
    /// The row for a key in the plan's global store of this index ([`FeaturePlan::global_stores`]). The key is plain text,
    /// see [`Scalar::write_plain`]: what a string converter writes for the same value.
    fn get(&mut self, store: usize, key: &[u8]) -> Option<Arc<CatalogRow>>;
}

/// The rows of aggregates, of the partition that the event is from and of one view. Calls name a group by its index in
/// [`FeaturePlan::groups`]; keys start with the group's identity, so groups may share a store. A row is visible while
/// `stream time < since + ttl`, stream time being the greatest event time that the view has seen in the partition so far,
/// this event's too.
pub trait AggregateStore {
    /// Takes the time of an event, before any row is read or changed for it.
    ///
    /// # Errors
    /// Why the event cannot be taken: [`EventError::Refused`], with no state touched.
    fn take_time(&mut self, event_time_ms: i64) -> Result<(), String>;

    /// The row of a key that is visible now: there is one, and it has not expired.
    ///
    /// # Errors
    /// The store failed; the event's evaluation stops there.
    fn read(&mut self, group: usize, key: &[u8]) -> Result<Option<&AggregateRow>, StateFault>;

    /// The row of a key, to be changed: the visible one, else a new, empty one. It counts as written now.
    ///
    /// # Errors
    /// The store failed; the event's evaluation stops there.
    fn update(&mut self, group: usize, key: &[u8]) -> Result<&mut AggregateRow, StateFault>;
}

/// What evaluations have cost and missed since the last [`Evaluator::take_counts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluationCounts {
    /// Events evaluated.
    pub events: u64,
    /// Rows of aggregates read or updated.
    pub state_reads: u64,
    /// Rows of global stores asked for.
    pub lookups: u64,
    /// Rows of global stores that were not there.
    pub lookups_missed: u64,
    /// Texts that an expression would have made longer than 1 MiB, or than 8 MiB with the others of the event: they were
    /// missing.
    pub texts_refused: u64,
}

/// Scratch memory that is kept from event to event.
const KEPT_BYTES: usize = 64 << 10;

/// What an event counts as where an aggregate takes no value of it.
const ONE: Number = Number::Double(1.0);

/// What became of the lookups of one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCounts {
    /// Rows asked for.
    pub asked: u64,
    /// Of these, rows that were not there.
    pub missed: u64,
    /// Events in which the key was missing, so that no row could be asked for.
    pub without_key: u64,
}

/// Evaluates one plan's events on one thread.
pub struct Evaluator {
    plan: Arc<FeaturePlan>,
    registers: Vec<Slot>,
    arena: String,
    /// What the arena may grow to with the event at hand.
    arena_bound: usize,
    rows: Vec<Option<Arc<CatalogRow>>>,
    /// Where a field was in the last row, by number of row field.
    row_positions: Vec<usize>,
    /// The plan's patterns; a copy per thread, as threads would wait for each other's scratch memory.
    patterns: Vec<Regex>,
    key: Vec<u8>,
    values: Vec<Option<Number>>,
    event_time_ms: i64,
    missing: Vec<u64>,
    /// By the number of the lookup's row.
    lookups: Vec<LookupCounts>,
    counts: EvaluationCounts,
}

impl Evaluator {
    /// An evaluator of a plan.
    pub fn new(plan: Arc<FeaturePlan>) -> Evaluator {
        Evaluator {
            registers: plan.program.initial.clone(),
            arena: String::new(),
            arena_bound: 0,
            rows: vec![None; plan.program.rows],
            row_positions: vec![0; plan.program.row_fields.len()],
            patterns: plan.program.patterns.clone(),
            key: Vec::new(),
            values: Vec::new(),
            event_time_ms: 0,
            missing: vec![0; plan.features.len()],
            lookups: vec![LookupCounts::default(); plan.program.rows],
            counts: EvaluationCounts::default(),
            plan,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<FeaturePlan> {
        &self.plan
    }

    /// Computes an event: reads and updates its aggregates, then every feature and expression can be read until the next
    /// event. Aggregates are read as they were before the event unless they say `including_this`.
    ///
    /// # Errors
    /// The event's own fault, with no state touched, or the state store's ([`EventError::State`]).
    pub fn evaluate(
        &mut self,
        event: &Event<'_>,
        globals: &mut dyn GlobalLookup,
        state: &mut dyn AggregateStore,
    ) -> Result<(), EventError> {
        let plan = Arc::clone(&self.plan);
        let program = &plan.program;
        self.arena.clear();
        for register in &program.path_registers {
            self.registers[*register as usize] = Slot::Missing;
        }
        let text = scan(event.value, &program.paths, &mut self.registers, &mut self.arena)?;
        check_object(text)?;
        self.take_variables(&plan, event);
        self.arena_bound = self.arena.len() + ALL_TEXTS;
        let (time_steps, steps) = program.steps.split_at(program.event_time_steps);
        self.run(&plan, time_steps, text, globals, state)?;
        self.take_event_time(&plan, event)?;
        state.take_time(self.event_time_ms).map_err(EventError::Refused)?;
        self.run(&plan, steps, text, globals, state)?;
        self.keep_texts(&plan, text);
        self.counts.events += 1;
        Ok(())
    }

    /// The event time of the last event, epoch milliseconds.
    pub fn event_time_ms(&self) -> i64 {
        self.event_time_ms
    }

    /// A feature of the last event as an element of a tensor.
    ///
    /// # Errors
    /// It is none: the event gives this model no row.
    fn element<E: Element>(&self, slot: &FeatureSlot) -> Result<E, Misfit> {
        E::convert(InputValue {
            value: self.registers[slot.input as usize],
            shown: self.registers[slot.register as usize],
            is_double: slot.is_double,
        })
    }

    /// A feature of a row that was made before, as an element of a tensor; `None`: the row was made without the feature, which
    /// counts as missing. Where the tensor has no missing value the feature's default stands for it, as in an event.
    ///
    /// # Errors
    /// It is none: the row is lost to this model.
    pub fn kept_element<E: Element>(&mut self, slot: FeatureSlot, kept: Option<KeptElement>) -> Result<E, Misfit> {
        let converted = kept.map(|kept| kept.convert(slot.is_double));
        match converted {
            None | Some(Err(Misfit::Missing { .. })) => {
                self.missing[slot.index as usize] += 1;
                let default = self.plan.program.initial[slot.default as usize];
                E::convert(InputValue {
                    value: default,
                    shown: default,
                    is_double: slot.is_double,
                })
            }
            Some(converted) => converted,
        }
    }

    /// A feature of the last event in full, for showing it.
    pub fn feature_scalar(&self, slot: FeatureSlot) -> Scalar<'_> {
        self.texts("").scalar(self.registers[slot.register as usize])
    }

    /// Appends one row: the features in the order of `slots`, each as an element of a tensor.
    ///
    /// # Errors
    /// The first that is none; nothing is appended then.
    #[inline]
    pub fn write_row<E: Element>(&self, slots: &[FeatureSlot], out: &mut Vec<E>) -> Result<(), Unfit> {
        let before = out.len();
        out.resize(before + slots.len(), E::default());
        let row = out.get_mut(before..).unwrap_or_default();
        let mut position = 0;
        loop {
            position += fill_usual(&self.registers, &slots[position..], &mut row[position..]);
            let Some(slot) = slots.get(position) else {
                return Ok(());
            };
            match self.element(slot) {
                Ok(element) => row[position] = element,
                Err(misfit) => {
                    out.truncate(before);
                    return Err(Unfit { position, misfit });
                }
            }
            position += 1;
        }
    }

    /// A wanted expression of the last event.
    pub fn scalar(&self, expression: ExpressionId) -> Scalar<'_> {
        let register = self
            .plan
            .expressions
            .get_index(expression.0 as usize)
            .map(|(_, register)| *register);
        register.map_or(Scalar::Missing, |register| {
            self.texts("").scalar(self.registers[register as usize])
        })
    }

    /// How often each feature was missing, and had its default where it has one, since the start or the last
    /// [`Self::take_missing`]; by the order of [`FeaturePlan::features`].
    pub fn missing_counts(&self) -> &[u64] {
        &self.missing
    }

    /// Gives memory back that only an unusual event needed. To be called when the last event's values have been read: its
    /// texts are gone then.
    pub fn give_back(&mut self) {
        if self.arena.capacity() > KEPT_BYTES {
            self.arena = String::new();
        }
        if self.key.capacity() > KEPT_BYTES {
            self.key = Vec::new();
        }
    }

    /// How often each feature was missing since the last call of this, by name; nothing for those that never were.
    pub fn take_missing(&mut self, mut take: impl FnMut(&str, u64)) {
        for (name, counted) in self.plan.features.keys().zip(&mut self.missing) {
            match std::mem::take(counted) {
                0 => {}
                count => take(name, count),
            }
        }
    }

    /// What became of the lookups of each feature since the last call of this, with the feature and its store; nothing for
    /// those that had none.
    pub fn take_lookups(&mut self, mut take: impl FnMut(&str, &str, LookupCounts)) {
        for ((feature, store), counted) in self.plan.lookups().zip(&mut self.lookups) {
            match std::mem::take(counted) {
                none if none == LookupCounts::default() => {}
                counts => take(feature, store, counts),
            }
        }
    }

    /// What has been counted since the last call.
    pub fn take_counts(&mut self) -> EvaluationCounts {
        std::mem::take(&mut self.counts)
    }

    fn texts<'a>(&'a self, event: &'a str) -> Texts<'a> {
        Texts {
            event,
            arena: &self.arena,
            constants: &self.plan.program.constants,
            rows: &self.rows,
        }
    }

    fn take_variables(&mut self, plan: &FeaturePlan, event: &Event<'_>) {
        let program = &plan.program;
        if let Some(register) = program.key {
            self.registers[register as usize] = self.copy_bytes(event.key);
        }
        if let Some(register) = program.topic {
            self.registers[register as usize] = self.copy_bytes(Some(event.topic.as_bytes()));
        }
        if let Some(register) = program.partition {
            self.registers[register as usize] = Slot::Integer(i64::from(event.partition));
        }
        if let Some(register) = program.offset {
            self.registers[register as usize] = Slot::Integer(event.offset);
        }
        if let Some(register) = program.timestamp {
            self.registers[register as usize] = Slot::Time(event.timestamp_ms);
        }
        for (name, register) in &program.headers {
            let last = event.headers.iter().rev().find(|(header, _)| header == name);
            self.registers[*register as usize] = self.copy_bytes(last.and_then(|(_, value)| *value));
        }
    }

    /// Puts bytes, if they are UTF-8, into the arena.
    fn copy_bytes(&mut self, bytes: Option<&[u8]>) -> Slot {
        match bytes.map(std::str::from_utf8) {
            Some(Ok(text)) => self.copy_text(text),
            _ => Slot::Missing,
        }
    }

    fn copy_text(&mut self, text: &str) -> Slot {
        let start = self.arena.len();
        self.arena.push_str(text);
        match (u32::try_from(start), u32::try_from(self.arena.len())) {
            (Ok(start), Ok(end)) => Slot::Text(TextRef::Arena { start, end }),
            _ => Slot::Missing,
        }
    }

    fn take_event_time(&mut self, plan: &FeaturePlan, event: &Event<'_>) -> Result<(), EventError> {
        self.event_time_ms = match plan.program.event_time_source {
            None => event
                .timestamp_ms
                .clamp(-crate::expression::LATEST_TIME_MS, crate::expression::LATEST_TIME_MS),
            Some(source) => match self.registers[source as usize] {
                Slot::Time(ms) => ms,
                _ => {
                    let expression = plan.event_time.clone().unwrap_or_default();
                    let reason = "is missing, or neither epoch milliseconds nor an RFC 3339 time";
                    return Err(EventError::EventTime { expression, reason });
                }
            },
        };
        if let Some(register) = plan.program.event_time {
            self.registers[register as usize] = Slot::Time(self.event_time_ms);
        }
        Ok(())
    }

    fn run(
        &mut self,
        plan: &FeaturePlan,
        steps: &[Step],
        event: &str,
        globals: &mut dyn GlobalLookup,
        state: &mut dyn AggregateStore,
    ) -> Result<(), EventError> {
        let program = &plan.program;
        for step in steps {
            let value = match step.action {
                Action::Compute(operation) => Computation {
                    registers: &self.registers,
                    event,
                    constants: &program.constants,
                    rows: &self.rows,
                    patterns: &self.patterns,
                    elements: &program.elements,
                    arena: &mut self.arena,
                    arena_bound: self.arena_bound,
                    texts_refused: &mut self.counts.texts_refused,
                }
                .compute(operation),
                Action::Lookup { row, store, key } => self.look_up(row, store, key, event, globals),
                Action::RowField(field) => self.row_field(plan, field),
                Action::Default {
                    value,
                    default,
                    feature,
                } => match self.registers[value as usize] {
                    Slot::Missing => {
                        self.missing[feature as usize] += 1;
                        self.registers[default as usize]
                    }
                    value => value,
                },
                Action::Number {
                    value,
                    default,
                    feature,
                } => match self.registers[value as usize] {
                    Slot::Text(_) | Slot::List(_) | Slot::Object | Slot::Time(_) => {
                        self.missing[feature as usize] += 1;
                        self.registers[default as usize]
                    }
                    value => value,
                },
                Action::Aggregate(group) => {
                    self.aggregate(group as usize, &plan.groups[group as usize], event, state)?;
                    continue;
                }
            };
            self.registers[step.register as usize] = value;
        }
        Ok(())
    }

    fn look_up(&mut self, row: u32, store: u32, key: Register, event: &str, globals: &mut dyn GlobalLookup) -> Slot {
        let mut plain = std::mem::take(&mut self.key);
        plain.clear();
        let has_key = self
            .texts(event)
            .scalar(self.registers[key as usize])
            .write_plain(&mut plain);
        let found = if has_key {
            self.counts.lookups += 1;
            let found = globals.get(store as usize, &plain);
            self.counts.lookups_missed += u64::from(found.is_none());
            found
        } else {
            None
        };
        self.key = plain;
        let counts = &mut self.lookups[row as usize];
        counts.asked += u64::from(has_key);
        counts.missed += u64::from(has_key && found.is_none());
        counts.without_key += u64::from(!has_key);
        let slot = if found.is_some() { Slot::Object } else { Slot::Missing };
        self.rows[row as usize] = found;
        slot
    }

    fn row_field(&mut self, plan: &FeaturePlan, number: u32) -> Slot {
        let field = &plan.program.row_fields[number as usize];
        let Some(row) = &self.rows[field.row as usize] else {
            return Slot::Missing;
        };
        let last = &mut self.row_positions[number as usize];
        let Some(position) = row.position(&field.name, *last) else {
            return Slot::Missing;
        };
        *last = position;
        match row.value_at(position) {
            Some(RowValue::Number(value)) => Slot::Number(*value),
            Some(RowValue::Signed(value)) => Slot::Signed(*value),
            Some(RowValue::Unsigned(value)) => Slot::Unsigned(*value),
            Some(RowValue::Bool(value)) => Slot::Bool(*value),
            Some(RowValue::Text(_)) => Slot::Text(TextRef::Row {
                row: field.row,
                field: position as u32,
            }),
            None => Slot::Missing,
        }
    }

    /// Reads a group as it was, gives it the event, and reads what includes the event: one look into state.
    fn aggregate(
        &mut self,
        index: usize,
        group: &AggregateGroup,
        event: &str,
        state: &mut dyn AggregateStore,
    ) -> Result<(), StateFault> {
        if !self.encode_key(group, event) {
            for output in &group.outputs {
                self.registers[output.register as usize] = Slot::Missing;
            }
            return Ok(());
        }
        let changes = self.collect_values(group);
        self.counts.state_reads += 1;
        let time = self.event_time_ms;
        if !changes {
            let row = state.read(index, &self.key)?;
            read_outputs(group, row, time, |_| true, &mut self.registers);
            return Ok(());
        }
        let row = state.update(index, &self.key)?;
        read_outputs(
            group,
            Some(row),
            time,
            |including_this| !including_this,
            &mut self.registers,
        );
        row.update(&group.cells, &self.values, time);
        read_outputs(
            group,
            Some(row),
            time,
            |including_this| including_this,
            &mut self.registers,
        );
        Ok(())
    }

    fn encode_key(&mut self, group: &AggregateGroup, event: &str) -> bool {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        key.extend_from_slice(&group.identity.to_be_bytes());
        let texts = self.texts(event);
        let complete = group
            .key
            .iter()
            .all(|part| encode_key_part(texts.scalar(self.registers[*part as usize]), &mut key));
        self.key = key;
        complete
    }

    /// Collects what each cell takes; gives whether any of them takes something. What is not finite would stay in a sum
    /// for ever and counts as missing.
    fn collect_values(&mut self, group: &AggregateGroup) -> bool {
        self.values.clear();
        for (of, counts) in group.of.iter().zip(&group.counts) {
            let value = match of.map(|of| self.registers[of as usize]) {
                None => Some(ONE),
                Some(Slot::Missing) => None,
                Some(_) if *counts => Some(ONE),
                Some(Slot::Number(value)) => value.is_finite().then_some(Number::Double(value)),
                Some(Slot::Integer(value)) => Some(Number::of_integer(value.into())),
                Some(Slot::Bool(value)) => Some(Number::Double(f64::from(u8::from(value)))),
                Some(number) => number.number(),
            };
            self.values.push(value);
        }
        self.values.iter().any(Option::is_some)
    }

    /// Texts of the event's value go with the event; those that can be asked for afterwards are copied.
    fn keep_texts(&mut self, plan: &FeaturePlan, event: &str) {
        for register in plan.results.iter().copied() {
            if let Slot::Text(text @ TextRef::Event { .. }) = self.registers[register as usize] {
                let texts = Texts {
                    event,
                    arena: "",
                    constants: "",
                    rows: &[],
                };
                self.registers[register as usize] = self.copy_text(texts.get(text));
            }
        }
    }
}

/// Fills a row up to its first feature of an unusual value; its index. On its own so that nothing else is held in registers.
#[inline(never)]
fn fill_usual<E: Element>(registers: &[Slot], slots: &[FeatureSlot], row: &mut [E]) -> usize {
    for (index, (slot, place)) in slots.iter().zip(row).enumerate() {
        match E::of_usual(RegisterValue(registers[slot.input as usize])) {
            Some(element) => *place = element,
            None => return index,
        }
    }
    slots.len()
}

/// Valid JSON that is no object is no event: without this check everything in it would be missing, and have its default.
fn check_object(text: &str) -> Result<(), EventError> {
    let found = match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => return Ok(()),
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a bool",
        Some(b'n') => "null",
        _ => "a number",
    };
    Err(EventError::NotAnObject { found })
}

fn read_outputs(
    group: &AggregateGroup,
    row: Option<&AggregateRow>,
    time_ms: i64,
    wanted: impl Fn(bool) -> bool,
    registers: &mut [Slot],
) {
    for output in group.outputs.iter().filter(|output| wanted(output.including_this)) {
        let cell = row.and_then(|row| row.cell(group.cells[output.cell].id, output.cell));
        registers[output.register as usize] = output.read.value(cell, time_ms).map_or(Slot::Missing, Slot::from);
    }
}
