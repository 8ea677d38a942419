//! Keys of records as plain text, the form in which lookups write their keys.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{RejectReason, Unreadable, envelope_payload, object_fields};

/// How the keys of a topic are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "format")]
pub enum KeyFormat {
    /// By any of the converters that are usual for keys. A key that begins with `{` is a JSON object, one that begins with
    /// `"` is a JSON string, and both are read as [`KeyFormat::Json`] reads them; any other key is the text itself, which is
    /// what `StringConverter` writes, and `JsonConverter` for numbers. Rejected: what begins so and is no JSON, what is
    /// no text (not UTF-8, or with control characters: Avro, Protobuf, numbers as bytes), and `Struct{...}`.
    #[default]
    Recognized,
    /// By `StringConverter`: the bytes as they are.
    String,
    /// By `JsonConverter`, with or without its envelope: a primitive, or a struct.
    Json {
        /// The fields of a struct that make up the key, in this order. Empty: the struct must have exactly one.
        fields: Vec<String>,
        /// What stands between the texts of several fields. A text that contains it is rejected.
        separator: String,
    },
    /// By `ShortConverter`: two bytes, big endian.
    Short,
    /// By `IntegerConverter`: four bytes, big endian.
    Integer,
    /// By `LongConverter`: eight bytes, big endian.
    Long,
}

/// A key that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadKey<'a> {
    /// As plain text.
    pub(crate) plain: Cow<'a, [u8]>,
    /// It was JSON: a string in quotation marks, a struct, or an envelope.
    pub(crate) from_json: bool,
}

impl<'a> ReadKey<'a> {
    fn as_it_is(key: &'a [u8]) -> ReadKey<'a> {
        ReadKey {
            plain: Cow::Borrowed(key),
            from_json: false,
        }
    }

    fn of_text(text: String, from_json: bool) -> ReadKey<'a> {
        ReadKey {
            plain: Cow::Owned(text.into_bytes()),
            from_json,
        }
    }
}

fn wrong(detail: impl Into<String>) -> Unreadable {
    Unreadable::new(RejectReason::Key, detail)
}

impl KeyFormat {
    /// The plain text of a key. Error: what is wrong with it, without its content.
    pub(crate) fn read<'a>(&self, key: &'a [u8]) -> Result<ReadKey<'a>, Unreadable> {
        match self {
            KeyFormat::String => Ok(ReadKey::as_it_is(key)),
            KeyFormat::Recognized => match key.first() {
                Some(b'{' | b'"') => json_key(key, &[], "").map_err(|mut error| {
                    error
                        .detail
                        .push_str("; if keys are plain text that begins so, say key: {format: string}");
                    error
                }),
                _ => text_key(key),
            },
            KeyFormat::Json { fields, separator } => json_key(key, fields, separator),
            KeyFormat::Short => number_key::<2>(key, "short", |bytes| i64::from(i16::from_be_bytes(bytes))),
            KeyFormat::Integer => number_key::<4>(key, "integer", |bytes| i64::from(i32::from_be_bytes(bytes))),
            KeyFormat::Long => number_key::<8>(key, "long", i64::from_be_bytes),
        }
    }
}

fn text_key(key: &[u8]) -> Result<ReadKey<'_>, Unreadable> {
    let is_text = std::str::from_utf8(key).is_ok_and(|_| !key.iter().any(u8::is_ascii_control));
    if !is_text {
        let cause = match key {
            [_, _] | [_, _, _, _] | [_, _, _, _, _, _, _, _] => "by its length it may be a number as bytes",
            [0, _, _, _, _, ..] => "it begins as the keys of a schema registry's converters (Avro, Protobuf) do",
            _ => "",
        };
        let cause = if cause.is_empty() {
            String::new()
        } else {
            format!(" ({cause})")
        };
        return Err(wrong(format!(
            "the key is no text{cause}: have keys written by StringConverter or JsonConverter, or say how they are \
             written with key: {{format: short | integer | long}}"
        )));
    }
    if key.starts_with(b"Struct{") {
        return Err(wrong(
            "the key is a struct as StringConverter prints it (Struct{...}), which cannot be taken apart: have keys \
             written by JsonConverter, or take the field out with ExtractField$Key",
        ));
    }
    Ok(ReadKey::as_it_is(key))
}

fn number_key<const N: usize>(
    key: &[u8],
    format: &str,
    number: impl Fn([u8; N]) -> i64,
) -> Result<ReadKey<'static>, Unreadable> {
    let bytes = <[u8; N]>::try_from(key).map_err(|_| {
        wrong(format!(
            "the key has {} bytes, a key of format {format} has {N}",
            key.len()
        ))
    })?;
    Ok(ReadKey::of_text(number(bytes).to_string(), false))
}

/// A key in JSON: a primitive, or the fields of a struct.
fn json_key<'a>(key: &'a [u8], wanted: &[String], separator: &str) -> Result<ReadKey<'a>, Unreadable> {
    let json: &RawValue = serde_json::from_slice(key).map_err(|_| wrong("the key is not valid JSON"))?;
    let Some(fields) = object_fields(json.get().as_bytes()) else {
        return primitive(json, "the key").map(|text| ReadKey::of_text(text, true));
    };
    let Some(payload) = envelope_payload(&fields) else {
        return struct_key(&fields, wanted, separator);
    };
    match object_fields(payload.get().as_bytes()) {
        Some(fields) => struct_key(&fields, wanted, separator),
        None => primitive(payload, "the key").map(|text| ReadKey::of_text(text, true)),
    }
}

fn struct_key<'a>(
    fields: &[(Cow<'_, str>, &RawValue)],
    wanted: &[String],
    separator: &str,
) -> Result<ReadKey<'a>, Unreadable> {
    if wanted.is_empty() {
        return match fields {
            [(name, value)] => primitive(value, &format!("field {name} of the key")),
            [] => Err(wrong("the key is a struct without fields")),
            _ => {
                let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
                let names = names.join(", ");
                Err(wrong(format!(
                    "the key is a struct of several fields ({names}): say which of them make up the key, as in \
                     key: {{format: json, fields: [{names}]}}"
                )))
            }
        }
        .map(|text| ReadKey::of_text(text, true));
    }
    let mut plain = String::new();
    for (number, name) in wanted.iter().enumerate() {
        let value = fields.iter().find(|(field, _)| field == name).map(|(_, value)| *value);
        let value = value.ok_or_else(|| wrong(format!("the key has no field {name}, which key.fields names")))?;
        let text = primitive(value, &format!("field {name} of the key"))?;
        if wanted.len() > 1 && text.contains(separator) {
            return Err(wrong(format!(
                "field {name} of the key contains {separator:?}, which stands between fields: choose another key.separator"
            )));
        }
        if number > 0 {
            plain.push_str(separator);
        }
        plain.push_str(&text);
    }
    Ok(ReadKey::of_text(plain, true))
}

/// A primitive as lookups write it: text as it is, integers of 64 bits exactly, other numbers as the double they are.
fn primitive(json: &RawValue, what: &str) -> Result<String, Unreadable> {
    let text = json.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text)
            .map_err(|_| wrong(format!("{what} is text that is not valid (an unpaired surrogate)"))),
        Some(b't' | b'f') => Ok(text.to_owned()),
        Some(b'n') => Err(wrong(format!("{what} is null"))),
        Some(b'{') => Err(wrong(format!(
            "{what} is a struct; only text, numbers and true or false can be looked up"
        ))),
        Some(b'[') => Err(wrong(format!(
            "{what} is a list; only text, numbers and true or false can be looked up"
        ))),
        _ => plain_number(text).ok_or_else(|| wrong(format!("{what} is a number that no double holds"))),
    }
}

/// A JSON number in the one form that equal numbers have: see `Scalar::write_plain` of the feature engine, which writes the
/// keys of lookups (a test there and here holds them together).
fn plain_number(text: &str) -> Option<String> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.to_string());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.to_string());
    }
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    if number.abs() < EXACT && number.trunc() == number {
        return Some((number as i64).to_string());
    }
    Some(match large_integer(text) {
        Some(whole) => whole.to_string(),
        None => ryu::Buffer::new().format(number).to_owned(),
    })
}

/// The integer of at most 64 bits that a JSON number is, written with a point or an exponent.
fn large_integer(text: &str) -> Option<i128> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [whole, fraction].concat();
    let significant = all.trim_end_matches('0');
    let moved = i64::try_from(all.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let zeros = u32::try_from(exponent.parse::<i64>().ok()?.checked_add(moved)?).ok()?;
    let scale = 10_i128.checked_pow(zeros)?;
    let value = significant.parse::<i128>().ok()?.checked_mul(scale)?;
    (i64::try_from(value).is_ok() || u64::try_from(value).is_ok()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(format: &KeyFormat, key: &[u8]) -> Result<String, String> {
        format
            .read(key)
            .map(|key| String::from_utf8(key.plain.into_owned()).unwrap())
            .map_err(|error| error.detail)
    }

    fn json(fields: &[&str]) -> KeyFormat {
        KeyFormat::Json {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            separator: "|".to_owned(),
        }
    }

    /// What `JsonConverter` and `StringConverter` write for a key of one value, in every form that a connector may have it.
    fn forms(json: &str) -> Vec<String> {
        let schema = r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"shop.public.products.Key"}"#;
        vec![
            json.to_owned(),
            format!(r#"{{"id":{json}}}"#),
            format!(r#"{{"schema":{schema},"payload":{{"id":{json}}}}}"#),
            format!(r#"{{"schema":{{"type":"int64","optional":false}},"payload":{json}}}"#),
            format!(r#"{{ "payload" : {json}, "schema" : null }}"#),
        ]
    }

    proptest! {
        /// However a converter wraps a key, it is the same text.
        #[test]
        fn every_form_of_a_key_is_one_text(number: i64, text in "[^\\p{C}\"{]{0,12}") {
            for form in forms(&number.to_string()) {
                prop_assert_eq!(plain(&KeyFormat::Recognized, form.as_bytes()), Ok(number.to_string()));
                prop_assert_eq!(plain(&json(&[]), form.as_bytes()), Ok(number.to_string()));
            }
            for form in forms(&serde_json::to_string(&text).unwrap()) {
                prop_assert_eq!(plain(&KeyFormat::Recognized, form.as_bytes()), Ok(text.clone()));
            }
            prop_assume!(!text.starts_with("Struct"));
            prop_assert_eq!(plain(&KeyFormat::Recognized, text.as_bytes()), Ok(text));
        }

        #[test]
        fn numbers_as_bytes_are_their_digits(short: i16, integer: i32, long: i64) {
            prop_assert_eq!(plain(&KeyFormat::Short, &short.to_be_bytes()), Ok(short.to_string()));
            prop_assert_eq!(plain(&KeyFormat::Integer, &integer.to_be_bytes()), Ok(integer.to_string()));
            prop_assert_eq!(plain(&KeyFormat::Long, &long.to_be_bytes()), Ok(long.to_string()));
        }

        /// Two structs with other fields never share a key.
        #[test]
        fn several_fields_are_told_apart(a in ("[a-z|]{0,3}", "[a-z|]{0,3}"), b in ("[a-z|]{0,3}", "[a-z|]{0,3}")) {
            let format = json(&["x", "y"]);
            let key = |(x, y): &(String, String)| serde_json::json!({ "y": y, "z": 1, "x": x }).to_string();
            if let (Ok(one), Ok(other)) = (plain(&format, key(&a).as_bytes()), plain(&format, key(&b).as_bytes())) {
                prop_assert_eq!(a == b, one == other);
            }
        }

        /// Whatever is read is text, and is read again as itself.
        #[test]
        fn any_bytes_give_text_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(key) = KeyFormat::Recognized.read(&bytes) {
                prop_assert_eq!(&*key.plain, &bytes[..], "nothing but JSON is changed");
            }
        }
    }

    #[test]
    fn integers_of_64_bits_are_exact_and_equal_numbers_are_equal_texts() {
        for (json_text, expected) in [
            ("9007199254740993", "9007199254740993"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("-0", "0"),
            ("1.0", "1"),
            ("1e2", "100"),
            ("1.50", "1.5"),
            ("100000000000000000000", "1e20"),
            ("10e15", "10000000000000000"),
            ("9007199254740993.0", "9007199254740993"),
            ("-92233720368547758.08E2", "-9223372036854775808"),
            ("18446744073709551616.0", "1.8446744073709552e19"),
            ("true", "true"),
        ] {
            assert_eq!(plain(&json(&[]), json_text.as_bytes()), Ok(expected.to_owned()));
            let in_struct = format!(r#"{{"id":{json_text}}}"#);
            assert_eq!(
                plain(&KeyFormat::Recognized, in_struct.as_bytes()),
                Ok(expected.to_owned())
            );
        }
    }

    #[test]
    fn a_field_of_several_is_chosen_by_name() {
        let key = br#"{"schema":{"type":"struct"},"payload":{"shop":7,"product":"a b"}}"#;
        assert_eq!(plain(&json(&["product", "shop"]), key), Ok("a b|7".to_owned()));
        assert_eq!(plain(&json(&["shop"]), key), Ok("7".to_owned()));
        let error = plain(&KeyFormat::Recognized, key).unwrap_err();
        assert!(
            error.contains("key: {format: json, fields: [shop, product]}"),
            "{error}"
        );
        let error = plain(&json(&["region"]), key).unwrap_err();
        assert!(error.contains("no field region"), "{error}");
    }

    #[test]
    fn what_is_no_key_says_what_to_do_and_nothing_of_its_content() {
        for (key, expected) in [
            (&b"\0\0\0\0\x01\x0csecret"[..], "schema registry"),
            (&5i64.to_be_bytes()[..], "may be a number as bytes"),
            (&b"\xff\xfe\xfd"[..], "the key is no text"),
            (&b"Struct{id=1,secret=2}"[..], "ExtractField$Key"),
            (&b"{secret"[..], "format: string"),
            (&b"\"secret"[..], "format: string"),
            (&br#"{"id":{"secret":1}}"#[..], "field id of the key is a struct"),
            (&br#"{"id":["secret"]}"#[..], "is a list"),
            (&br#"{"id":null}"#[..], "is null"),
            (&br#"{}"#[..], "without fields"),
            (&br#"{"id":1e999}"#[..], "no double holds"),
        ] {
            let error = plain(&KeyFormat::Recognized, key).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(plain(&KeyFormat::String, b"{secret"), Ok("{secret".to_owned()));
        assert!(plain(&KeyFormat::Long, b"12").unwrap_err().contains("has 2 bytes"));
    }
}
