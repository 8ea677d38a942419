//! Features to the inputs of a model, and rows of inputs to bytes and back.

use feature_engine::{Evaluator, FeatureSlot, Unfit};
use model_engine::{ElementType, Values};

/// A feature that is no element of its tensor.
#[derive(Debug)]
pub struct InputError {
    /// index of the model's input
    pub input: usize,
    /// which of its features, and why
    pub unfit: Unfit,
}

/// Appends one row of the last event to each input: `slots` has the features of each.
///
/// # Errors
/// The first feature that is no element of its tensor; nothing is appended then.
#[inline]
pub fn write_inputs(
    evaluator: &Evaluator,
    slots: &[Vec<FeatureSlot>],
    inputs: &mut [Values],
) -> Result<(), InputError> {
    for input in 0..slots.len() {
        let (Some(row), Some(values)) = (slots.get(input), inputs.get_mut(input)) else {
            break;
        };
        if let Err(unfit) = write_input(evaluator, row, values) {
            for (row, values) in slots.iter().zip(inputs.iter_mut()).take(input) {
                values.truncate(values.len().saturating_sub(row.len()));
            }
            return Err(InputError { input, unfit });
        }
    }
    Ok(())
}

#[inline]
fn write_input(evaluator: &Evaluator, row: &[FeatureSlot], values: &mut Values) -> Result<(), Unfit> {
    match values {
        Values::Float(values) => evaluator.write_row(row, values),
        Values::Double(values) => evaluator.write_row(row, values),
        Values::Int64(values) => evaluator.write_row(row, values),
        Values::Int32(values) => evaluator.write_row(row, values),
        Values::Boolean(values) => evaluator.write_row(row, values),
    }
}

/// Number of an element type in stored rows. Numbers are never given anew.
fn number_of(element: ElementType) -> u8 {
    match element {
        ElementType::Float => 1,
        ElementType::Double => 2,
        ElementType::Int64 | ElementType::Text => 3,
        ElementType::Int32 => 4,
        ElementType::Boolean => 5,
    }
}

/// Appends one row as bytes that say themselves what they are: number of inputs (2), then of each its element type (1), its
/// number of elements (4) and these. Big endian.
pub fn encode_row(row: &[Values], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(row.len()).unwrap_or(u16::MAX).to_be_bytes());
    for values in row {
        out.push(number_of(values.element()));
        out.extend_from_slice(&u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes());
        values.write(0..values.len(), out);
    }
}

/// The row that [`encode_row`] has written, up to the end of the bytes.
pub fn decode_row(bytes: &[u8]) -> Option<Vec<Values>> {
    let (count, mut rest) = bytes.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (number, after) = rest.split_first()?;
        let element = [
            ElementType::Float,
            ElementType::Double,
            ElementType::Int64,
            ElementType::Int32,
            ElementType::Boolean,
        ]
        .into_iter()
        .find(|element| number_of(*element) == *number)?;
        let (len, after) = after.split_first_chunk::<4>()?;
        let mut values = Values::new(element);
        let size = (u32::from_be_bytes(*len) as usize).checked_mul(values.written_size())?;
        let (elements, after) = after.split_at_checked(size)?;
        if !values.read(elements) {
            return None;
        }
        row.push(values);
        rest = after;
    }
    rest.is_empty().then_some(row)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use feature_engine::resource::{Resource, Store, parse_document};
    use feature_engine::{Event, FeaturePlan, MemoryGlobals, MemoryState, Wanted};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A row of inputs of every type.
    pub(crate) fn any_row() -> impl Strategy<Value = Vec<Values>> {
        let values = prop_oneof![
            prop::collection::vec(-1e30f32..1e30, 0..5).prop_map(Values::Float),
            prop::collection::vec(-1e300f64..1e300, 0..5).prop_map(Values::Double),
            prop::collection::vec(any::<i64>(), 0..5).prop_map(Values::Int64),
            prop::collection::vec(any::<i32>(), 0..5).prop_map(Values::Int32),
            prop::collection::vec(any::<bool>(), 0..5).prop_map(Values::Boolean),
        ];
        prop::collection::vec(values, 0..4)
    }

    #[test]
    fn an_event_that_misses_a_feature_leaves_no_part_of_a_row() {
        let view = serde_json::json!({
            "apiVersion": "millrace/v1", "kind": "feature_view", "name": "clicks", "source": "clicks",
            "features": { "price": { "expression": "event.price" }, "id": { "expression": "event.id" } },
        });
        let Ok(Resource::FeatureView(view)) = parse_document(&view) else {
            panic!()
        };
        let stores: std::collections::BTreeMap<String, Store> = Default::default();
        let plan = FeaturePlan::compile(&view, &Wanted::new().inputs(["price", "id"]), &stores).unwrap();
        let slots = ["price", "id"].map(|name| vec![plan.slot(name).unwrap()]);
        let mut evaluator = Evaluator::new(Arc::new(plan));
        let mut inputs = [Values::new(ElementType::Float), Values::new(ElementType::Int64)];
        let mut write = |value: &str| {
            let event = Event {
                topic: "clicks",
                partition: 0,
                offset: 0,
                timestamp_ms: 0,
                key: None,
                value: value.as_bytes(),
                headers: &[],
            };
            let (mut globals, mut state) = (MemoryGlobals::new(), MemoryState::new(&[]));
            evaluator.evaluate(&event, &mut globals, &mut state).unwrap();
            write_inputs(&evaluator, &slots, &mut inputs).map_err(|error| (error.input, error.unfit.position))
        };
        assert_eq!(write(r#"{"price": 1.5, "id": 9007199254740991}"#), Ok(()));
        assert_eq!(write(r#"{"price": 2.5}"#), Err((1, 0)));
        assert_eq!(write(r#"{"id": 3}"#), Ok(()));
        let Values::Float(prices) = &inputs[0] else { panic!() };
        assert!(prices.len() == 2 && prices[0] == 1.5 && prices[1].is_nan());
        assert_eq!(inputs[1], Values::Int64(vec![9_007_199_254_740_991, 3]));
    }

    proptest! {
        #[test]
        fn rows_come_back(row in any_row()) {
            let mut bytes = Vec::new();
            encode_row(&row, &mut bytes);
            prop_assert_eq!(decode_row(&bytes), Some(row));
            bytes.push(0);
            prop_assert_eq!(decode_row(&bytes), None);
        }

        #[test]
        fn any_bytes_give_a_row_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_row(&bytes);
        }
    }
}
