//! One accumulator of a row.

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
    pub a: f64,
    pub b: f64,
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
    pub fn first(&self, value: f64, time_ms: i64) -> Cell {
        let (a, b) = match self.kind {
            CellKind::Count => (1.0, 0.0),
            CellKind::Sum => (value, 1.0),
            CellKind::LastTime => (time_ms as f64, 0.0),
            CellKind::DecayedSum => (value, time_ms as f64),
            CellKind::Min | CellKind::Max | CellKind::First | CellKind::Last => (value, 0.0),
        };
        Cell {
            id: self.id,
            kind: self.kind,
            a,
            b,
        }
    }

    /// Takes one more value. `value` is not NaN.
    #[inline]
    pub fn update(&self, cell: &mut Cell, value: f64, time_ms: i64) {
        match self.kind {
            CellKind::Count => cell.a += 1.0,
            CellKind::Sum => {
                cell.a += value;
                cell.b += 1.0;
            }
            CellKind::Min => cell.a = cell.a.min(value),
            CellKind::Max => cell.a = cell.a.max(value),
            CellKind::First => {}
            CellKind::Last => cell.a = value,
            CellKind::LastTime => cell.a = cell.a.max(time_ms as f64),
            CellKind::DecayedSum => {
                let time = time_ms as f64;
                if time >= cell.b {
                    cell.a = cell.a * decay(time - cell.b, self.half_life_ms) + value;
                    cell.b = time;
                } else {
                    // A late event has decayed already by the time that the sum stands for.
                    cell.a += value * decay(cell.b - time, self.half_life_ms);
                }
            }
        }
    }
}

impl CellRead {
    /// The feature's value at an event time; `None` is missing.
    #[inline]
    pub fn value(self, cell: Option<&Cell>, time_ms: i64) -> Option<f64> {
        match (self, cell) {
            (CellRead::OrZero | CellRead::Decayed { .. }, None) => Some(0.0),
            (_, None) => None,
            (CellRead::OrZero | CellRead::Value, Some(cell)) => Some(cell.a),
            (CellRead::Mean, Some(cell)) => Some(cell.a / cell.b),
            (CellRead::Since { unit_ms }, Some(cell)) => Some((time_ms as f64 - cell.a).max(0.0) / unit_ms),
            (CellRead::Decayed { half_life_ms }, Some(cell)) => {
                Some(cell.a * decay((time_ms as f64 - cell.b).max(0.0), half_life_ms))
            }
        }
    }
}

fn decay(elapsed_ms: f64, half_life_ms: f64) -> f64 {
    (-elapsed_ms / half_life_ms).exp2()
}
