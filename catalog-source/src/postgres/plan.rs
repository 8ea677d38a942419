//! What a start does, from what is committed and what the replication slot holds. Pure.

use super::config::SnapshotMode;
use super::offset::Resume;

/// The connector's replication slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// there is none
    Missing,
    /// it holds all changes from here on
    Holds(u64),
    /// PostgreSQL has thrown away changes that it should have held (`wal_status` is lost)
    Lost,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// a snapshot, and changes from the slot's position on if `stream`
    Snapshot { slot: SnapshotSlot, stream: bool },
    /// changes from here on
    Stream(u64),
    /// changes from a slot that is made now on
    StreamNew,
    /// everything asked for is in Kafka
    Finished,
    /// changes after the committed offset are gone
    ChangesLost,
}

/// The slot that goes with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotSlot {
    /// made in the snapshot's transaction, in place of what is there
    New,
    /// there already, from before the snapshot: changes from here on come again, and bring every row to its newest state
    Existing(u64),
    /// none: nothing follows
    None,
}

/// Decides what a start does.
pub(super) fn plan(mode: SnapshotMode, resume: Resume, slot: Slot) -> Plan {
    let with_slot = match slot {
        Slot::Holds(from) => SnapshotSlot::Existing(from),
        Slot::Missing | Slot::Lost => SnapshotSlot::New,
    };
    let snapshot = Plan::Snapshot {
        slot: with_slot,
        stream: true,
    };
    match (mode, resume, slot) {
        (SnapshotMode::InitialOnly, Resume::From(_), _) => Plan::Finished,
        (SnapshotMode::InitialOnly, Resume::Beginning, _) => Plan::Snapshot {
            slot: SnapshotSlot::None,
            stream: false,
        },
        (SnapshotMode::Always, _, _) => snapshot,
        (_, Resume::From(lsn), Slot::Holds(_)) => Plan::Stream(lsn),
        (SnapshotMode::WhenNeeded, _, _) | (SnapshotMode::Initial, Resume::Beginning, _) => snapshot,
        (SnapshotMode::NoData, Resume::Beginning, Slot::Holds(from)) => Plan::Stream(from),
        (SnapshotMode::NoData, Resume::Beginning, Slot::Missing) => Plan::StreamNew,
        (SnapshotMode::NoData, _, _) | (SnapshotMode::Initial, Resume::From(_), _) => Plan::ChangesLost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [SnapshotMode; 5] = [
        SnapshotMode::Initial,
        SnapshotMode::InitialOnly,
        SnapshotMode::Always,
        SnapshotMode::WhenNeeded,
        SnapshotMode::NoData,
    ];

    #[test]
    fn nothing_is_skipped_in_silence() {
        for mode in MODES {
            for resume in [Resume::Beginning, Resume::From(7)] {
                for slot in [Slot::Missing, Slot::Holds(5), Slot::Lost] {
                    let plan = plan(mode, resume, slot);
                    // streaming goes on from the offset, and only from a slot that has it
                    if let Plan::Stream(from) = plan {
                        assert_ne!(slot, Slot::Missing, "{mode:?} {resume:?}");
                        assert_ne!(slot, Slot::Lost, "{mode:?} {resume:?}");
                        assert_eq!(from, if resume == Resume::Beginning { 5 } else { 7 });
                    }
                    // a new slot without a snapshot only where nobody had one and nothing was committed
                    if plan == Plan::StreamNew {
                        assert_eq!(
                            (mode, resume, slot),
                            (SnapshotMode::NoData, Resume::Beginning, Slot::Missing)
                        );
                    }
                    // where the slot has what follows the offset, only `always` repeats the snapshot
                    if resume == Resume::From(7) && slot == Slot::Holds(5) {
                        let repeats = matches!(plan, Plan::Snapshot { .. });
                        assert_eq!(repeats, mode == SnapshotMode::Always);
                    }
                }
            }
        }
    }

    #[test]
    fn an_interrupted_snapshot_begins_again_with_the_slot_it_had() {
        let again = Plan::Snapshot {
            slot: SnapshotSlot::Existing(5),
            stream: true,
        };
        assert_eq!(plan(SnapshotMode::Initial, Resume::Beginning, Slot::Holds(5)), again);
        assert_eq!(
            plan(SnapshotMode::Initial, Resume::From(7), Slot::Missing),
            Plan::ChangesLost
        );
        let new = Plan::Snapshot {
            slot: SnapshotSlot::New,
            stream: true,
        };
        assert_eq!(plan(SnapshotMode::WhenNeeded, Resume::From(7), Slot::Lost), new);
    }
}
