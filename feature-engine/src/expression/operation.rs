//! Operations over registers and what they compute.

// Registers and rows are numbered by the plan, which owns as many as it names.
#![allow(clippy::indexing_slicing)]

use std::cmp::Ordering;
use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, Datelike};
use regex::Regex;

use crate::catalog_row::CatalogRow;
use crate::event::parse_time;
use crate::number::{EXACT_DOUBLES, Number};
use crate::slot::{Register, Slot, TextRef, Texts};

/// One operation without effects. Equal operations have equal results within an event, so each is computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Not(Register),
    Negate(Register),
    And(Register, Register),
    Or(Register, Register),
    /// Condition, then, otherwise.
    Conditional(Register, Register, Register),
    Add(Register, Register),
    Subtract(Register, Register),
    Multiply(Register, Register),
    Divide(Register, Register),
    Remainder(Register, Register),
    Equal(Register, Register),
    NotEqual(Register, Register),
    Less(Register, Register),
    LessOrEqual(Register, Register),
    Greater(Register, Register),
    GreaterOrEqual(Register, Register),
    /// Whether the first is one of `count` elements from `first` on in the plan's element list.
    OneOf {
        needle: Register,
        first: u32,
        count: u32,
    },
    Contains(Register, Register),
    StartsWith(Register, Register),
    EndsWith(Register, Register),
    /// A text and the number of one of the plan's patterns.
    Matches(Register, u32),
    Size(Register),
    TimePart(Register, TimePart),
    ToNumber(Register),
    ToInteger(Register),
    ToText(Register),
    IsPresent(Register),
    /// A number of epoch milliseconds, or a text, as a time.
    ToTime(Register),
}

/// Part of a time, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TimePart {
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
    /// From 0, Sunday.
    DayOfWeek,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0.
    DayOfYear,
    /// From 0.
    Month,
    FullYear,
}

/// What operations read, and the arena that they write texts to.
pub(crate) struct Computation<'a> {
    pub registers: &'a [Slot],
    pub event: &'a str,
    pub constants: &'a str,
    pub rows: &'a [Option<Arc<CatalogRow>>],
    pub patterns: &'a [Regex],
    pub elements: &'a [Register],
    pub arena: &'a mut String,
    /// What the arena may grow to with this event.
    pub arena_bound: usize,
    /// Counts texts that were not made because they would have been too long.
    pub texts_refused: &'a mut u64,
}

/// Longest text that an expression makes, in bytes; a longer one is missing.
const LONGEST_TEXT: usize = 1 << 20;
/// All texts that expressions may make of one event, in bytes.
pub(crate) const ALL_TEXTS: usize = 8 << 20;

/// Event times beyond this many milliseconds from the epoch (some 270,000 years) are not times.
pub(crate) const LATEST_TIME_MS: i64 = 8_640_000_000_000_000;

impl Computation<'_> {
    #[inline]
    pub fn compute(&mut self, operation: Operation) -> Slot {
        use Operation::*;
        match operation {
            Not(a) => match self.at(a) {
                Slot::Bool(a) => Slot::Bool(!a),
                _ => Slot::Missing,
            },
            Negate(a) => match self.at(a) {
                Slot::Number(a) => Slot::Number(-a),
                Slot::Integer(a) => a.checked_neg().map_or(Slot::Missing, Slot::Integer),
                Slot::Signed(a) => Number::of_integer(-i128::from(a)).into(),
                Slot::Unsigned(a) => Number::of_integer(-i128::from(a)).into(),
                _ => Slot::Missing,
            },
            // An operand that decides the result alone does so even where the other is missing.
            And(a, b) => match (self.at(a), self.at(b)) {
                (Slot::Bool(false), _) | (_, Slot::Bool(false)) => Slot::Bool(false),
                (Slot::Bool(true), Slot::Bool(true)) => Slot::Bool(true),
                _ => Slot::Missing,
            },
            Or(a, b) => match (self.at(a), self.at(b)) {
                (Slot::Bool(true), _) | (_, Slot::Bool(true)) => Slot::Bool(true),
                (Slot::Bool(false), Slot::Bool(false)) => Slot::Bool(false),
                _ => Slot::Missing,
            },
            Conditional(condition, yes, no) => match self.at(condition) {
                Slot::Bool(true) => self.at(yes),
                Slot::Bool(false) => self.at(no),
                _ => Slot::Missing,
            },
            Add(a, b) => match (self.at(a), self.at(b)) {
                (Slot::Text(a), Slot::Text(b)) => self.join(a, b),
                (a, b) => arithmetic(a, b, Number::plus, i64::checked_add),
            },
            Subtract(a, b) => arithmetic(self.at(a), self.at(b), Number::minus, i64::checked_sub),
            Multiply(a, b) => arithmetic(self.at(a), self.at(b), Number::times, i64::checked_mul),
            Divide(a, b) => arithmetic(self.at(a), self.at(b), divide, i64::checked_div),
            Remainder(a, b) => match (self.at(a), self.at(b)) {
                (Slot::Integer(a), Slot::Integer(b)) => a.checked_rem(b).map_or(Slot::Missing, Slot::Integer),
                _ => Slot::Missing,
            },
            Equal(a, b) => self.equal(self.at(a), self.at(b)).map_or(Slot::Missing, Slot::Bool),
            NotEqual(a, b) => self
                .equal(self.at(a), self.at(b))
                .map_or(Slot::Missing, |equal| Slot::Bool(!equal)),
            Less(a, b) => self.ordered(a, b, Ordering::is_lt),
            LessOrEqual(a, b) => self.ordered(a, b, Ordering::is_le),
            Greater(a, b) => self.ordered(a, b, Ordering::is_gt),
            GreaterOrEqual(a, b) => self.ordered(a, b, Ordering::is_ge),
            OneOf { needle, first, count } => self.one_of(needle, first as usize..(first + count) as usize),
            Contains(a, b) => self.texts(a, b, |a, b| a.contains(b)),
            StartsWith(a, b) => self.texts(a, b, |a, b| a.starts_with(b)),
            EndsWith(a, b) => self.texts(a, b, |a, b| a.ends_with(b)),
            Matches(a, pattern) => match self.text(a) {
                Some(text) => Slot::Bool(self.patterns[pattern as usize].is_match(text)),
                None => Slot::Missing,
            },
            Size(a) => match self.at(a) {
                Slot::List(elements) => Slot::Integer(i64::from(elements)),
                Slot::Text(text) => Slot::Integer(self.resolve(text).chars().count() as i64),
                _ => Slot::Missing,
            },
            TimePart(a, part) => match self.at(a) {
                Slot::Time(ms) => time_part(ms, part),
                _ => Slot::Missing,
            },
            ToNumber(a) => match self.at(a) {
                Slot::Number(a) => Slot::Number(a),
                Slot::Integer(a) | Slot::Signed(a) => Slot::Number(a as f64),
                Slot::Unsigned(a) => Slot::Number(a as f64),
                Slot::Text(text) => self.resolve(text).parse().map_or(Slot::Missing, Slot::Number),
                _ => Slot::Missing,
            },
            ToInteger(a) => match self.at(a) {
                Slot::Integer(a) | Slot::Signed(a) => Slot::Integer(a),
                Slot::Number(a) if a > i64::MIN as f64 && a < i64::MAX as f64 => Slot::Integer(a as i64),
                Slot::Text(text) => self.resolve(text).parse().map_or(Slot::Missing, Slot::Integer),
                Slot::Time(ms) => Slot::Integer(ms.div_euclid(1000)),
                _ => Slot::Missing,
            },
            ToText(a) => match self.at(a) {
                Slot::Text(text) => Slot::Text(text),
                Slot::Integer(a) | Slot::Signed(a) => self.written(format_args!("{a}")),
                Slot::Unsigned(a) => self.written(format_args!("{a}")),
                Slot::Number(a) => self.written(format_args!("{a}")),
                Slot::Bool(a) => self.written(format_args!("{a}")),
                _ => Slot::Missing,
            },
            IsPresent(a) => Slot::Bool(self.at(a) != Slot::Missing),
            ToTime(a) => {
                let ms = match self.at(a) {
                    Slot::Time(ms) | Slot::Integer(ms) => Some(ms),
                    Slot::Number(ms) if ms.abs() <= EXACT_DOUBLES => Some(ms.floor() as i64),
                    Slot::Text(text) => parse_time(self.resolve(text)),
                    _ => None,
                };
                // `abs` of the least number overflows.
                ms.filter(|ms| (-LATEST_TIME_MS..=LATEST_TIME_MS).contains(ms))
                    .map_or(Slot::Missing, Slot::Time)
            }
        }
    }

    #[inline]
    fn at(&self, register: Register) -> Slot {
        self.registers[register as usize]
    }

    fn resolve(&self, text: TextRef) -> &str {
        let Computation {
            event, constants, rows, ..
        } = *self;
        Texts {
            event,
            arena: self.arena,
            constants,
            rows,
        }
        .get(text)
    }

    fn text(&self, register: Register) -> Option<&str> {
        match self.at(register) {
            Slot::Text(text) => Some(self.resolve(text)),
            _ => None,
        }
    }

    fn texts(&self, a: Register, b: Register, test: impl Fn(&str, &str) -> bool) -> Slot {
        match (self.text(a), self.text(b)) {
            (Some(a), Some(b)) => Slot::Bool(test(a, b)),
            _ => Slot::Missing,
        }
    }

    /// CEL equality: numbers compare by value, values of different types are not equal. A list's or object's content is
    /// not known, so its equality is not either.
    fn equal(&self, a: Slot, b: Slot) -> Option<bool> {
        Some(match (a, b) {
            (Slot::Missing | Slot::List(_) | Slot::Object, _) | (_, Slot::Missing | Slot::List(_) | Slot::Object) => {
                return None;
            }
            (Slot::Number(a), Slot::Number(b)) => a == b,
            (Slot::Integer(a), Slot::Integer(b)) | (Slot::Time(a), Slot::Time(b)) => a == b,
            (Slot::Text(a), Slot::Text(b)) => self.resolve(a) == self.resolve(b),
            (Slot::Bool(a), Slot::Bool(b)) => a == b,
            _ => compare(a, b).is_some_and(Ordering::is_eq),
        })
    }

    #[inline]
    fn ordered(&self, a: Register, b: Register, test: impl Fn(Ordering) -> bool) -> Slot {
        let ordering = match (self.at(a), self.at(b)) {
            (Slot::Number(a), Slot::Number(b)) => a.partial_cmp(&b),
            (Slot::Integer(a), Slot::Integer(b)) | (Slot::Time(a), Slot::Time(b)) => Some(a.cmp(&b)),
            (Slot::Text(a), Slot::Text(b)) => Some(self.resolve(a).cmp(self.resolve(b))),
            (Slot::Bool(a), Slot::Bool(b)) => Some(a.cmp(&b)),
            (a, b) => compare(a, b),
        };
        ordering.map_or(Slot::Missing, |ordering| Slot::Bool(test(ordering)))
    }

    /// Membership; missing when the needle or any element is.
    fn one_of(&self, needle: Register, elements: std::ops::Range<usize>) -> Slot {
        let needle = self.at(needle);
        let mut found = false;
        for element in &self.elements[elements] {
            match self.equal(needle, self.at(*element)) {
                Some(equal) => found |= equal,
                None => return Slot::Missing,
            }
        }
        if needle == Slot::Missing {
            Slot::Missing
        } else {
            Slot::Bool(found)
        }
    }

    fn join(&mut self, a: TextRef, b: TextRef) -> Slot {
        let start = self.arena.len();
        let length = self.resolve(a).len() + self.resolve(b).len();
        if length > LONGEST_TEXT || start + length > self.arena_bound {
            *self.texts_refused += 1;
            return Slot::Missing;
        }
        self.append(a);
        self.append(b);
        self.written_from(start)
    }

    fn append(&mut self, text: TextRef) {
        match text {
            TextRef::Arena { start, end } => self.arena.extend_from_within(start as usize..end as usize),
            elsewhere => {
                let Computation {
                    event, constants, rows, ..
                } = *self;
                let text = Texts {
                    event,
                    arena: "",
                    constants,
                    rows,
                }
                .get(elsewhere);
                self.arena.push_str(text);
            }
        }
    }

    fn written(&mut self, value: std::fmt::Arguments<'_>) -> Slot {
        let start = self.arena.len();
        // Writing to a string does not fail.
        let _ = self.arena.write_fmt(value);
        self.written_from(start)
    }

    /// The text of the arena from `start` on; a number's text is short.
    fn written_from(&mut self, start: usize) -> Slot {
        if self.arena.len() > self.arena_bound {
            self.arena.truncate(start);
            *self.texts_refused += 1;
            return Slot::Missing;
        }
        match (u32::try_from(start), u32::try_from(self.arena.len())) {
            (Ok(start), Ok(end)) => Slot::Text(TextRef::Arena { start, end }),
            _ => Slot::Missing,
        }
    }
}

/// Arithmetic of two numbers, or of two ints of CEL (an overflow is an error); there is no other overload.
#[inline]
fn arithmetic(
    a: Slot,
    b: Slot,
    numbers: impl Fn(Number, Number) -> Number,
    integers: impl Fn(i64, i64) -> Option<i64>,
) -> Slot {
    match (a, b) {
        (Slot::Number(a), Slot::Number(b)) => numbers(Number::Double(a), Number::Double(b)).into(),
        (Slot::Integer(a), Slot::Integer(b)) => integers(a, b).map_or(Slot::Missing, Slot::Integer),
        (a, b) => match (a.number(), b.number()) {
            (Some(a), Some(b)) => numbers(a, b).into(),
            _ => Slot::Missing,
        },
    }
}

/// Division is one of doubles (IEEE 754), whatever the numbers are.
fn divide(a: Number, b: Number) -> Number {
    Number::Double(a.to_double() / b.to_double())
}

/// The order of two numbers or ints by value, without rounding; none where one of them is neither.
fn compare(a: Slot, b: Slot) -> Option<Ordering> {
    let value = |slot: Slot| match slot {
        Slot::Integer(value) => Some(Number::of_integer(value.into())),
        slot => slot.number(),
    };
    value(a)?.compare(value(b)?)
}

fn time_part(ms: i64, part: TimePart) -> Slot {
    const DAY: i64 = 86_400_000;
    let of_day = ms.rem_euclid(DAY);
    let date = |part: fn(&DateTime<chrono::Utc>) -> i64| {
        DateTime::from_timestamp_millis(ms).map_or(Slot::Missing, |time| Slot::Integer(part(&time)))
    };
    match part {
        TimePart::Milliseconds => Slot::Integer(of_day % 1000),
        TimePart::Seconds => Slot::Integer(of_day / 1000 % 60),
        TimePart::Minutes => Slot::Integer(of_day / 60_000 % 60),
        TimePart::Hours => Slot::Integer(of_day / 3_600_000),
        // The epoch began on a Thursday.
        TimePart::DayOfWeek => Slot::Integer((ms.div_euclid(DAY) + 4).rem_euclid(7)),
        TimePart::Date => date(|time| i64::from(time.day())),
        TimePart::DayOfMonth => date(|time| i64::from(time.day0())),
        TimePart::DayOfYear => date(|time| i64::from(time.ordinal0())),
        TimePart::Month => date(|time| i64::from(time.month0())),
        TimePart::FullYear => date(|time| i64::from(time.year())),
    }
}
