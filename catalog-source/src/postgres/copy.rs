//! Rows of `COPY ... TO STDOUT` in the text format (PostgreSQL documentation, "COPY: File Formats"). Pure.

use super::pgoutput::Cell;
use std::borrow::Cow;

/// The columns of a line, which may end in a line feed.
pub(super) fn cells(line: &[u8]) -> impl Iterator<Item = Cell<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // tabs within values are escaped
    line.split(|byte| *byte == b'\t').map(cell)
}

fn cell(field: &[u8]) -> Cell<'_> {
    if field == b"\\N" {
        return Cell::Null;
    }
    match memchr::memchr(b'\\', field) {
        None => Cell::Text(Cow::Borrowed(field)),
        Some(first) => Cell::Text(Cow::Owned(unescape(field, first))),
    }
}

fn unescape(field: &[u8], first: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let (clean, rest) = field.split_at(first);
    plain.extend_from_slice(clean);
    let mut bytes = rest.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                // the server writes no octal and no hexadecimal escapes
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the server writes (`CopyAttributeOutText`).
    fn escape(value: &[u8]) -> Vec<u8> {
        value
            .iter()
            .flat_map(|byte| match byte {
                8 => b"\\b".to_vec(),
                12 => b"\\f".to_vec(),
                b'\n' => b"\\n".to_vec(),
                b'\r' => b"\\r".to_vec(),
                b'\t' => b"\\t".to_vec(),
                11 => b"\\v".to_vec(),
                b'\\' => b"\\\\".to_vec(),
                other => vec![*other],
            })
            .collect()
    }

    proptest! {
        #[test]
        fn rows_come_back(row in proptest::collection::vec(proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..8), Just(b"\\N".to_vec()), Just(Vec::new()),
        ]), 1..6)) {
            let fields: Vec<Vec<u8>> = row.iter().map(|value| value.as_ref().map_or(b"\\N".to_vec(), |value| escape(value))).collect();
            let mut line = fields.join(&b'\t');
            line.push(b'\n');
            let read: Vec<Option<Vec<u8>>> = cells(&line).map(|cell| match cell {
                Cell::Text(text) => Some(text.into_owned()),
                _ => None,
            }).collect();
            prop_assert_eq!(read, row);
        }
    }
}
