//! Rows that were made for one version of a model, made again for another: feature by feature, by name.
//!
//! ```text
//! the other version has the feature too    its value, converted as an event's is (`feature_engine::KeptElement`)
//! it has it in several tensors             from the one of the wanted type, else of the most exact one
//! it does not have it                      missing: the view's default, else NaN where the tensor has one, else no row
//! ```

use super::{InputError, InputSignature};
use feature_engine::{Element, Evaluator, FeatureSlot, KeptElement, Unfit};
use model_engine::{ElementType, Values};

/// Where a feature is in a row: number of the input, position in it.
type Place = (usize, usize);

/// How rows of one signature become rows of another.
#[derive(Debug)]
pub struct Remake {
    /// by input of the new row, the places in the old one
    inputs: Vec<Vec<Option<Place>>>,
}

impl Remake {
    /// From rows of one signature to those of another.
    pub fn new(from: &InputSignature, to: &InputSignature) -> Remake {
        let inputs = to.inputs().iter();
        Remake {
            inputs: inputs
                .map(|input| {
                    let features = input.features.iter();
                    features.map(|name| place_of(from, name, input.element)).collect()
                })
                .collect(),
        }
    }

    /// Appends a row to the inputs of the new version: `slots` has the features of each, in the plan of `evaluator`, which
    /// counts what is missing.
    ///
    /// # Errors
    /// The first feature that is no element of its tensor; nothing is appended then.
    pub fn write(
        &self,
        kept: &[Values],
        evaluator: &mut Evaluator,
        slots: &[Vec<FeatureSlot>],
        inputs: &mut [Values],
    ) -> Result<(), InputError> {
        let lengths: Vec<usize> = inputs.iter().map(Values::len).collect();
        let parts = self.inputs.iter().zip(slots).zip(inputs.iter_mut()).enumerate();
        let mut refused = None;
        for (input, ((places, slots), values)) in parts {
            let row = places.iter().copied().zip(slots.iter().copied());
            let written = match values {
                Values::Float(out) => write_elements(row, kept, evaluator, out),
                Values::Double(out) => write_elements(row, kept, evaluator, out),
                Values::Int64(out) => write_elements(row, kept, evaluator, out),
                Values::Int32(out) => write_elements(row, kept, evaluator, out),
                Values::Boolean(out) => write_elements(row, kept, evaluator, out),
            };
            if let Err(unfit) = written {
                refused = Some(InputError { input, unfit });
                break;
            }
        }
        let Some(error) = refused else { return Ok(()) };
        for (values, len) in inputs.iter_mut().zip(lengths) {
            values.truncate(len);
        }
        Err(error)
    }
}

/// The place of a feature: where it has the wanted type, else where it is kept most exactly.
fn place_of(signature: &InputSignature, feature: &str, wanted: ElementType) -> Option<Place> {
    let exactness = |element: ElementType| match element {
        _ if element == wanted => 0,
        ElementType::Int64 => 1,
        ElementType::Double => 2,
        ElementType::Int32 => 3,
        ElementType::Float => 4,
        ElementType::Boolean | ElementType::Text => 5,
    };
    let places = signature.inputs().iter().enumerate().filter_map(|(number, input)| {
        let position = input.features.iter().position(|name| name == feature)?;
        Some((exactness(input.element), (number, position)))
    });
    places.min().map(|(_, place)| place)
}

fn write_elements<E: Element>(
    row: impl Iterator<Item = (Option<Place>, FeatureSlot)>,
    kept: &[Values],
    evaluator: &mut Evaluator,
    out: &mut Vec<E>,
) -> Result<(), Unfit> {
    for (position, (place, slot)) in row.enumerate() {
        let kept = place.and_then(|(input, position)| kept_element(kept.get(input)?, position));
        let element = evaluator.kept_element(slot, kept);
        out.push(element.map_err(|misfit| Unfit { position, misfit })?);
    }
    Ok(())
}

fn kept_element(values: &Values, position: usize) -> Option<KeptElement> {
    match values {
        Values::Float(values) => values.get(position).copied().map(KeptElement::Float),
        Values::Double(values) => values.get(position).copied().map(KeptElement::Double),
        Values::Int64(values) => values.get(position).copied().map(KeptElement::Int64),
        Values::Int32(values) => values.get(position).copied().map(KeptElement::Int32),
        Values::Boolean(values) => values.get(position).copied().map(KeptElement::Boolean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::InputSpec;
    use crate::models::signature::tests::{any_signature, row_of};
    use feature_engine::resource::{Resource, Store, parse_document};
    use feature_engine::{FeaturePlan, Wanted};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// An evaluator of a view with the features a to d, of which c and d have defaults.
    fn evaluator() -> Evaluator {
        let view = serde_json::json!({
            "apiVersion": "millrace/v1", "kind": "feature_view", "name": "clicks", "source": "clicks",
            "features": {
                "a": { "expression": "event.a" }, "b": { "expression": "event.b" },
                "c": { "expression": "event.c", "default": 1 }, "d": { "expression": "event.d", "default": 0.5 },
            },
        });
        let Ok(Resource::FeatureView(view)) = parse_document(&view) else {
            panic!()
        };
        let stores: BTreeMap<String, Store> = BTreeMap::default();
        let wanted = Wanted::new().inputs(["a", "b", "c", "d"]);
        Evaluator::new(Arc::new(FeaturePlan::compile(&view, &wanted, &stores).unwrap()))
    }

    fn made(
        from: &InputSignature,
        to: &InputSignature,
        row: &[Values],
    ) -> (Result<Vec<Values>, (usize, usize)>, Evaluator) {
        let mut evaluator = evaluator();
        let slot = |name: &String| evaluator.plan().slot(name).unwrap();
        let slots: Vec<Vec<FeatureSlot>> = to
            .inputs()
            .iter()
            .map(|input| input.features.iter().map(slot).collect())
            .collect();
        let mut inputs = to.empty();
        let written = Remake::new(from, to).write(row, &mut evaluator, &slots, &mut inputs);
        let result = match written {
            Ok(()) => Ok(inputs),
            Err(error) => {
                assert!(inputs.iter().all(Values::is_empty), "a part of a row is left");
                Err((error.input, error.unfit.position))
            }
        };
        (result, evaluator)
    }

    fn signature(inputs: &[(ElementType, &[&str])]) -> InputSignature {
        let spec = |(element, features): &(ElementType, &[&str])| InputSpec {
            tensor: "x".to_owned(),
            element: *element,
            features: features.iter().map(|name| (*name).to_owned()).collect(),
        };
        InputSignature::new(inputs.iter().map(spec).collect())
    }

    proptest! {
        /// Every feature of the new row is the one of its name, whatever moved where and into which type.
        #[test]
        fn features_follow_their_names(from in any_signature(), to in any_signature(), truths in prop::collection::vec(any::<bool>(), 4)) {
            let of = |name: &str| truths[(name.as_bytes()[0] - b'a') as usize];
            let names = |signature: &InputSignature| -> Vec<String> {
                signature.inputs().iter().flat_map(|input| input.features.clone()).collect()
            };
            let mut own = names(&from).into_iter();
            let row = row_of(&from, || of(&own.next().unwrap()));
            let known = names(&from);
            let complete = names(&to).iter().all(|name| known.contains(name));
            let (result, mut evaluator) = made(&from, &to, &row);
            if complete {
                let mut wanted = names(&to).into_iter();
                prop_assert_eq!(result, Ok(row_of(&to, || of(&wanted.next().unwrap()))));
                evaluator.take_missing(|name, count| panic!("{name} was missing {count} times"));
            } else if let Ok(result) = result {
                prop_assert!(result.iter().zip(to.widths()).all(|(values, width)| values.len() == *width));
            }
        }

        #[test]
        fn a_row_of_its_own_signature_stays_as_it_is(signature in any_signature(), truths in prop::collection::vec(any::<bool>(), 4)) {
            let mut names = signature.inputs().iter().flat_map(|input| &input.features);
            let row = row_of(&signature, || truths[(names.next().unwrap().as_bytes()[0] - b'a') as usize]);
            prop_assert_eq!(made(&signature, &signature, &row).0, Ok(row));
        }
    }

    #[test]
    fn what_a_row_lacks_is_missing() {
        let from = signature(&[(ElementType::Float, &["a"])]);
        let row = [Values::Float(vec![3.0])];
        let (result, mut evaluator) = made(&from, &signature(&[(ElementType::Double, &["b", "c", "d", "a"])]), &row);
        let Ok([Values::Double(values)]) = result.as_deref() else {
            panic!("{result:?}")
        };
        assert!(values[0].is_nan() && values[1..] == [1.0, 0.5, 3.0]);
        let mut missing = BTreeMap::new();
        evaluator.take_missing(|name, count| assert_eq!(missing.insert(name.to_owned(), count), None));
        assert_eq!(missing, ["b", "c", "d"].map(|name| (name.to_owned(), 1)).into());
        // No whole number stands for nothing, nor for a half.
        for (lacking, place) in [("b", (1, 1)), ("d", (1, 1))] {
            let to = signature(&[(ElementType::Float, &["a"]), (ElementType::Int64, &["c", lacking])]);
            assert_eq!(made(&from, &to, &row).0, Err(place), "{lacking}");
        }
    }

    #[test]
    fn what_is_there_twice_comes_from_the_tensor_of_its_type() {
        let from = signature(&[
            (ElementType::Float, &["a"]),
            (ElementType::Int64, &["b", "a"]),
            (ElementType::Int32, &["a"]),
        ]);
        let row = [
            Values::Float(vec![1.0]),
            Values::Int64(vec![2, 3]),
            Values::Int32(vec![4]),
        ];
        for (element, expected) in [
            (ElementType::Float, Values::Float(vec![1.0])),
            (ElementType::Int32, Values::Int32(vec![4])),
            (ElementType::Double, Values::Double(vec![3.0])),
        ] {
            assert_eq!(
                made(&from, &signature(&[(element, &["a"])]), &row).0,
                Ok(vec![expected])
            );
        }
    }
}
