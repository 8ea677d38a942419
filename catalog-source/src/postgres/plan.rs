//! What a start does, from what is committed, what the replication slot holds and where the server's log is. Pure.

use super::config::{MismatchStrategy, SnapshotMode};
use super::history::{Gap, ServerLog};
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
    /// a snapshot, and changes from the slot's position on if `stream`; `gap` is why changes are missing without it
    Snapshot {
        slot: SnapshotSlot,
        stream: bool,
        gap: Option<Gap>,
    },
    /// changes from here on; `gap` is why those before may be missing, which the user has accepted
    Stream { from: u64, gap: Option<Gap> },
    /// changes from a slot that is made now on; `gap` likewise
    StreamNew { gap: Option<Gap> },
    /// everything asked for is in Kafka
    Finished,
    /// changes after the committed offset are gone
    ChangesLost(Gap),
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

/// What the user has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choices {
    pub(super) mode: SnapshotMode,
    pub(super) mismatch: MismatchStrategy,
    /// the connector itself drops the slot when its task stops
    pub(super) drops_slot: bool,
}

/// Decides what a start does.
pub(super) fn plan(choices: Choices, resume: Resume, slot: Slot, log: &ServerLog) -> Plan {
    let snapshot = |gap| Plan::Snapshot {
        slot: match slot {
            Slot::Holds(from) => SnapshotSlot::Existing(from),
            Slot::Missing | Slot::Lost => SnapshotSlot::New,
        },
        stream: true,
        gap,
    };
    let committed = match (choices.mode, resume) {
        (SnapshotMode::InitialOnly, Resume::From(_)) => return Plan::Finished,
        (SnapshotMode::InitialOnly, Resume::Beginning) => {
            return Plan::Snapshot {
                slot: SnapshotSlot::None,
                stream: false,
                gap: None,
            };
        }
        (SnapshotMode::Always, _) | (SnapshotMode::Initial | SnapshotMode::WhenNeeded, Resume::Beginning) => {
            return snapshot(None);
        }
        (SnapshotMode::NoData, Resume::Beginning) => {
            return match slot {
                Slot::Holds(from) => Plan::Stream { from, gap: None },
                Slot::Missing => Plan::StreamNew { gap: None },
                Slot::Lost => Plan::ChangesLost(Gap::SlotLost),
            };
        }
        (SnapshotMode::Initial | SnapshotMode::WhenNeeded | SnapshotMode::NoData, Resume::From(committed)) => committed,
    };
    let gap = match (log.gap_at(&committed), slot) {
        (Some(gap), _) => gap,
        (None, Slot::Missing) => Gap::SlotMissing,
        (None, Slot::Lost) => Gap::SlotLost,
        (None, Slot::Holds(from)) if from > committed.lsn => Gap::SlotAhead(from),
        (None, Slot::Holds(_)) => {
            return Plan::Stream {
                from: committed.lsn,
                gap: None,
            };
        }
    };
    // the connector's own doing, or the user's word that the slot is right
    match (gap, choices.mode) {
        (Gap::SlotMissing, SnapshotMode::NoData) if choices.drops_slot => Plan::StreamNew { gap: Some(gap) },
        (Gap::SlotMissing, _) if choices.drops_slot => snapshot(Some(gap)),
        (Gap::SlotAhead(from), _) if choices.mismatch == MismatchStrategy::TrustSlot => {
            Plan::Stream { from, gap: Some(gap) }
        }
        (_, SnapshotMode::WhenNeeded) => snapshot(Some(gap)),
        _ => Plan::ChangesLost(gap),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{History, Position};
    use super::*;

    const MODES: [SnapshotMode; 5] = [
        SnapshotMode::Initial,
        SnapshotMode::InitialOnly,
        SnapshotMode::Always,
        SnapshotMode::WhenNeeded,
        SnapshotMode::NoData,
    ];
    const SLOTS: [Slot; 5] = [
        Slot::Missing,
        Slot::Holds(5),
        Slot::Holds(7),
        Slot::Holds(9),
        Slot::Lost,
    ];
    const HISTORY: History = History { system: 7, timeline: 1 };

    fn log(end: u64) -> ServerLog {
        ServerLog {
            history: HISTORY,
            end,
            left: Vec::new(),
        }
    }

    fn choices(mode: SnapshotMode) -> Choices {
        Choices {
            mode,
            mismatch: MismatchStrategy::TrustOffset,
            drops_slot: false,
        }
    }

    fn from(lsn: u64) -> Resume {
        Resume::From(Position {
            lsn,
            history: Some(HISTORY),
        })
    }

    /// Over everything that can be there: streaming alone goes on from the offset only where the slot and the log hold every
    /// change behind it, and whatever is missing is said.
    #[test]
    fn nothing_is_skipped_in_silence() {
        for mode in MODES {
            for mismatch in [MismatchStrategy::TrustOffset, MismatchStrategy::TrustSlot] {
                for drops_slot in [false, true] {
                    for resume in [Resume::Beginning, from(7)] {
                        for slot in SLOTS {
                            for end in [6, 7, 20] {
                                let choices = Choices {
                                    mode,
                                    mismatch,
                                    drops_slot,
                                };
                                let made = plan(choices, resume, slot, &log(end));
                                let case = format!("{choices:?} {resume:?} {slot:?} {end}: {made:?}");
                                let holds_all = matches!(slot, Slot::Holds(5 | 7)) && end >= 7;
                                match made {
                                    Plan::Stream { from: 7, gap: None } if resume == from(7) => {
                                        assert!(holds_all, "{case}")
                                    }
                                    Plan::Stream { from, gap: None } => {
                                        assert_eq!((resume, slot), (Resume::Beginning, Slot::Holds(from)), "{case}");
                                    }
                                    Plan::Stream { from, gap: Some(gap) } => {
                                        assert_eq!(
                                            (mismatch, gap),
                                            (MismatchStrategy::TrustSlot, Gap::SlotAhead(from)),
                                            "{case}"
                                        );
                                    }
                                    Plan::StreamNew { gap: None } => {
                                        assert_eq!((resume, slot), (Resume::Beginning, Slot::Missing), "{case}");
                                    }
                                    Plan::StreamNew { gap: Some(gap) } => {
                                        assert_eq!((drops_slot, gap), (true, Gap::SlotMissing), "{case}");
                                    }
                                    Plan::Snapshot { gap, stream, .. } => {
                                        let asked = mode == SnapshotMode::Always || resume == Resume::Beginning;
                                        assert!(asked || gap.is_some(), "{case}");
                                        assert_eq!(stream, mode != SnapshotMode::InitialOnly, "{case}");
                                    }
                                    Plan::ChangesLost(_) => {
                                        assert!(!holds_all && mode != SnapshotMode::WhenNeeded, "{case}");
                                    }
                                    Plan::Finished => {
                                        assert_eq!((mode, resume), (SnapshotMode::InitialOnly, from(7)), "{case}");
                                    }
                                }
                                // where everything is there, only `always` takes the snapshot again
                                if resume == from(7) && holds_all && mode != SnapshotMode::InitialOnly {
                                    let again = matches!(made, Plan::Snapshot { .. });
                                    assert_eq!(again, mode == SnapshotMode::Always, "{case}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_interrupted_snapshot_begins_again_with_the_slot_it_had() {
        let snapshot = |slot, gap| Plan::Snapshot {
            slot,
            stream: true,
            gap,
        };
        let initial = choices(SnapshotMode::Initial);
        assert_eq!(
            plan(initial, Resume::Beginning, Slot::Holds(5), &log(20)),
            snapshot(SnapshotSlot::Existing(5), None)
        );
        assert_eq!(
            plan(initial, from(7), Slot::Missing, &log(20)),
            Plan::ChangesLost(Gap::SlotMissing)
        );
        let needed = choices(SnapshotMode::WhenNeeded);
        assert_eq!(
            plan(needed, from(7), Slot::Lost, &log(20)),
            snapshot(SnapshotSlot::New, Some(Gap::SlotLost))
        );
        assert_eq!(
            plan(needed, from(7), Slot::Holds(9), &log(20)),
            snapshot(SnapshotSlot::Existing(9), Some(Gap::SlotAhead(9)))
        );
    }
}
