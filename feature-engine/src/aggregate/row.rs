//! All aggregates of one key in one value of the state store.
//!
//! Encoding, little-endian: version (1 byte), number of cells (1 byte), then per cell its id (4 bytes), its kind (1 byte),
//! `a` (8 bytes, IEEE 754) and, for kinds that use it, `b` (8 bytes). A row whose `a` are all doubles is of version 1. In
//! version 2 the kind has 0x40 added where `a` is a signed integer, and 0x80 where it is an unsigned one.

use super::cell::{Cell, CellKind, CellPlan};
use crate::number::Number;

const DOUBLES: u8 = 1;
const WITH_INTEGERS: u8 = 2;
const SIGNED: u8 = 0x40;
const UNSIGNED: u8 = 0x80;

/// The aggregates of one key and group. A row that was never written is empty.
///
/// Cells carry their identity, so a plan that wants other aggregates than the one before reads what the two share. What
/// a plan does not want is dropped at its next update: an aggregate that is wanted again later starts empty rather than
/// with a gap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AggregateRow {
    cells: Vec<Cell>,
}

impl AggregateRow {
    /// An empty row.
    pub fn new() -> AggregateRow {
        AggregateRow::default()
    }

    /// Whether it holds no aggregate.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Appends the encoded row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let doubles = |cell: &Cell| matches!(cell.a(), Number::Double(_));
        out.push(if self.cells.iter().all(doubles) {
            DOUBLES
        } else {
            WITH_INTEGERS
        });
        // A group has at most 255 cells, which the plan checks.
        out.push(self.cells.len() as u8);
        for cell in &self.cells {
            out.extend_from_slice(&cell.id.to_le_bytes());
            let (form, a) = match cell.a() {
                Number::Double(value) => (0, value.to_le_bytes()),
                Number::Signed(value) => (SIGNED, value.to_le_bytes()),
                Number::Unsigned(value) => (UNSIGNED, value.to_le_bytes()),
            };
            out.push(cell.kind as u8 | form);
            out.extend_from_slice(&a);
            if cell.kind.has_second() {
                out.extend_from_slice(&cell.b.to_le_bytes());
            }
        }
    }

    /// Decodes what [`AggregateRow::encode`] wrote.
    ///
    /// # Errors
    /// A sentence, when the bytes are not an encoded row of a known version.
    pub fn decode(bytes: &[u8]) -> Result<AggregateRow, String> {
        let mut rest = bytes;
        let [version, cells] = take::<2>(&mut rest)?;
        if !matches!(version, DOUBLES | WITH_INTEGERS) {
            return Err(format!("aggregate row of unknown version {version}"));
        }
        let mut row = AggregateRow {
            cells: Vec::with_capacity(usize::from(cells)),
        };
        for _ in 0..cells {
            let id = u32::from_le_bytes(take(&mut rest)?);
            let [code] = take(&mut rest)?;
            let form = if version == DOUBLES {
                0
            } else {
                code & (SIGNED | UNSIGNED)
            };
            let kind = CellKind::from_code(code & !form);
            let kind = kind.ok_or_else(|| format!("aggregate row with unknown cell kind {code}"))?;
            let a = take(&mut rest)?;
            let a = match form {
                0 => Number::Double(f64::from_le_bytes(a)),
                SIGNED => Number::of_integer(i64::from_le_bytes(a).into()),
                UNSIGNED => Number::of_integer(u64::from_le_bytes(a).into()),
                _ => return Err(format!("aggregate row with unknown cell kind {code}")),
            };
            let b = if kind.has_second() {
                f64::from_le_bytes(take(&mut rest)?)
            } else {
                0.0
            };
            row.cells.push(Cell::new(id, kind, a, b));
        }
        if rest.is_empty() {
            Ok(row)
        } else {
            Err(format!("aggregate row with {} bytes too many", rest.len()))
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>()
    }

    /// The cell with this identity, `expected` being where a row that this plan wrote has it.
    #[inline]
    pub(crate) fn cell(&self, id: u32, expected: usize) -> Option<&Cell> {
        match self.cells.get(expected) {
            Some(cell) if cell.id == id => Some(cell),
            _ => self.cells.iter().find(|cell| cell.id == id),
        }
    }

    /// Gives one event's values to the cells; `None` changes nothing.
    pub(crate) fn update(&mut self, plans: &[CellPlan], values: &[Option<Number>], time_ms: i64) {
        let is_of = |cell: &Cell, plan: &CellPlan| plan.id == cell.id && plan.kind == cell.kind;
        if self.cells.len() != plans.len() || !self.cells.iter().zip(plans).all(|(cell, plan)| is_of(cell, plan)) {
            self.cells.retain(|cell| plans.iter().any(|plan| is_of(cell, plan)));
        }
        for (expected, (plan, value)) in plans.iter().zip(values).enumerate() {
            let Some(value) = *value else { continue };
            let at = match self.cells.get(expected) {
                Some(cell) if cell.id == plan.id => Some(expected),
                _ => self.cells.iter().position(|cell| cell.id == plan.id),
            };
            match at.and_then(|at| self.cells.get_mut(at)) {
                Some(cell) => plan.update(cell, value, time_ms),
                None => self
                    .cells
                    .insert(expected.min(self.cells.len()), plan.first(value, time_ms)),
            }
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    match rest.split_first_chunk::<N>() {
        Some((bytes, after)) => {
            *rest = after;
            Ok(*bytes)
        }
        None => Err("aggregate row is cut short".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(value: f64) -> Option<Number> {
        Some(Number::Double(value))
    }

    fn plan(id: u32, kind: CellKind) -> CellPlan {
        CellPlan {
            id,
            kind,
            half_life_ms: 1000.0,
        }
    }

    #[test]
    fn a_changed_plan_keeps_what_is_shared_and_drops_the_rest() {
        let (count, sum, max) = (plan(1, CellKind::Count), plan(2, CellKind::Sum), plan(3, CellKind::Max));
        let mut row = AggregateRow::new();
        row.update(&[count.clone(), sum.clone()], &[some(1.0), some(5.0)], 10);
        row.update(&[max.clone(), sum.clone()], &[some(7.0), some(6.0)], 11);
        assert_eq!(row.cell(1, 0), None);
        assert_eq!(row.cell(2, 0).unwrap().a(), Number::Double(11.0));
        assert_eq!(row.cell(3, 5).unwrap().a(), Number::Double(7.0));
        row.update(&[count, sum, max], &[some(1.0), None, None], 12);
        assert_eq!(row.cell(1, 0).unwrap().a(), Number::Double(1.0));
        assert_eq!(row.cells.iter().map(|cell| cell.id).collect::<Vec<_>>(), [1, 3, 2]);
    }

    #[test]
    fn decoding_refuses_what_was_not_encoded() {
        assert_eq!(AggregateRow::decode(&[]), Err("aggregate row is cut short".to_owned()));
        assert_eq!(
            AggregateRow::decode(&[3, 0]),
            Err("aggregate row of unknown version 3".to_owned())
        );
        assert_eq!(
            AggregateRow::decode(&[1, 0, 9]),
            Err("aggregate row with 1 bytes too many".to_owned())
        );
        assert!(
            AggregateRow::decode(&[1, 1, 0, 0, 0, 0, 99, 0])
                .unwrap_err()
                .contains("unknown cell kind 99")
        );
        // An integer in a row of the first version, and one that is signed and unsigned.
        for (version, kind) in [(1, 0x42), (2, 0xC2)] {
            let mut bytes = vec![version, 1, 0, 0, 0, 0, kind];
            bytes.extend([0; 16]);
            assert!(AggregateRow::decode(&bytes).unwrap_err().contains("unknown cell kind"));
        }
    }

    fn any_number() -> impl Strategy<Value = Number> {
        prop_oneof![
            (-1e9..1e9f64).prop_map(Number::Double),
            any::<i64>().prop_map(|value| Number::of_integer(value.into())),
            any::<u64>().prop_map(|value| Number::of_integer(value.into())),
        ]
    }

    fn any_kind() -> impl Strategy<Value = CellKind> {
        (1u8..=8).prop_map(|code| CellKind::from_code(code).unwrap())
    }

    proptest! {
        #[test]
        fn an_encoded_row_decodes_to_itself(
            cells in prop::collection::vec((any::<u32>(), any_kind(), any_number(), -1e9..1e9f64), 0..6)
        ) {
            let cell = |(id, kind, a, b): (u32, CellKind, Number, f64)| {
                Cell::new(id, kind, a, if kind.has_second() { b } else { 0.0 })
            };
            let row = AggregateRow { cells: cells.into_iter().map(cell).collect() };
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            prop_assert_eq!(AggregateRow::decode(&bytes), Ok(row));
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = AggregateRow::decode(&bytes);
        }

        /// The oracle: the definitions, over all values at once.
        #[test]
        fn cells_agree_with_their_definitions(
            events in prop::collection::vec((prop::option::of(-1000..1000i32), 0..100_000i64), 1..30)
        ) {
            let kinds = [CellKind::Count, CellKind::Sum, CellKind::Min, CellKind::Max, CellKind::First, CellKind::Last,
                CellKind::LastTime, CellKind::DecayedSum];
            let plans: Vec<CellPlan> = kinds.into_iter().map(|kind| plan(kind as u32, kind)).collect();
            let mut row = AggregateRow::new();
            for (value, time) in &events {
                let value = value.map(|value| Number::Double(f64::from(value)));
                row.update(&plans, &vec![value; plans.len()], *time);
            }
            let seen: Vec<(f64, f64)> =
                events.iter().filter_map(|(value, time)| Some((f64::from((*value)?), *time as f64))).collect();
            let values = || seen.iter().map(|(value, _)| *value);
            let a = |kind: CellKind| row.cell(kind as u32, 0).map(|cell| cell.a().to_double());
            if seen.is_empty() {
                prop_assert!(row.is_empty());
                return Ok(());
            }
            prop_assert_eq!(a(CellKind::Count), Some(seen.len() as f64));
            prop_assert_eq!(a(CellKind::Sum), Some(values().sum()));
            prop_assert_eq!(a(CellKind::Min), values().reduce(f64::min));
            prop_assert_eq!(a(CellKind::Max), values().reduce(f64::max));
            prop_assert_eq!(a(CellKind::First), values().next());
            prop_assert_eq!(a(CellKind::Last), values().next_back());
            let latest = seen.iter().map(|(_, time)| *time).fold(f64::MIN, f64::max);
            prop_assert_eq!(a(CellKind::LastTime), Some(latest));
            let decayed: f64 = seen.iter().map(|(value, time)| value * (-(latest - time) / 1000.0).exp2()).sum();
            prop_assert!((a(CellKind::DecayedSum).unwrap() - decayed).abs() < 1e-6);
        }

        /// A sum is exact as long as every part of it fits into 64 bits, and does not depend on when the row was stored.
        #[test]
        fn sums_of_integers_are_exact(values in prop::collection::vec(-(1i64 << 58)..1 << 58, 1..20), stored in any::<u32>()) {
            let plans = [plan(1, CellKind::Sum), plan(2, CellKind::Max)];
            let mut row = AggregateRow::new();
            for (index, value) in values.iter().enumerate() {
                row.update(&plans, &[Some(Number::of_integer((*value).into())); 2], 0);
                if stored >> index & 1 == 1 {
                    let mut bytes = Vec::new();
                    row.encode(&mut bytes);
                    row = AggregateRow::decode(&bytes).unwrap();
                }
            }
            let a = |id: u32| row.cell(id, 0).map(Cell::a);
            prop_assert_eq!(a(1), Some(Number::of_integer(values.iter().map(|value| i128::from(*value)).sum())));
            prop_assert_eq!(a(2), values.iter().max().map(|value| Number::of_integer((*value).into())));
        }
    }
}
