//! One accumulator of a row.

use std::cmp::Ordering;

use crate::number::Number;

/// What a cell accumulates. The number is its code in encoded rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum CellKind {
    /// `a`: number of events.
    Count = 1,
    /// `a`: sum, `b`: number of values.
    Sum = 2,
    /// `a`: least value.
    Min = 3,
    /// `a`: greatest value.
    Max = 4,
    /// `a`: first value.
    First = 5,
    /// `a`: last value.
    Last = 6,
    /// `a`: greatest event time, epoch milliseconds (exact: event times are below 2^53).
    LastTime = 7,
    /// `a`: sum as of event time `b`.
    DecayedSum = 8,
}

impl CellKind {
    pub fn from_code(code: u8) -> Option<CellKind> {
        use CellKind::*;
        [Count, Sum, Min, Max, First, Last, LastTime, DecayedSum]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }

    /// Whether `b` is used.
    pub fn has_second(self) -> bool {
        matches!(self, CellKind::Sum | CellKind::DecayedSum)
    }
}

/// One accumulator's content. A cell exists only once it has taken a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Identity: a hash of the kind and of what is accumulated.
    pub id: u32,
    pub kind: CellKind,
    /// How `bits` are to be read: one byte where a [`Number`] takes eight.
    form: Form,
    bits: u64,
    pub b: f64,
}

/// What the bits of a cell's `a` are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Double,
    Signed,
    Unsigned,
}

impl Cell {
    pub fn new(id: u32, kind: CellKind, a: Number, b: f64) -> Cell {
        let mut cell = Cell {
            id,
            kind,
            form: Form::Double,
            bits: 0,
            b,
        };
        cell.set(a);
        cell
    }

    /// The accumulated value.
    #[inline]
    pub fn a(&self) -> Number {
        match self.form {
            Form::Double => Number::Double(f64::from_bits(self.bits)),
            Form::Signed => Number::Signed(self.bits as i64),
            Form::Unsigned => Number::Unsigned(self.bits),
        }
    }

    #[inline]
    fn set(&mut self, a: Number) {
        (self.form, self.bits) = match a {
            Number::Double(value) => (Form::Double, value.to_bits()),
            Number::Signed(value) => (Form::Signed, value as u64),
            Number::Unsigned(value) => (Form::Unsigned, value),
        };
    }
}

/// What a plan keeps in a cell.
#[derive(Clone, Debug)]
pub(crate) struct CellPlan {
    pub id: u32,
    pub kind: CellKind,
    /// Milliseconds, of [`CellKind::DecayedSum`].
    pub half_life_ms: f64,
}

/// What a feature reads from a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CellRead {
    /// The accumulated value; 0 when there is none.
    OrZero,
    /// The accumulated value.
    Value,
    /// Sum by number.
    Mean,
    /// Event time minus the greatest one, in units of so many milliseconds; never below 0.
    Since { unit_ms: f64 },
    /// The sum decayed to the event time; 0 when there is none.
    Decayed { half_life_ms: f64 },
}

impl CellPlan {
    /// The cell after its first value.
    pub fn first(&self, value: Number, time_ms: i64) -> Cell {
        let (a, b) = match self.kind {
            CellKind::Count => (Number::Double(1.0), 0.0),
            CellKind::Sum => (value, 1.0),
            CellKind::LastTime => (Number::Double(time_ms as f64), 0.0),
            CellKind::DecayedSum => (Number::Double(value.to_double()), time_ms as f64),
            CellKind::Min | CellKind::Max | CellKind::First | CellKind::Last => (value, 0.0),
        };
        Cell::new(self.id, self.kind, a, b)
    }

    /// Takes one more value. `value` is not NaN.
    #[inline]
    pub fn update(&self, cell: &mut Cell, value: Number, time_ms: i64) {
        let a = cell.a();
        match self.kind {
            CellKind::Count => cell.set(Number::Double(a.to_double() + 1.0)),
            CellKind::Sum => {
                cell.set(a.plus(value));
                cell.b += 1.0;
            }
            CellKind::Min if value.compare(a) == Some(Ordering::Less) => cell.set(value),
            CellKind::Max if value.compare(a) == Some(Ordering::Greater) => cell.set(value),
            CellKind::Min | CellKind::Max | CellKind::First => {}
            CellKind::Last => cell.set(value),
            CellKind::LastTime => cell.set(Number::Double(a.to_double().max(time_ms as f64))),
            CellKind::DecayedSum => {
                let (a, value, time) = (a.to_double(), value.to_double(), time_ms as f64);
                if time >= cell.b {
                    cell.set(Number::Double(a * decay(time - cell.b, self.half_life_ms) + value));
                    cell.b = time;
                } else {
                    // A late event has decayed already by the time that the sum stands for.
                    cell.set(Number::Double(a + value * decay(cell.b - time, self.half_life_ms)));
                }
            }
        }
    }
}

impl CellRead {
    /// The feature's value at an event time; `None` is missing.
    #[inline]
    pub fn value(self, cell: Option<&Cell>, time_ms: i64) -> Option<Number> {
        let Some(cell) = cell else {
            let zero = matches!(self, CellRead::OrZero | CellRead::Decayed { .. });
            return zero.then_some(Number::Double(0.0));
        };
        let a = cell.a();
        Some(match self {
            CellRead::OrZero | CellRead::Value => a,
            CellRead::Mean => Number::Double(a.to_double() / cell.b),
            CellRead::Since { unit_ms } => Number::Double((time_ms as f64 - a.to_double()).max(0.0) / unit_ms),
            CellRead::Decayed { half_life_ms } => {
                Number::Double(a.to_double() * decay((time_ms as f64 - cell.b).max(0.0), half_life_ms))
            }
        })
    }
}

fn decay(elapsed_ms: f64, half_life_ms: f64) -> f64 {
    (-elapsed_ms / half_life_ms).exp2()
}
