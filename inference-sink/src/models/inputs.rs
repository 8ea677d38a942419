//! Features of an event to the inputs of a model.

use feature_engine::{Evaluator, FeatureSlot, Unfit};
use model_engine::Values;

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

#[cfg(test)]
mod tests {
    use super::*;
    use feature_engine::resource::{Resource, Store, parse_document};
    use feature_engine::{Event, FeaturePlan, MemoryGlobals, MemoryState, Wanted};
    use model_engine::ElementType;
    use std::sync::Arc;

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
}
