//! Source partition and offset, in Debezium's form, so that a connector can go on where Debezium stopped. Pure.
//!
//! ```text
//!   partition  {"server": PREFIX}
//!   offset     {"ts_usec", "txId", "lsn", "lsn_proc", "lsn_commit", "messageType"}                        of a change
//!              {"snapshot": true}                                                              within a snapshot
//!              {"ts_usec", "lsn", "snapshot": "INITIAL", "last_snapshot_record", "snapshot_completed"}    of its end
//! ```
//! `lsn_commit` is where the last transaction ends that is wholly before the record: streaming goes on from there.

use connect_api::record::SourceMap;
use serde_json::Value;
use std::sync::LazyLock;

/// The source partition of a connector.
pub(super) fn partition(prefix: &str) -> SourceMap {
    let mut partition = SourceMap::new();
    partition.insert("server".to_owned(), prefix.into());
    partition
}

/// How far a connector has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// nothing, or a part of the snapshot, is in Kafka
    Beginning,
    /// everything up to here is in Kafka
    From(u64),
}

impl Resume {
    /// Reads a committed offset, ours or Debezium's.
    pub(super) fn read(offset: Option<&SourceMap>) -> Self {
        let Some(offset) = offset else {
            return Resume::Beginning;
        };
        let is_true = |name: &str| offset.get(name) == Some(&Value::Bool(true));
        let in_snapshot = matches!(offset.get("snapshot"), Some(Value::String(_) | Value::Bool(true)));
        if in_snapshot && !is_true("last_snapshot_record") && !is_true("snapshot_completed") {
            return Resume::Beginning;
        }
        ["lsn_commit", "lsn_proc", "lsn"]
            .iter()
            .find_map(|name| offset.get(*name).and_then(Value::as_u64))
            .map_or(Resume::Beginning, Resume::From)
    }
}

/// The offset of a record within a snapshot: it says no more than that the snapshot must begin again, because every record
/// carries a copy.
pub(super) fn within_snapshot() -> SourceMap {
    let mut offset = SourceMap::new();
    offset.insert("snapshot".to_owned(), true.into());
    offset
}

/// The offset of the last record of a snapshot.
pub(super) fn end_of_snapshot(lsn: u64, micros: i64) -> SourceMap {
    let mut offset = SourceMap::new();
    offset.insert("ts_usec".to_owned(), micros.into());
    offset.insert("lsn".to_owned(), lsn.into());
    offset.insert("snapshot".to_owned(), "INITIAL".into());
    offset.insert("last_snapshot_record".to_owned(), true.into());
    offset.insert("snapshot_completed".to_owned(), true.into());
    offset
}

/// The place of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) lsn: u64,
    /// end of the last transaction before the change's own
    pub(super) last_commit: u64,
    pub(super) xid: u32,
    /// of the commit, since 1970
    pub(super) micros: i64,
}

/// The names in the offset of a change, in their order.
static CHANGE: LazyLock<SourceMap> = LazyLock::new(|| {
    let names = ["ts_usec", "txId", "lsn", "lsn_proc", "lsn_commit", "messageType"];
    names.map(|name| (name.to_owned(), Value::Null)).into_iter().collect()
});

/// The offset of a change: a copy of one that has the names, because every change has one.
pub(super) fn of_change(place: &Place, message_type: &str) -> SourceMap {
    let values: [Value; 6] = [
        place.micros.into(),
        place.xid.into(),
        place.lsn.into(),
        place.lsn.into(),
        place.last_commit.into(),
        message_type.into(),
    ];
    let mut offset = CHANGE.clone();
    for (slot, value) in offset.values_mut().zip(values) {
        *slot = value;
    }
    offset
}

/// The record ends its transaction at `end`: once it is in Kafka, all of it is.
pub(super) fn ends_transaction(offset: &mut SourceMap, end: u64) {
    offset.insert("lsn_commit".to_owned(), end.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Resume {
        Resume::read(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn where_to_go_on() {
        assert_eq!(Resume::read(None), Resume::Beginning);
        assert_eq!(Resume::read(Some(&within_snapshot())), Resume::Beginning);
        assert_eq!(Resume::read(Some(&end_of_snapshot(5, 1))), Resume::From(5));
        let place = Place {
            lsn: 9,
            last_commit: 7,
            xid: 1,
            micros: 0,
        };
        let mut offset = of_change(&place, "UPDATE");
        assert_eq!(
            serde_json::to_string(&offset).unwrap(),
            r#"{"ts_usec":0,"txId":1,"lsn":9,"lsn_proc":9,"lsn_commit":7,"messageType":"UPDATE"}"#
        );
        assert_eq!(Resume::read(Some(&offset)), Resume::From(7));
        ends_transaction(&mut offset, 10);
        assert_eq!(Resume::read(Some(&offset)), Resume::From(10));
    }

    /// Offsets that Debezium wrote.
    #[test]
    fn debezium_offsets_are_understood() {
        let streaming = r#"{"transaction_id":null,"lsn_proc":26738744,"messageType":"INSERT","lsn_commit":26738176,"lsn":26738744,"txId":739,"ts_usec":1700000000000000}"#;
        assert_eq!(read(streaming), Resume::From(26_738_176));
        let snapshot = r#"{"last_snapshot_record":true,"lsn":22,"txId":738,"ts_usec":1,"snapshot":"INITIAL","snapshot_completed":false}"#;
        assert_eq!(read(snapshot), Resume::From(22));
        let older = r#"{"last_snapshot_record":false,"lsn":22,"txId":738,"ts_usec":1,"snapshot":true}"#;
        assert_eq!(read(older), Resume::Beginning);
    }
}
