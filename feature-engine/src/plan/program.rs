//! The steps of a plan.

use regex::Regex;

use crate::event::FieldPaths;
use crate::expression::Operation;
use crate::slot::{Register, Slot};

/// A straight list of steps over registers. A step only reads registers that earlier steps, the event or constants fill.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// What the registers hold at first: constants where there are any.
    pub initial: Vec<Slot>,
    /// Texts of constants, one after the other.
    pub constants: String,
    /// Fields of the event's value.
    pub paths: FieldPaths,
    /// The registers of `paths`, emptied before each event.
    pub path_registers: Vec<Register>,
    /// Headers and their registers.
    pub headers: Vec<(String, Register)>,
    pub key: Option<Register>,
    pub topic: Option<Register>,
    pub partition: Option<Register>,
    pub offset: Option<Register>,
    pub timestamp: Option<Register>,
    /// Filled after the first `event_time_steps` steps.
    pub event_time: Option<Register>,
    /// The expression's result; without one the record's timestamp is the event time.
    pub event_time_source: Option<Register>,
    /// Number of the steps that compute the event time, which come first.
    pub event_time_steps: usize,
    pub steps: Vec<Step>,
    pub patterns: Vec<Regex>,
    pub elements: Vec<Register>,
    /// Number of lookups, each of which holds a row.
    pub rows: usize,
    /// Fields of rows, by number.
    pub row_fields: Vec<RowField>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub register: Register,
    pub action: Action,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Compute(Operation),
    /// Finds the row for a key in a global store.
    Lookup {
        row: u32,
        store: u32,
        key: Register,
    },
    /// Reads a field of a row, by its number.
    RowField(u32),
    /// The value, or the default where it is missing, counted for the feature.
    Default {
        value: Register,
        default: Register,
        feature: u32,
    },
    /// The value as a model's input takes it: what is no number has the default too, counted for the feature.
    Number {
        value: Register,
        default: Register,
        feature: u32,
    },
    /// Reads and updates a group of aggregates, which fills their registers.
    Aggregate(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct RowField {
    pub row: u32,
    pub name: Box<str>,
}
