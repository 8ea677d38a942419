//! Reads JSON bodies as the Java worker does: a body that is malformed or of the wrong shape is a 500 with Jackson's
//! words in it, which clients look for; numbers and booleans in string maps become their text.

use super::answer::Answer;
use connect_api::ConfigMap;
use connect_api::record::SourceMap;
use indexmap::IndexMap;
use serde_json::Value;
use serde_json::value::RawValue;

type Members = IndexMap<String, Box<RawValue>>;

/// What Jackson calls a value, and its token.
fn token(raw: &RawValue) -> (&'static str, &'static str) {
    let text = raw.get().trim_start();
    match text.as_bytes().first() {
        Some(b'{') => ("Object value", "START_OBJECT"),
        Some(b'[') => ("Array value", "START_ARRAY"),
        Some(b'"') => ("String value", "VALUE_STRING"),
        Some(b't') => ("Boolean value", "VALUE_TRUE"),
        Some(b'f') => ("Boolean value", "VALUE_FALSE"),
        Some(b'n') => ("Null value", "VALUE_NULL"),
        _ if text.contains(['.', 'e', 'E']) => ("Floating-point value", "VALUE_NUMBER_FLOAT"),
        _ => ("Integer value", "VALUE_NUMBER_INT"),
    }
}

fn wrong_type(java_type: &str, raw: &RawValue) -> Answer {
    let (value, token) = token(raw);
    Answer::error(
        500,
        format!("Cannot deserialize value of type `{java_type}` from {value} (token `JsonToken.{token}`)"),
    )
}

/// A scalar where an object of a Java class is wanted.
fn no_instance(class: &str, raw: &RawValue) -> Answer {
    let text = raw.get().trim();
    let (argument, value) = match token(raw).1 {
        "VALUE_STRING" => {
            let inner = text.trim_matches('"');
            ("String", format!("String value ('{inner}')"))
        }
        "VALUE_TRUE" | "VALUE_FALSE" => ("boolean/Boolean", format!("boolean value ({text})")),
        "VALUE_NUMBER_FLOAT" => ("double/Double", format!("Number value ({text})")),
        _ => ("int/Int", format!("Number value ({text})")),
    };
    Answer::error(
        500,
        format!(
            "Cannot construct instance of `{class}` (although at least one Creator exists): no {argument}-argument \
             constructor/factory method to deserialize from {value}"
        ),
    )
}

/// Whether a body is `null`.
pub(super) fn is_null(bytes: &[u8]) -> bool {
    bytes.trim_ascii() == b"null"
}

/// Whether there is nothing in a body: no text, or `null`.
pub(super) fn is_nothing(bytes: &[u8]) -> bool {
    bytes.trim_ascii().is_empty() || is_null(bytes)
}

fn parse(bytes: &[u8]) -> Result<Box<RawValue>, Answer> {
    if is_nothing(bytes) {
        return Err(Answer::error(
            500,
            "No content to map due to end-of-input: the body is empty or null",
        ));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Answer::error(500, format!("Unexpected character or end-of-input: {error}")))
}

/// The members of an object that stands for an instance of a Java class.
fn instance(raw: &RawValue, class: &str) -> Result<Members, Answer> {
    match token(raw).1 {
        "START_OBJECT" => serde_json::from_str(raw.get()).map_err(|_| wrong_type(class, raw)),
        "START_ARRAY" | "VALUE_NULL" => Err(wrong_type(class, raw)),
        _ => Err(no_instance(class, raw)),
    }
}

/// The members of an object that stands for a map.
fn map(raw: &RawValue, values: &str) -> Result<Members, Answer> {
    match token(raw).1 {
        "VALUE_STRING" => Err(no_instance("java.util.LinkedHashMap", raw)),
        _ => serde_json::from_str(raw.get())
            .map_err(|_| wrong_type(&format!("java.util.LinkedHashMap<java.lang.String,{values}>"), raw)),
    }
}

fn unrecognized(member: &str, class: &str, known: &[&str]) -> Answer {
    let count = match known.len() {
        1 => "one known property".to_owned(),
        count => format!("{count} known properties"),
    };
    let known: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    Answer::error(
        500,
        format!(
            "Unrecognized field \"{member}\" (class {class}), not marked as ignorable ({count}: {})",
            known.join(", ")
        ),
    )
}

/// A map of options.
pub(super) fn config_map(bytes: &[u8]) -> Result<ConfigMap, Answer> {
    read_config(&parse(bytes)?)
}

/// The body of `POST /connectors/{c}/tasks`.
pub(super) fn task_configs(bytes: &[u8]) -> Result<Vec<ConfigMap>, Answer> {
    let raw = parse(bytes)?;
    let tasks: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).map_err(|_| {
        let java_type = "java.util.ArrayList<java.util.Map<java.lang.String,java.lang.String>>";
        wrong_type(java_type, &raw)
    })?;
    tasks.iter().map(|task| read_config(task)).collect()
}

fn read_config(raw: &RawValue) -> Result<ConfigMap, Answer> {
    map(raw, "java.lang.String")?
        .into_iter()
        .map(|(name, value)| Ok((name, read_text(&value)?)))
        .collect()
}

/// Text, or the text of a number or boolean as it was written.
fn read_text(raw: &RawValue) -> Result<Option<String>, Answer> {
    match token(raw).1 {
        "VALUE_NULL" => Ok(None),
        "START_OBJECT" | "START_ARRAY" => Err(wrong_type("java.lang.String", raw)),
        "VALUE_STRING" => serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| wrong_type("java.lang.String", raw)),
        _ => Ok(Some(raw.get().trim().to_owned())),
    }
}

/// The body of `POST /connectors`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CreateConnector {
    pub(super) name: Option<String>,
    pub(super) config: Option<ConfigMap>,
    /// upper-case
    pub(super) initial_state: Option<String>,
}

pub(super) fn create_connector(bytes: &[u8]) -> Result<CreateConnector, Answer> {
    const CLASS: &str = "org.apache.kafka.connect.runtime.rest.entities.CreateConnectorRequest";
    let mut request = CreateConnector {
        name: None,
        config: None,
        initial_state: None,
    };
    for (member, raw) in instance(&parse(bytes)?, CLASS)? {
        match member.as_str() {
            "name" => request.name = read_text(&raw)?,
            "config" if token(&raw).1 == "VALUE_NULL" => {}
            "config" => request.config = Some(read_config(&raw)?),
            "initial_state" => request.initial_state = initial_state(&raw, CLASS)?,
            other => return Err(unrecognized(other, CLASS, &["config", "name", "initial_state"])),
        }
    }
    Ok(request)
}

fn initial_state(raw: &RawValue, class: &str) -> Result<Option<String>, Answer> {
    let java_type = format!("{class}$InitialState");
    if matches!(token(raw).1, "START_OBJECT" | "START_ARRAY") {
        return Err(wrong_type(&java_type, raw));
    }
    let state = read_text(raw)?.map(|state| state.to_uppercase());
    match state.as_deref() {
        None | Some("RUNNING" | "PAUSED" | "STOPPED") => Ok(state),
        Some(state) => Err(Answer::error(
            500,
            format!(
                "Cannot construct instance of `{java_type}`, problem: No enum constant {class}.InitialState.{state}"
            ),
        )),
    }
}

/// A partition and its offset, as they were posted; what a missing partition means is the connector's business.
pub(super) type PostedOffset = (Option<SourceMap>, Option<SourceMap>);

/// The body of `PATCH /connectors/{c}/offsets`.
pub(super) fn offsets(bytes: &[u8]) -> Result<Vec<PostedOffset>, Answer> {
    const CLASS: &str = "org.apache.kafka.connect.runtime.rest.entities.ConnectorOffsets";
    const ENTRY: &str = "org.apache.kafka.connect.runtime.rest.entities.ConnectorOffset";
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    for (member, raw) in instance(&parse(bytes)?, CLASS)? {
        match member.as_str() {
            "offsets" if token(&raw).1 == "VALUE_NULL" => {}
            "offsets" => {
                entries = serde_json::from_str(raw.get())
                    .map_err(|_| wrong_type(&format!("java.util.ArrayList<{ENTRY}>"), &raw))?;
            }
            other => return Err(unrecognized(other, CLASS, &["offsets"])),
        }
    }
    if entries.is_empty() {
        return Err(Answer::error(
            400,
            "Partitions / offsets need to be provided for an alter offsets request",
        ));
    }
    entries.iter().map(|entry| read_offset(entry, ENTRY)).collect()
}

fn read_offset(raw: &RawValue, class: &str) -> Result<PostedOffset, Answer> {
    let mut partition = None;
    let mut offset = None;
    for (member, raw) in instance(raw, class)? {
        let read = || -> Result<Option<SourceMap>, Answer> {
            if token(&raw).1 == "VALUE_NULL" {
                return Ok(None);
            }
            let members = map(&raw, "java.lang.Object")?;
            let members = members.into_iter().map(|(name, value)| {
                let value = serde_json::from_str::<Value>(value.get());
                Ok((name, value.map_err(|error| Answer::error(500, error.to_string()))?))
            });
            members.collect::<Result<SourceMap, Answer>>().map(Some)
        };
        match member.as_str() {
            "partition" => partition = read()?,
            "offset" => offset = read()?,
            other => return Err(unrecognized(other, class, &["partition", "offset"])),
        }
    }
    Ok((partition, offset))
}

/// The level of `PUT /admin/loggers/{name}`.
pub(super) fn level(bytes: &[u8]) -> Result<Option<String>, Answer> {
    Ok(config_map(bytes)?.shift_remove("level").flatten())
}

#[cfg(test)]
mod tests {
    use super::super::answer::AnswerBody;
    use super::*;

    fn message(answer: Answer) -> (u16, String) {
        match answer.body {
            AnswerBody::Json(body) => (answer.status, body["message"].as_str().unwrap().to_owned()),
            _ => panic!("not JSON"),
        }
    }

    #[test]
    fn numbers_and_booleans_become_the_text_that_was_written() {
        let config = config_map(br#"{"a": 1.50, "b": true, "c": null, "d": "x\u00e9", "e": -7}"#).unwrap();
        let expected = [
            ("a", Some("1.50")),
            ("b", Some("true")),
            ("c", None),
            ("d", Some("xé")),
            ("e", Some("-7")),
        ];
        let expected: ConfigMap = expected
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text.map(str::to_owned)))
            .collect();
        assert_eq!(config, expected);
    }

    #[test]
    fn wrong_bodies_are_refused_in_jacksons_words() {
        let cases: [(&[u8], &str); 4] = [
            (
                br#"{"a": {}}"#,
                "Cannot deserialize value of type `java.lang.String` from Object value",
            ),
            (b"[]", "Cannot deserialize value of type `java.util.LinkedHashMap"),
            (b"", "No content to map due to end-of-input"),
            (b"{\"a\"", "Unexpected character or end-of-input"),
        ];
        for (body, text) in cases {
            let (status, message) = message(config_map(body).unwrap_err());
            assert_eq!(status, 500);
            assert!(message.starts_with(text), "{message}");
        }
        let (_, unknown) = message(create_connector(br#"{"name":"a","confg":{}}"#).unwrap_err());
        assert!(unknown.starts_with("Unrecognized field \"confg\""));
        let (_, state) = message(create_connector(br#"{"name":"a","initial_state":"ASLEEP"}"#).unwrap_err());
        assert!(state.contains("Cannot construct instance of"));
        assert_eq!(message(offsets(br#"{"offsets":[]}"#).unwrap_err()).0, 400);
        assert_eq!(task_configs(b"[]"), Ok(vec![]));
        assert_eq!(task_configs(br#"[{"a":"1"},{}]"#).unwrap().len(), 2);
        let (_, tasks) = message(task_configs(br#"{"a":"1"}"#).unwrap_err());
        assert!(tasks.starts_with("Cannot deserialize value of type `java.util.ArrayList"));
    }

    #[test]
    fn the_initial_state_is_read_in_any_case() {
        let request = create_connector(br#"{"name":"a","config":{},"initial_state":"stopped"}"#).unwrap();
        assert_eq!(request.initial_state.as_deref(), Some("STOPPED"));
    }
}
