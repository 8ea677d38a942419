//! What the rows of a model's version hold: of each of its inputs the features in their order and the type of the elements.
//!
//! A row that waits (in an open window, a block, the feature log) is of the signature of the version that made it, by which
//! it can be read, and be made again for a version with other inputs ([`super::Remake`]). It is also what is needed to make
//! rows for a version whose artifact is not at hand.

use model_engine::{ElementType, TensorSpec, Values};
use serde::{Deserialize, Serialize};

/// Types that elements of inputs have.
const ELEMENTS: [ElementType; 5] = [
    ElementType::Float,
    ElementType::Double,
    ElementType::Int64,
    ElementType::Int32,
    ElementType::Boolean,
];

/// One input of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSpec {
    /// its name in the ONNX file
    pub tensor: String,
    /// type of its elements
    #[serde(with = "element_name")]
    pub element: ElementType,
    /// its features, in the order of its elements
    pub features: Vec<String>,
}

/// The inputs of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSignature {
    inputs: Vec<InputSpec>,
    widths: Vec<usize>,
    hash: u64,
    hash_of_floats: Option<u64>,
}

impl InputSignature {
    /// Of these inputs, in the order of the ONNX file.
    pub fn new(inputs: Vec<InputSpec>) -> InputSignature {
        let floats = inputs.iter().all(|input| input.element == ElementType::Float);
        InputSignature {
            widths: inputs.iter().map(|input| input.features.len()).collect(),
            hash: hash(inputs.iter().flat_map(|input| {
                let element = std::iter::once(input.element.to_string());
                element.chain(words(input))
            })),
            hash_of_floats: floats.then(|| hash(inputs.iter().flat_map(words))),
            inputs,
        }
    }

    /// Of the inputs of a loaded model, with the features of each.
    pub fn of(tensors: &[TensorSpec], features: Vec<Vec<String>>) -> InputSignature {
        let inputs = tensors.iter().zip(features);
        InputSignature::new(
            inputs
                .map(|(tensor, features)| InputSpec {
                    tensor: tensor.name.clone(),
                    element: tensor.element,
                    features,
                })
                .collect(),
        )
    }

    /// The inputs.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Features per row of each input.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Tells rows of one signature from those of another, within one model: of which features go where, in which order and as
    /// which type.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash that stood for it when every feature was a float32, if all of them are still.
    pub fn hash_of_floats(&self) -> Option<u64> {
        self.hash_of_floats
    }

    /// No rows, for each input.
    pub fn empty(&self) -> Vec<Values> {
        self.inputs.iter().map(|input| Values::new(input.element)).collect()
    }

    /// The row that these bytes are: the elements of all inputs, one after the other ([`Values::write`]).
    pub fn read_row(&self, bytes: &[u8]) -> Option<Vec<Values>> {
        let mut row = self.empty();
        let mut rest = bytes;
        for (values, width) in row.iter_mut().zip(&self.widths) {
            let (own, after) = rest.split_at_checked(values.written_size() * width)?;
            if !values.read(own) {
                return None;
            }
            rest = after;
        }
        rest.is_empty().then_some(row)
    }
}

/// A word that is no feature's name: what comes next is of another input.
const END: &str = "\n";

fn words(input: &InputSpec) -> impl Iterator<Item = String> + '_ {
    input.features.iter().cloned().chain([END.to_owned()])
}

/// FNV-1a, which is stable over builds and platforms.
pub(crate) fn hash(words: impl Iterator<Item = impl AsRef<str>>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
        let bytes = word.as_ref().bytes().chain([0]);
        bytes.fold(hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    })
}

/// An element type by its name in ONNX.
mod element_name {
    use super::{ELEMENTS, ElementType};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(element: &ElementType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(element)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ElementType, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = ELEMENTS.into_iter().find(|element| element.to_string() == name);
        known.ok_or_else(|| D::Error::custom(format!("`{name}` is no type of an input's elements")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Some inputs, with features out of a few.
    pub(crate) fn any_signature() -> impl Strategy<Value = InputSignature> {
        let feature = prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
        let input = (
            prop::sample::select(ELEMENTS.to_vec()),
            prop::collection::vec(feature, 1..4),
        );
        prop::collection::vec(input, 1..4).prop_map(|inputs| {
            let spec = |(number, (element, features)): (usize, (ElementType, Vec<String>))| InputSpec {
                tensor: format!("x{number}"),
                element,
                features,
            };
            InputSignature::new(inputs.into_iter().enumerate().map(spec).collect())
        })
    }

    /// A row of a signature, made of numbers that all types hold.
    pub(crate) fn row_of(signature: &InputSignature, mut number: impl FnMut() -> bool) -> Vec<Values> {
        let mut row = signature.empty();
        for (values, width) in row.iter_mut().zip(signature.widths()) {
            for _ in 0..*width {
                let number = number();
                match values {
                    Values::Float(values) => values.push(number.into()),
                    Values::Double(values) => values.push(number.into()),
                    Values::Int64(values) => values.push(number.into()),
                    Values::Int32(values) => values.push(number.into()),
                    Values::Boolean(values) => values.push(number),
                }
            }
        }
        row
    }

    proptest! {
        #[test]
        fn rows_come_back(signature in any_signature(), numbers in prop::collection::vec(any::<bool>(), 9)) {
            let mut numbers = numbers.into_iter().cycle();
            let row = row_of(&signature, || numbers.next().unwrap());
            let mut bytes = Vec::new();
            row.iter().for_each(|values| values.write(0..values.len(), &mut bytes));
            prop_assert_eq!(signature.read_row(&bytes), Some(row));
            bytes.push(0);
            prop_assert_eq!(signature.read_row(&bytes), None);
        }

        #[test]
        fn any_bytes_give_a_row_or_nothing(signature in any_signature(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = signature.read_row(&bytes);
        }

        #[test]
        fn a_hash_tells_signatures_apart(a in any_signature(), b in any_signature()) {
            let of = |signature: &InputSignature| -> Vec<(ElementType, Vec<String>)> {
                signature.inputs().iter().map(|input| (input.element, input.features.clone())).collect()
            };
            prop_assert_eq!(a.hash() == b.hash(), of(&a) == of(&b));
        }

        #[test]
        fn a_signature_comes_back_from_its_record(signature in any_signature()) {
            let record = serde_json::to_vec(signature.inputs()).unwrap();
            let back: Vec<InputSpec> = serde_json::from_slice(&record).unwrap();
            prop_assert_eq!(InputSignature::new(back), signature);
        }
    }
}
