//! Against what Java's OffsetStorageWriter and OffsetUtils do with the same input.

use super::*;
use base64::Engine;

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.get("base64").map(|text| {
        base64::engine::general_purpose::STANDARD
            .decode(text.as_str().unwrap())
            .unwrap()
    })
}

/// A value of the vectors' notation; `None` for what a source map cannot hold.
fn plain(value: &Value) -> Option<Value> {
    let Value::Object(tagged) = value else {
        return Some(Value::Null);
    };
    let (tag, content) = tagged.iter().next().unwrap();
    match tag.as_str() {
        "float32" | "float64" => match content.as_str().unwrap().parse::<f64>().unwrap() {
            number if number.is_finite() => Some(Value::from(number)),
            _ => Some(Value::String(content.as_str().unwrap().to_owned())),
        },
        "array" => content
            .as_array()
            .unwrap()
            .iter()
            .map(plain)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        "map" => map(value).map(Value::Object),
        "date" | "decimal" | "struct" | "java" => None,
        _ => Some(content.clone()),
    }
}

fn map(value: &Value) -> Option<SourceMap> {
    value["map"]
        .as_array()?
        .iter()
        .map(|pair| Some((pair[0].get("string")?.as_str()?.to_owned(), plain(&pair[1])?)))
        .collect()
}

#[test]
fn records_are_written_as_java_writes_them() {
    let mut checked = 0;
    for line in include_str!("../../tests/vectors/offset-record.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let Some(partition) = map(&case["partition"]) else {
            continue;
        };
        let offset = &case["offset"];
        let Some(offset) = (if offset.is_null() {
            Some(None)
        } else {
            map(offset).map(Some)
        }) else {
            continue;
        };
        let key = encode_key(case["connector"].as_str().unwrap(), &partition);
        match case["expect"].get("error") {
            Some(error) => assert_eq!(key.unwrap_err().message(), error["message"].as_str().unwrap()),
            None => {
                assert_eq!(key.unwrap(), bytes(&case["expect"]["key"]).unwrap(), "{}", case["id"]);
                let value = offset.as_ref().map(|offset| encode_value(offset).unwrap());
                assert_eq!(value, bytes(&case["expect"]["value"]), "{}", case["id"]);
            }
        }
        checked += 1;
    }
    assert!(checked >= 10);
}

#[test]
fn keys_are_read_as_java_reads_them() {
    for line in include_str!("../../tests/vectors/offset-key.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let key = bytes(&case["key"]).unwrap_or_default();
        let value = bytes(&case["value"]);
        let read = decode_key(&key).zip(decode_value(value.as_deref()));
        let expected = case["expect"]["connectorPartitions"].as_object().unwrap();
        match expected.iter().next() {
            None => assert!(read.is_none(), "{}", case["id"]),
            Some((connector, partitions)) => {
                let ((name, partition), offset) = read.unwrap();
                assert_eq!(&name, connector);
                match partitions.as_array().unwrap().first() {
                    None => assert!(offset.is_none()),
                    Some(expected) => assert_eq!(canonical(&partition), canonical(&map(expected).unwrap())),
                }
            }
        }
    }
}

#[test]
fn partitions_are_equal_in_any_order_of_members() {
    let one = decode_key(br#"["c",{"a":1,"b":"x"}]"#).unwrap().1;
    let other = decode_key(br#"["c",{"b":"x","a":1}]"#).unwrap().1;
    assert_eq!(canonical(&one), canonical(&other));
    assert_ne!(encode_key("c", &one).unwrap(), encode_key("c", &other).unwrap());
}
