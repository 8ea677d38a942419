//! A record as it was fetched, for tasks that own partitions.

use crate::record::TimestampType;

/// Headers of a raw record, read only when asked for.
pub trait RawHeaders {
    /// Calls `visit` with each header in order until it returns false.
    fn visit(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>) -> bool);
}

/// A record without headers.
impl RawHeaders for () {
    fn visit(&self, _visit: &mut dyn FnMut(&str, Option<&[u8]>) -> bool) {}
}

impl RawHeaders for Vec<(String, Option<Vec<u8>>)> {
    fn visit(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>) -> bool) {
        for (name, value) in self {
            if !visit(name, value.as_deref()) {
                return;
            }
        }
    }
}

/// A record as it lies in the fetched batch: nothing copied, nothing parsed.
#[derive(Clone, Copy)]
pub struct RawRecord<'a> {
    /// topic
    pub topic: &'a str,
    /// partition
    pub partition: i32,
    /// offset
    pub offset: i64,
    /// milliseconds since the epoch
    pub timestamp_ms: Option<i64>,
    /// what the timestamp means
    pub timestamp_type: TimestampType,
    /// key bytes
    pub key: Option<&'a [u8]>,
    /// value bytes; `None` is a tombstone
    pub value: Option<&'a [u8]>,
    /// headers
    pub headers: &'a dyn RawHeaders,
}
