//! Rows of one input, in the type of the input's elements.

use std::ops::Range;

use crate::ElementType;

/// Elements of one input, row-major `[rows, width]`, in the tensor's own type: nothing is converted on the way to it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // named as the element types
pub enum Values {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Boolean(Vec<bool>),
}

/// The same for every type of elements.
macro_rules! each {
    ($values:expr, $each:ident => $result:expr) => {
        match $values {
            Values::Float($each) => $result,
            Values::Double($each) => $result,
            Values::Int64($each) => $result,
            Values::Int32($each) => $result,
            Values::Boolean($each) => $result,
        }
    };
}

impl Values {
    /// No elements of this type. An input is never of strings; for them there is the type of their positions in a list.
    pub fn new(element: ElementType) -> Values {
        match element {
            ElementType::Float => Values::Float(Vec::new()),
            ElementType::Double => Values::Double(Vec::new()),
            ElementType::Int64 | ElementType::Text => Values::Int64(Vec::new()),
            ElementType::Int32 => Values::Int32(Vec::new()),
            ElementType::Boolean => Values::Boolean(Vec::new()),
        }
    }

    /// So many zeros, or values that are false.
    pub fn zeros(element: ElementType, count: usize) -> Values {
        let mut zeros = Values::new(element);
        each!(&mut zeros, values => values.resize(count, Default::default()));
        zeros
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        match self {
            Values::Float(_) => ElementType::Float,
            Values::Double(_) => ElementType::Double,
            Values::Int64(_) => ElementType::Int64,
            Values::Int32(_) => ElementType::Int32,
            Values::Boolean(_) => ElementType::Boolean,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the elements take.
    pub fn bytes(&self) -> usize {
        each!(self, values => size_of_val(values.as_slice()))
    }

    /// Takes elements away from the end, down to `len`.
    pub fn truncate(&mut self, len: usize) {
        each!(self, values => values.truncate(len));
    }

    /// Appends a range of the elements of another input of the same type; what lies beyond its end, or is of another type,
    /// is left out.
    pub fn extend_from(&mut self, other: &Values, range: Range<usize>) {
        match (self, other) {
            (Values::Float(to), Values::Float(from)) => to.extend_from_slice(from.get(range).unwrap_or_default()),
            (Values::Double(to), Values::Double(from)) => to.extend_from_slice(from.get(range).unwrap_or_default()),
            (Values::Int64(to), Values::Int64(from)) => to.extend_from_slice(from.get(range).unwrap_or_default()),
            (Values::Int32(to), Values::Int32(from)) => to.extend_from_slice(from.get(range).unwrap_or_default()),
            (Values::Boolean(to), Values::Boolean(from)) => to.extend_from_slice(from.get(range).unwrap_or_default()),
            _ => {}
        }
    }

    /// Appends the bytes of a range of elements: big endian, as many each as its type has, a boolean one.
    pub fn write(&self, range: Range<usize>, out: &mut Vec<u8>) {
        each!(self, values => {
            for value in values.get(range).unwrap_or_default() {
                value.write(out);
            }
        });
    }

    /// Appends the elements that [`Self::write`] has written. False, with nothing appended: the bytes are not of whole
    /// elements of this type.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        each!(self, values => {
            let before = values.len();
            let complete = read_all(bytes, values);
            if !complete {
                values.truncate(before);
            }
            complete
        })
    }

    /// Bytes of one written element.
    pub fn written_size(&self) -> usize {
        match self {
            Values::Double(_) | Values::Int64(_) => 8,
            Values::Float(_) | Values::Int32(_) => 4,
            Values::Boolean(_) => 1,
        }
    }
}

fn read_all<T: Written>(bytes: &[u8], values: &mut Vec<T>) -> bool {
    let (chunks, rest) = bytes.split_at(bytes.len() - bytes.len() % T::SIZE);
    for chunk in chunks.chunks_exact(T::SIZE) {
        let Some(value) = T::read(chunk) else { return false };
        values.push(value);
    }
    rest.is_empty()
}

/// An element as bytes.
trait Written: Sized {
    const SIZE: usize;
    fn write(&self, out: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! written_number {
    ($($number:ty),*) => {$(
        impl Written for $number {
            const SIZE: usize = size_of::<$number>();

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$number>::from_be_bytes)
            }
        }
    )*};
}

written_number!(f32, f64, i64, i32);

impl Written for bool {
    const SIZE: usize = 1;

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_values() -> impl Strategy<Value = Values> {
        prop_oneof![
            prop::collection::vec(-1e30f32..1e30, 0..9).prop_map(Values::Float),
            prop::collection::vec(-1e300f64..1e300, 0..9).prop_map(Values::Double),
            prop::collection::vec(any::<i64>(), 0..9).prop_map(Values::Int64),
            prop::collection::vec(any::<i32>(), 0..9).prop_map(Values::Int32),
            prop::collection::vec(any::<bool>(), 0..9).prop_map(Values::Boolean),
        ]
    }

    proptest! {
        #[test]
        fn values_come_back_from_their_bytes(values in any_values()) {
            let mut bytes = Vec::new();
            values.write(0..values.len(), &mut bytes);
            prop_assert_eq!(bytes.len(), values.len() * values.written_size());
            let mut back = Values::new(values.element());
            prop_assert!(back.read(&bytes));
            prop_assert_eq!(&back, &values);
            bytes.push(2);
            prop_assert!(!back.read(&bytes));
            prop_assert_eq!(back, values);
        }

        #[test]
        fn parts_put_together_are_the_whole(values in any_values(), at in 0usize..9) {
            let at = at.min(values.len());
            let mut whole = Values::new(values.element());
            whole.extend_from(&values, 0..at);
            whole.extend_from(&values, at..values.len());
            prop_assert_eq!(whole, values);
        }
    }
}
