//! The scanner against `serde_json`: the same documents are valid, and the same values are at the same paths.

use proptest::prelude::*;
use serde_json::Value;

use super::{EventError, FieldPaths, scan};
use crate::number::Number;
use crate::slot::{Scalar, Slot, Texts};

const PATHS: [&[&str]; 7] = [
    &["a"],
    &["b"],
    &["a", "b"],
    &["a", "b", "c"],
    &["é\n"],
    &["quantity"],
    &["a", "quantity"],
];

struct Scanned {
    registers: Vec<Slot>,
    arena: String,
}

fn scan_all(document: &[u8]) -> Result<Scanned, EventError> {
    let mut paths = FieldPaths::new();
    for (register, path) in PATHS.iter().enumerate() {
        paths.insert(path, register as u32);
    }
    let mut scanned = Scanned {
        registers: vec![Slot::Missing; PATHS.len()],
        arena: String::new(),
    };
    scan(document, &paths, &mut scanned.registers, &mut scanned.arena)?;
    Ok(scanned)
}

fn check(scanned: &Scanned, document: &str, expected: &Value) {
    for (register, path) in PATHS.iter().enumerate() {
        let slot = scanned.registers[register];
        let texts = Texts {
            event: document,
            arena: &scanned.arena,
            constants: "",
            rows: &[],
        };
        let found = path
            .iter()
            .try_fold(expected, |value, name| value.get(name))
            .unwrap_or(&Value::Null);
        match found {
            Value::Null => assert_eq!(slot, Slot::Missing, "{path:?} of {document}"),
            Value::Bool(value) => assert_eq!(slot, Slot::Bool(*value), "{path:?} of {document}"),
            Value::Number(number) => {
                let found = slot
                    .number()
                    .unwrap_or_else(|| panic!("{path:?} of {document}: {slot:?}"));
                let expected = match (number.as_i64(), number.as_u64()) {
                    (Some(integer), _) => Number::of_integer(integer.into()),
                    (_, Some(integer)) => Number::of_integer(integer.into()),
                    // It gives what is written with a point or an exponent as a double.
                    _ => Number::Double(number.as_f64().unwrap()),
                };
                let same = match (found, expected) {
                    (Number::Double(a), Number::Double(b)) => a.to_bits() == b.to_bits(),
                    (_, Number::Double(b)) => found.to_double().to_bits() == b.to_bits(),
                    _ => found == expected,
                };
                assert!(same, "{path:?} of {document}: {found:?}, expected {expected:?}");
            }
            Value::String(text) => assert_eq!(texts.scalar(slot), Scalar::Text(text), "{path:?} of {document}"),
            Value::Array(items) => assert_eq!(slot, Slot::List(items.len() as u32), "{path:?} of {document}"),
            Value::Object(_) => assert_eq!(slot, Slot::Object, "{path:?} of {document}"),
        }
    }
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        "-?[1-9][0-9]{0,25}(\\.[0-9]{1,25})?([eE][+-]?[12]?[0-9]{1,2})?",
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(|f| format!("{f:?}")),
    ]
}

fn string_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z é😀]{0,20}".prop_map(|s| format!("\"{s}\"")),
        r#"([a-z]|\\["\\/bfnrt]|\\u00[0-9a-f]{2}|\\ud83d\\ude0[0-9]|\\u20ac){0,12}"#.prop_map(|s| format!("\"{s}\"")),
    ]
}

fn name_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""a""#),
        Just(r#""b""#),
        Just(r#""c""#),
        Just(r#""\u0061""#),
        Just(r#""é\n""#),
        Just(r#""quantity""#),
        Just(r#""other""#),
        Just(r#""""#),
    ]
    .prop_map(str::to_owned)
}

fn document_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        number_text(),
        string_text(),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
    ];
    let space = || prop_oneof![Just(""), Just(" "), Just("\n\t"), Just(" \r\n")];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            1 => (prop::collection::vec(inner.clone(), 0..4), space())
                .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))),
            3 => (prop::collection::vec((name_text(), inner), 0..5), space()).prop_map(|(members, s)| {
                let members: Vec<String> = members.iter().map(|(n, v)| format!("{n}{s}:{s}{v}")).collect();
                format!("{s}{{{s}{}{s}}}{s}", members.join(&format!("{s},{s}")))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn values_are_those_of_serde_json(document in document_text()) {
        match serde_json::from_str::<Value>(&document) {
            Ok(expected) => check(&scan_all(document.as_bytes()).unwrap(), &document, &expected),
            // It refuses numbers beyond doubles, which are missing values here.
            Err(error) if error.to_string().contains("number out of range") => {
                prop_assert!(scan_all(document.as_bytes()).is_ok());
            }
            Err(error) => {
                prop_assert!(scan_all(document.as_bytes()).is_err(), "{document} {error}");
            }
        }
    }

    #[test]
    fn damaged_documents_are_refused_alike(
        document in document_text(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3u8
    ) {
        let mut bytes = document.into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, byte),
        }
        let expected = serde_json::from_slice::<Value>(&bytes);
        let range = matches!(&expected, Err(error) if error.to_string().contains("number out of range"));
        // Its error about a range may hide a later one.
        prop_assume!(!range);
        match (scan_all(&bytes), expected) {
            (Ok(scanned), Ok(expected)) => check(&scanned, std::str::from_utf8(&bytes).unwrap(), &expected),
            (Err(_), Err(_)) => {}
            (ours, theirs) => {
                prop_assert!(false, "{:?}: {:?}, {theirs:?}", String::from_utf8_lossy(&bytes), ours.map(|_| ()));
            }
        }
    }

    #[test]
    fn any_bytes_are_scanned_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan_all(&bytes);
    }
}

#[test]
fn errors_name_the_place_and_the_reason() {
    for (document, position, reason) in [
        ("", 0, "expected a value, found the end"),
        ("{\"a\":1", 6, "expected ',' or '}'"),
        ("{\"a\" 1}", 5, "expected ':' after a member name"),
        ("{a:1}", 1, "expected a member name"),
        ("[1,]", 3, "expected a value"),
        ("[1 2]", 3, "expected ',' or ']'"),
        ("{\"a\":01}", 6, "expected ',' or '}'"),
        ("{\"a\":1.}", 7, "expected a digit after the point"),
        ("-", 1, "expected a digit"),
        ("1e", 2, "expected a digit in the exponent"),
        ("tru", 0, "expected true, false or null"),
        ("\"a", 2, "a string has no end"),
        ("\"a\nb\"", 2, "a control character in a string must be escaped"),
        ("\"\\x\"", 1, "not a known escape"),
        ("\"\\u12g4\"", 1, "expected four hexadecimal digits after \\u"),
        ("\"\\ud800\"", 7, "half of a surrogate pair"),
        ("{} x", 3, "expected the end of the document"),
    ] {
        match scan_all(document.as_bytes()) {
            Err(EventError::Json {
                position: found,
                reason: why,
            }) => {
                assert_eq!((found, why), (position, reason), "{document}");
            }
            other => panic!("{document}: {:?}", other.map(|_| ())),
        }
    }
    assert!(matches!(
        scan_all(b"{\"a\":\"\xff\"}"),
        Err(EventError::Json {
            position: 6,
            reason: "not valid UTF-8"
        })
    ));
    let deep = "[".repeat(128);
    assert!(matches!(
        scan_all(deep.as_bytes()),
        Err(EventError::Json {
            reason: "nested deeper than 127 levels",
            ..
        })
    ));
}

#[test]
fn a_member_that_comes_twice_counts_as_it_came_last() {
    for document in [
        r#"{"a":{"b":{"c":1}},"a":{"b":2}}"#,
        r#"{"a":{"b":1},"a":7}"#,
        r#"{"a":1,"a":{"b":{"c":3}}}"#,
    ] {
        check(
            &scan_all(document.as_bytes()).unwrap(),
            document,
            &serde_json::from_str(document).unwrap(),
        );
    }
}

#[test]
fn a_number_is_what_its_value_says_however_it_is_written() {
    for (texts, expected) in [
        (&["5", "5.0", "50e-1", "0.5E1"][..], Slot::Number(5.0)),
        (
            &[
                "9007199254740993",
                "9007199254740993.00",
                "9.007199254740993e15",
                "900719925474099300e-2",
            ],
            Slot::Signed(9_007_199_254_740_993),
        ),
        (
            &["-9223372036854775808", "-9.223372036854775808e18"],
            Slot::Signed(i64::MIN),
        ),
        (
            &["18446744073709551615", "1844674407370955161.5e1"],
            Slot::Unsigned(u64::MAX),
        ),
        (
            &["18446744073709551616", "1.8446744073709551616e19"],
            Slot::Number(18_446_744_073_709_551_616.0),
        ),
        (&["9007199254740993.5"], Slot::Number(9_007_199_254_740_994.0)),
    ] {
        for text in texts {
            let scanned = scan_all(format!("{{\"a\": {text}}}").as_bytes()).unwrap();
            assert_eq!(scanned.registers[0], expected, "{text}");
        }
    }
}

#[test]
fn a_number_beyond_doubles_is_missing() {
    let scanned = scan_all(br#"{"a": 1e999, "b": -1e-999}"#).unwrap();
    assert_eq!(scanned.registers[0], Slot::Missing);
    assert_eq!(scanned.registers[1], Slot::Number(-0.0));
}
