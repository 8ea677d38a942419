//! What names in expressions mean in a view, and the registers of a plan: one per constant, field and operation.

use regex::Regex;

use super::{Compiler, ConstantKey};
use crate::expression::{Constant, Names, Operation, ValueType};
use crate::plan::program::RowField;
use crate::plan::{Action, Step};
use crate::slot::{Register, Slot, TextRef};

impl Compiler<'_> {
    pub(super) fn register(&mut self, initial: Slot) -> Register {
        self.program.initial.push(initial);
        self.program.initial.len() as Register - 1
    }

    pub(super) fn step(&mut self, action: Action) -> Register {
        let register = self.register(Slot::Missing);
        self.program.steps.push(Step { register, action });
        register
    }

    pub(super) fn constant_register(&mut self, key: ConstantKey, value: Slot) -> Register {
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
