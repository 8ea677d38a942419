//! Whether a position in a server's log still means what it meant. Pure.
//!
//! ```text
//!   IDENTIFY_SYSTEM     system identifier, timeline, end of the log
//!   TIMELINE_HISTORY n  where each earlier timeline was left
//!   committed position -.
//!   slot's position -----+--> Gap: why the changes behind the committed position cannot be read
//! ```
//! A server that was restored from a backup, or a standby that took over without having seen everything, starts a new
//! timeline where it left the old one; positions beyond that point name other changes, or none. (PostgreSQL documentation,
//! "Continuous Archiving: Timelines".)

use std::fmt;

/// Which log a position belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct History {
    /// of the cluster, made by initdb
    pub(super) system: u64,
    pub(super) timeline: u32,
}

impl History {
    /// Reads `SYSTEM/TIMELINE`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (system, timeline) = text.split_once('/')?;
        Some(Self {
            system: system.parse().ok()?,
            timeline: timeline.parse().ok()?,
        })
    }
}

impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.system, self.timeline)
    }
}

/// A position in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) lsn: u64,
    /// `None` where nobody wrote it down (Debezium does not)
    pub(super) history: Option<History>,
}

/// The log as the server has it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServerLog {
    pub(super) history: History,
    /// end of what is written
    pub(super) end: u64,
    /// earlier timelines with where they were left
    pub(super) left: Vec<(u32, u64)>,
}

/// Why the changes behind a committed position cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// there is no slot
    SlotMissing,
    /// PostgreSQL has thrown away what the slot should have held (`max_slot_wal_keep_size`)
    SlotLost,
    /// the slot holds changes from here on only: it was made again, or advanced, or the offset was set back
    SlotAhead(u64),
    /// the log ends before the committed position
    LogEndsBefore(u64),
    /// another cluster, made by another initdb
    OtherServer,
    /// the committed position lies on a timeline that was left before it
    OtherTimeline { left_at: Option<u64> },
}

impl ServerLog {
    /// Why `committed` names nothing in this log, if so.
    pub(super) fn gap_at(&self, committed: &Position) -> Option<Gap> {
        if let Some(history) = committed.history {
            if history.system != self.history.system {
                return Some(Gap::OtherServer);
            }
            if history.timeline != self.history.timeline {
                let left = self.left.iter().find(|(timeline, _)| *timeline == history.timeline);
                let left_at = left.map(|(_, at)| *at);
                if left_at.is_none_or(|left_at| left_at < committed.lsn) {
                    return Some(Gap::OtherTimeline { left_at });
                }
            }
        }
        (self.end < committed.lsn).then_some(Gap::LogEndsBefore(self.end))
    }
}

/// The content of a timeline's history file: timelines with where they were left.
pub(super) fn timelines(file: &str) -> Vec<(u32, u64)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, super::server::parse_lsn(fields.next()?)?))
    };
    file.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(timeline: u32, end: u64, left: &[(u32, u64)]) -> ServerLog {
        ServerLog {
            history: History { system: 7, timeline },
            end,
            left: left.to_vec(),
        }
    }

    fn at(lsn: u64, history: Option<(u64, u32)>) -> Position {
        let history = history.map(|(system, timeline)| History { system, timeline });
        Position { lsn, history }
    }

    #[test]
    fn positions_that_name_nothing_are_found() {
        let grown = log(3, 100, &[(1, 40), (2, 60)]);
        assert_eq!(grown.gap_at(&at(100, Some((7, 3)))), None);
        assert_eq!(grown.gap_at(&at(101, Some((7, 3)))), Some(Gap::LogEndsBefore(100)));
        assert_eq!(grown.gap_at(&at(101, None)), Some(Gap::LogEndsBefore(100)));
        assert_eq!(grown.gap_at(&at(90, None)), None);
        assert_eq!(grown.gap_at(&at(40, Some((7, 1)))), None);
        assert_eq!(
            grown.gap_at(&at(41, Some((7, 1)))),
            Some(Gap::OtherTimeline { left_at: Some(40) })
        );
        assert_eq!(grown.gap_at(&at(60, Some((7, 2)))), None);
        // from a timeline that this server never had: the new one was left behind
        assert_eq!(
            grown.gap_at(&at(10, Some((7, 4)))),
            Some(Gap::OtherTimeline { left_at: None })
        );
        assert_eq!(grown.gap_at(&at(10, Some((8, 3)))), Some(Gap::OtherServer));
    }

    #[test]
    fn history_files_are_read() {
        let file =
            "1\t0/3000000\tno recovery target specified\n\n2\t16/B374D848\tbefore 2000-01-01 00:00:00+00\n# nonsense\n";
        assert_eq!(timelines(file), [(1, 0x300_0000), (2, 0x16_B374_D848)]);
    }

    proptest! {
        #[test]
        fn histories_come_back(system in any::<u64>(), timeline in any::<u32>()) {
            let history = History { system, timeline };
            prop_assert_eq!(History::parse(&history.to_string()), Some(history));
        }

        /// Along one line of timelines a position is lost exactly if its timeline was left before it.
        #[test]
        fn a_position_is_lost_if_its_timeline_was_left_before_it(
            lengths in proptest::collection::vec(1_u64..100, 1..5), on in any::<prop::sample::Index>(), lsn in 0_u64..500,
        ) {
            let mut end = 0;
            let ends: Vec<u64> = lengths.iter().map(|length| { end += length; end }).collect();
            let newest = lengths.len() as u32;
            let left: Vec<(u32, u64)> = (1..newest).zip(ends.iter().copied()).collect();
            let timeline = on.index(lengths.len()) as u32 + 1;
            let gap = log(newest, end, &left).gap_at(&at(lsn, Some((7, timeline))));
            prop_assert_eq!(gap.is_some(), lsn > ends[timeline as usize - 1]);
        }
    }
}
