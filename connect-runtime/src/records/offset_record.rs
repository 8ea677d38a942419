//! Records of the offsets topic (contract 2.5): key `["CONNECTOR",{partition}]`, value `{offset}`.

use super::jackson;
use connect_api::ConnectError;
use connect_api::record::SourceMap;
use serde_json::Value;

/// The key of a new record. Members keep their order.
///
/// # Errors
/// A value that is an object or an array.
pub fn encode_key(connector: &str, partition: &SourceMap) -> Result<Vec<u8>, ConnectError> {
    check_primitive(partition)?;
    let key = Value::Array(vec![
        Value::String(connector.to_owned()),
        Value::Object(partition.clone()),
    ]);
    Ok(jackson::to_bytes(&key))
}

/// The value of a record.
///
/// # Errors
/// A value that is an object or an array.
pub fn encode_value(offset: &SourceMap) -> Result<Vec<u8>, ConnectError> {
    check_primitive(offset)?;
    Ok(jackson::to_bytes(&Value::Object(offset.clone())))
}

fn check_primitive(map: &SourceMap) -> Result<(), ConnectError> {
    match map.iter().find(|(_, value)| value.is_object() || value.is_array()) {
        None => Ok(()),
        Some((name, value)) => Err(ConnectError::data(format!(
            "Offsets may only contain primitive types as values, but field {name} contains {}",
            if value.is_array() { "ARRAY" } else { "MAP" }
        ))),
    }
}

/// Connector and partition of a key; `None` for one that is to be dropped.
pub fn decode_key(key: &[u8]) -> Option<(String, SourceMap)> {
    match serde_json::from_slice(key).ok()? {
        Value::Array(elements) => match <[Value; 2]>::try_from(elements).ok()? {
            [Value::String(connector), Value::Object(partition)] => Some((connector, partition)),
            _ => None,
        },
        _ => None,
    }
}

/// The offset of a value; `Some(None)` for a tombstone, `None` for one that is to be dropped.
pub fn decode_value(value: Option<&[u8]>) -> Option<Option<SourceMap>> {
    match value {
        None => Some(None),
        Some(bytes) => match serde_json::from_slice(bytes).ok()? {
            Value::Object(offset) => Some(Some(offset)),
            Value::Null => Some(None),
            _ => None,
        },
    }
}

/// A text that is equal for equal partitions, in whatever order their members were written.
pub fn canonical(partition: &SourceMap) -> Vec<u8> {
    let mut members: Vec<(&String, &Value)> = partition.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    let sorted: SourceMap = members
        .into_iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    jackson::to_bytes(&Value::Object(sorted))
}

#[cfg(test)]
#[path = "offset_record_tests.rs"]
mod tests;
