//! Source partition and offset, in Debezium's form, so that a connector can go on where Debezium stopped, and Debezium where
//! this one did. Pure.
//!
//! ```text
//!   partition  {"server": PREFIX}
//!   offset     {"ts_usec", "txId", "lsn", "lsn_proc", "lsn_commit", "messageType", "timeline"}          of a change
//!              {"ts_usec", "lsn", "lsn_proc", "lsn_commit", "messageType": "COMMIT", "timeline"}        between transactions
//!              {"snapshot": true}                                                                       within a snapshot
//!              {"ts_usec", "lsn", "snapshot": "INITIAL", "last_snapshot_record", "snapshot_completed", "timeline"}   of its end
//! ```
//! `lsn_commit` is where the last transaction ends that is wholly before the record: streaming goes on from there. Debezium
//! asks PostgreSQL for everything after `lsn_proc`, and skips what is not behind it: the record before the one that is under
//! way, where a change makes several. `timeline` is this connector's own: Debezium neither writes nor reads it.

use super::history::{History, Position};
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
    From(Position),
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
        let number = |name: &str| offset.get(name).and_then(Value::as_u64);
        let (commit, change) = (number("lsn_commit"), number("lsn"));
        let Some(lsn) = commit.or_else(|| number("lsn_proc")).or(change) else {
            return Resume::Beginning;
        };
        // a message outside of transactions has nothing behind it: its own position is where it begins
        let alone = offset.get("messageType").and_then(Value::as_str) == Some(MESSAGE) && commit == change;
        Resume::From(Position {
            lsn: if alone { lsn.saturating_add(1) } else { lsn },
            history: offset.get("timeline").and_then(Value::as_str).and_then(History::parse),
        })
    }
}

/// `messageType` of what `pg_logical_emit_message` wrote.
pub(super) const MESSAGE: &str = "MESSAGE";

/// The offset of a record within a snapshot: it says no more than that the snapshot must begin again, because every record
/// carries a copy.
pub(super) fn within_snapshot() -> SourceMap {
    let mut offset = SourceMap::new();
    offset.insert("snapshot".to_owned(), true.into());
    offset
}

/// The offset of the last record of a snapshot.
pub(super) fn end_of_snapshot(position: &Position, micros: i64) -> SourceMap {
    let mut offset = SourceMap::new();
    offset.insert("ts_usec".to_owned(), micros.into());
    offset.insert("lsn".to_owned(), position.lsn.into());
    offset.insert("snapshot".to_owned(), "INITIAL".into());
    offset.insert("last_snapshot_record".to_owned(), true.into());
    offset.insert("snapshot_completed".to_owned(), true.into());
    insert_history(&mut offset, position.history);
    offset
}

/// The offset of a place between two transactions. Its type is that of a commit, for which Debezium takes everything that
/// begins exactly here.
pub(super) fn between_transactions(position: &Position, micros: i64) -> SourceMap {
    let mut offset = SourceMap::new();
    offset.insert("ts_usec".to_owned(), micros.into());
    for name in ["lsn", "lsn_proc", "lsn_commit"] {
        offset.insert(name.to_owned(), position.lsn.into());
    }
    offset.insert("messageType".to_owned(), "COMMIT".into());
    insert_history(&mut offset, position.history);
    offset
}

fn insert_history(offset: &mut SourceMap, history: Option<History>) {
    if let Some(history) = history {
        offset.insert("timeline".to_owned(), history.to_string().into());
    }
}

/// The place of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) lsn: u64,
    /// of the last change that has all its records in Kafka together with the record
    pub(super) processed: u64,
    /// end of the last transaction before the change's own
    pub(super) last_commit: u64,
    pub(super) xid: Option<u32>,
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
        place.xid.map_or(Value::Null, Value::from),
        place.lsn.into(),
        place.processed.into(),
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
pub(super) fn ends_transaction(offset: &mut SourceMap, end: &Position) {
    offset.insert("lsn_commit".to_owned(), end.lsn.into());
    insert_history(offset, end.history);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: History = History { system: 7, timeline: 2 };

    fn read(json: &str) -> Resume {
        Resume::read(Some(&serde_json::from_str(json).unwrap()))
    }

    fn from(lsn: u64, history: Option<History>) -> Resume {
        Resume::From(Position { lsn, history })
    }

    fn at(lsn: u64) -> Position {
        Position {
            lsn,
            history: Some(HISTORY),
        }
    }

    #[test]
    fn where_to_go_on() {
        assert_eq!(Resume::read(None), Resume::Beginning);
        assert_eq!(Resume::read(Some(&within_snapshot())), Resume::Beginning);
        assert_eq!(Resume::read(Some(&end_of_snapshot(&at(5), 1))), from(5, Some(HISTORY)));
        assert_eq!(
            Resume::read(Some(&between_transactions(&at(5), 1))),
            from(5, Some(HISTORY))
        );
        let place = Place {
            lsn: 9,
            processed: 8,
            last_commit: 7,
            xid: Some(1),
            micros: 0,
        };
        let mut offset = of_change(&place, "UPDATE");
        assert_eq!(
            serde_json::to_string(&offset).unwrap(),
            r#"{"ts_usec":0,"txId":1,"lsn":9,"lsn_proc":8,"lsn_commit":7,"messageType":"UPDATE"}"#
        );
        assert_eq!(Resume::read(Some(&offset)), from(7, None));
        ends_transaction(&mut offset, &at(10));
        assert_eq!(Resume::read(Some(&offset)), from(10, Some(HISTORY)));
    }

    /// Offsets that Debezium 3.6.1 wrote.
    #[test]
    fn debezium_offsets_are_understood() {
        let streaming = r#"{"transaction_id":null,"lsn_proc":26738744,"messageType":"INSERT","lsn_commit":26738176,"lsn":26738744,"txId":739,"ts_usec":1700000000000000}"#;
        assert_eq!(read(streaming), from(26_738_176, None));
        // of the first transaction after the snapshot: nothing was committed before it
        let first =
            r#"{"lsn_proc":49591624,"messageType":"UPDATE","lsn":49591624,"txId":968,"ts_usec":1796022953425315}"#;
        assert_eq!(read(first), from(49_591_624, None));
        let snapshot = r#"{"last_snapshot_record":true,"lsn":22,"txId":738,"ts_usec":1,"snapshot":"INITIAL","snapshot_completed":false}"#;
        assert_eq!(read(snapshot), from(22, None));
        let older = r#"{"last_snapshot_record":false,"lsn":22,"txId":738,"ts_usec":1,"snapshot":true}"#;
        assert_eq!(read(older), Resume::Beginning);
        // a message that stands alone: everything behind its beginning
        let message =
            r#"{"lsn_proc":49592408,"messageType":"MESSAGE","lsn_commit":49592408,"lsn":49592408,"ts_usec":1}"#;
        assert_eq!(read(message), from(49_592_409, None));
    }
}
