//! Keys of a store, a page at a time: `GET stores/{store}/keys?prefix=&limit=&cursor=`.
//!
//! A page ends after `limit` entries, or earlier: when it has become long, or when many entries were looked at that do not
//! match. The header `Link: <...>; rel="next"` says where the next one is; without it this was the last. So an answer takes
//! little memory and time, whatever the store holds and the prefix matches.

use crate::expiry::shown_key;
use crate::service::Started;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use connect_api::extension::{RestRequest, RestResponse};
use feature_engine::AggregateRow;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use state_store::{CommittedEntry, StateError};
use std::borrow::Cow;

/// Entries of one page, where the request does not say, and at most.
const LIMIT: usize = 100;
const MOST: usize = 10_000;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 4 << 20;
/// Entries of a keyed store that are looked at for one page.
const LOOKED_AT: usize = 100_000;

/// What a request asks for.
pub(super) struct Query {
    prefix: String,
    limit: usize,
    cursor: Option<Vec<u8>>,
}

impl Query {
    /// Reads the request's parameters. Error: which is wrong; none is ignored.
    pub(super) fn read(request: &RestRequest) -> Result<Query, String> {
        let mut query = Query {
            prefix: String::new(),
            limit: LIMIT,
            cursor: None,
        };
        for (name, value) in &request.query {
            match name.as_str() {
                "prefix" => query.prefix.clone_from(value),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    query.limit = limit.ok_or_else(|| format!("limit must be a whole number from 1 to {MOST}"))?;
                }
                "cursor" => {
                    let cursor = URL_SAFE_NO_PAD.decode(value);
                    query.cursor = Some(cursor.map_err(|_| "cursor is none that an answer has given".to_owned())?);
                }
                other => return Err(unknown(other, "prefix, limit and cursor")),
            }
        }
        Ok(query)
    }
}

pub(super) fn unknown(parameter: &str, known: &str) -> String {
    match parameter {
        "max.lag.ms" | "from" => format!("{parameter} is not supported yet: each worker answers from its own copy"),
        _ => format!("{parameter} is not a known parameter; there are {known}"),
    }
}

/// The page that is being made: a JSON array, written entry by entry.
struct Page {
    body: Vec<u8>,
    entries_left: usize,
    looked_at: usize,
}

impl Page {
    fn new(limit: usize) -> Page {
        Page {
            body: vec![b'['],
            entries_left: limit,
            looked_at: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.entries_left == 0 || self.body.len() >= PAGE_BYTES || self.looked_at >= LOOKED_AT
    }

    fn push(&mut self, entry: &impl Serialize) {
        if self.body.len() > 1 {
            self.body.push(b',');
        }
        // Texts and JSON values always serialise.
        let _ = serde_json::to_writer(&mut self.body, entry);
        self.entries_left = self.entries_left.saturating_sub(1);
    }

    /// The answer; `next`: the cursor of the entry to go on after.
    fn answer(mut self, store: &str, query: &Query, next: Option<Vec<u8>>) -> RestResponse {
        self.body.push(b']');
        let mut headers = Vec::new();
        if let Some(next) = next {
            let prefix = percent_encoded(&query.prefix);
            let (limit, cursor) = (query.limit, URL_SAFE_NO_PAD.encode(next));
            let link = format!("</inference/stores/{store}/keys?prefix={prefix}&limit={limit}&cursor={cursor}>");
            headers.push(("Link".to_owned(), format!("{link}; rel=\"next\"")));
        }
        RestResponse {
            status: 200,
            headers,
            content_type: "application/json",
            body: Bytes::from(self.body),
        }
    }
}

/// As it stands in a query.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A row of a global store. Its JSON is given as the topic has it, every digit of its numbers included.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    key: Cow<'a, str>,
    /// where the key is no text
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: RowText<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowText<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl<'a> Row<'a> {
    pub(super) fn new(key: &'a [u8], value: &'a [u8]) -> Row<'a> {
        let text = String::from_utf8_lossy(key);
        Row {
            key_base64: matches!(text, Cow::Owned(_)).then(|| URL_SAFE_NO_PAD.encode(key)),
            key: text,
            value: match serde_json::from_slice(value) {
                Ok(json) => RowText::Json(json),
                Err(_) => RowText::Text(String::from_utf8_lossy(value)),
            },
        }
    }
}

/// A page of a global store.
pub(super) fn of_global(started: &Started, store: &str, query: &Query) -> RestResponse {
    let Some(global) = started.globals.store(store) else {
        return RestResponse::error(503, &format!("store {store} is not open on this worker yet"));
    };
    let mut page = Page::new(query.limit);
    let mut last: Option<Vec<u8>> = None;
    let mut more = false;
    let visited = global.visit(query.prefix.as_bytes(), query.cursor.as_deref(), |key, value| {
        if page.is_full() {
            more = true;
            return false;
        }
        page.push(&Row::new(key, value));
        last = Some(key.to_vec());
        true
    });
    match visited {
        Ok(()) => page.answer(store, query, last.filter(|_| more)),
        Err(error) => RestResponse::error(500, &error.to_string()),
    }
}

/// Where a page of a keyed store ended: connector, store and partition of a copy, and the key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    copy: (String, String, i32),
    key: Vec<u8>,
}

impl Place {
    fn encode(&self) -> Vec<u8> {
        let (connector, store, partition) = &self.copy;
        let partition = partition.to_be_bytes();
        [
            connector.as_bytes(),
            b"\0",
            store.as_bytes(),
            b"\0",
            &partition,
            &self.key,
        ]
        .concat()
    }

    fn decode(bytes: &[u8]) -> Option<Place> {
        let mut parts = bytes.splitn(3, |byte| *byte == 0);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (connector, store) = (text(parts.next()?)?, text(parts.next()?)?);
        let (partition, key) = parts.next()?.split_first_chunk()?;
        Some(Place {
            copy: (connector, store, i32::from_be_bytes(*partition)),
            key: key.to_vec(),
        })
    }
}

/// A page of a keyed store: entries whose shown keys start with the prefix. Groups of aggregates have keys of their own, so
/// every entry is looked at, and what was looked at in vain ends a page too.
pub(super) fn of_keyed(started: &Started, store: &str, query: &Query) -> RestResponse {
    let from = match query.cursor.as_deref().map(Place::decode) {
        Some(None) => return RestResponse::error(400, "cursor is none that an answer has given"),
        from => from.flatten(),
    };
    let mut page = Page::new(query.limit);
    let mut last: Option<Place> = None;
    let mut more = false;
    for (copy, reader) in started.keyed_copies(store) {
        let after = match &from {
            Some(from) if copy < from.copy => continue,
            Some(from) if copy == from.copy => Some(from.key.as_slice()),
            _ => None,
        };
        let visited = reader.visit(&[], after, |entry, is_live| {
            if page.is_full() {
                more = true;
                return false;
            }
            page.looked_at += 1;
            if is_live && shown_key(&entry.key).starts_with(&query.prefix) {
                page.push(&entry_json(&copy.0, copy.2, &entry));
            }
            last = Some(Place {
                copy: copy.clone(),
                key: entry.key.to_vec(),
            });
            true
        });
        match visited {
            Ok(()) if more => break,
            Ok(()) => {}
            Err(error @ StateError::Format { .. }) => return RestResponse::error(500, &error.to_string()),
            Err(error) => return RestResponse::error(503, &error.to_string()),
        }
    }
    let next = last.filter(|_| more).map(|place| place.encode());
    page.answer(store, query, next)
}

/// An entry of a keyed store as people read it.
pub(super) fn entry_json(connector: &str, partition: i32, entry: &CommittedEntry) -> Value {
    let value = AggregateRow::decode(&entry.payload).map(|row| format!("{row:?}"));
    json!({
        "key": shown_key(&entry.key), "connector": connector, "partition": partition,
        "touched_ms": entry.version.touched_ms, "value": value.unwrap_or_else(|error| format!("unreadable: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(query: &[(&str, &str)]) -> RestRequest {
        RestRequest {
            method: "GET".to_owned(),
            path: Vec::new(),
            query: query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            content_type: None,
            body: Bytes::new(),
        }
    }

    proptest! {
        #[test]
        fn places_come_back(connector in "[^\0]{0,8}", store in "[a-z_.0-9-]{1,8}", partition: i32, key in prop::collection::vec(any::<u8>(), 0..12)) {
            let place = Place { copy: (connector, store, partition), key };
            prop_assert_eq!(Place::decode(&place.encode()), Some(place));
        }

        #[test]
        fn any_bytes_are_a_place_or_none(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Some(place) = Place::decode(&bytes) {
                prop_assert_eq!(place.encode(), bytes);
            }
        }
    }

    #[test]
    fn what_a_request_asks_wrongly_is_said() {
        for (name, value, expected) in [
            ("limit", "all", "from 1 to 10000"),
            ("limit", "0", "from 1 to 10000"),
            ("limit", "10001", "from 1 to 10000"),
            ("cursor", "%%", "cursor is none"),
            ("max.lag.ms", "5", "not supported yet"),
            ("prefx", "a", "not a known parameter"),
        ] {
            let error = Query::read(&request(&[(name, value)])).err().unwrap();
            assert!(error.contains(expected), "{error}");
        }
        let query = Query::read(&request(&[("prefix", "a/b"), ("limit", "7")]))
            .ok()
            .unwrap();
        assert_eq!((query.prefix.as_str(), query.limit), ("a/b", 7));
    }

    #[test]
    fn a_page_ends_where_it_becomes_long() {
        let mut page = Page::new(MOST);
        let value = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20));
        let mut pushed = 0;
        while !page.is_full() {
            page.push(&Row::new(b"key", value.as_bytes()));
            pushed += 1;
        }
        assert_eq!(pushed, 4);
    }

    #[test]
    fn every_digit_of_a_row_is_shown_and_keys_that_are_no_text_too() {
        let shown = |key: &[u8], value: &[u8]| serde_json::to_string(&Row::new(key, value)).unwrap();
        assert_eq!(
            shown(b"a/b", br#"{"id":100000000000000000000001,"price":1.10}"#),
            r#"{"key":"a/b","value":{"id":100000000000000000000001,"price":1.10}}"#
        );
        assert_eq!(
            shown(b"\xff\0", b"text"),
            "{\"key\":\"\u{fffd}\\u0000\",\"key_base64\":\"_wA\",\"value\":\"text\"}"
        );
    }

    #[test]
    fn the_next_page_is_named_in_full() {
        let query = Query {
            prefix: "a b/ü&".to_owned(),
            limit: 2,
            cursor: None,
        };
        let answer = Page::new(2).answer("products", &query, Some(vec![0xfb, 0xff]));
        let link = "</inference/stores/products/keys?prefix=a%20b%2F%C3%BC%26&limit=2&cursor=-_8>; rel=\"next\"";
        assert_eq!(answer.headers, [("Link".to_owned(), link.to_owned())]);
        assert_eq!(&answer.body[..], b"[]");
    }
}
