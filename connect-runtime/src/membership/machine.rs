//! What a member does next: a pure state machine over explicit time.
//!
//! ```text
//!            +------------------------------- rejoin: revoked first, unless it leads ---------------------------+
//!            v                                                                                                  |
//!   find -> Join --leader--> Deal --Dealt--> Sync --------------------------------------------------------> Stable
//!            |                                ^                                                                 |
//!            +--------------follower----------+                                        heartbeats in Deal, Stable
//!                                                                                      and while work is revoked
//! ```
//!
//! **Who may run what.** A follower gives up all its work before it joins: what it will get it learns only when others
//! may have begun to run the rest. A leader deals itself, so nobody begins before it has: it keeps its work while it
//! joins, and gives up what moves (or has changed) before it syncs. A member that the coordinator has not heard of for
//! its session timeout gives up everything, because others may run it by now.

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Times of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// `session.timeout.ms`
    pub session: Duration,
    /// `heartbeat.interval.ms`
    pub heartbeat: Duration,
    /// `worker.unsync.backoff.ms`
    pub unsync_backoff: Duration,
    /// `retry.backoff.ms`
    pub retry: Duration,
    /// `retry.backoff.max.ms`
    pub longest_retry: Duration,
}

/// How long leaving may take when the worker stops.
const LEAVE: Duration = Duration::from_secs(3);
/// Until the next try after a refusal that only a person can do something about.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// where it is
    FindCoordinator,
    /// JoinGroup; no member id on the first
    Join {
        /// member id
        member: String,
    },
    /// SyncGroup
    Sync {
        /// member id
        member: String,
        /// generation
        generation: i32,
        /// assignments by member id; none from a follower
        assignments: Vec<(String, Bytes)>,
    },
    /// Heartbeat
    Heartbeat {
        /// member id
        member: String,
        /// generation
        generation: i32,
    },
    /// LeaveGroup
    Leave {
        /// member id
        member: String,
    },
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// the coordinator is found and connected to
    Found,
    /// the member is in a generation
    Joined(Joined),
    /// what it is to run
    Synced(Bytes),
    /// a heartbeat, or leaving, was accepted
    Done,
    /// Kafka's error code, and the member id that came with it
    Refused {
        /// code
        code: i16,
        /// member id to join with
        member: String,
    },
    /// no answer, or none that can be read
    Unreachable,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// member id
    pub member: String,
    /// generation
    pub generation: i32,
    /// member id of the leader
    pub leader: String,
    /// member ids and metadata; for the leader only
    pub members: Vec<(String, Bytes)>,
}

/// What the herder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// This member leads: stop what it will not go on running, then answer [`Told::Dealt`].
    Deal {
        /// to be given back
        round: u64,
        /// own member id
        member: String,
        /// member ids and metadata of all
        members: Vec<(String, Bytes)>,
    },
    /// Run what the assignment says.
    Assigned {
        /// to be given back with [`Told::Unsynced`]
        round: u64,
        /// generation of the group
        generation: i32,
        /// whether this member leads
        leads: bool,
        /// the assignment
        assignment: Bytes,
    },
    /// Stop everything, then answer [`Told::Revoked`].
    Revoke {
        /// to be given back
        round: u64,
    },
    /// The coordinator refuses this member for a reason that retrying does not change.
    Refused(i16),
}

/// What the herder tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// the assignments of all members
    Dealt {
        /// of the notice
        round: u64,
        /// by member id
        assignments: Vec<(String, Bytes)>,
    },
    /// nothing runs any more
    Revoked {
        /// of the notice
        round: u64,
    },
    /// the group should deal again
    Rejoin,
    /// the config topic could not be read as far as the assignment wants: out of the group for a while
    Unsynced {
        /// of the notice
        round: u64,
    },
    /// leave the group; everything has been stopped
    Stop,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// send this, and give the answer to [`Membership::answered`]
    Send(Request),
    /// nothing until then, or until something is told or answered
    Wait(Option<Instant>),
    /// the member has left
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Join,
    Deal {
        round: u64,
    },
    Sync(Vec<(String, Bytes)>),
    Stable {
        round: u64,
    },
    /// leaving, until the deadline; then ended, or joining again after a while
    Leave {
        deadline: Instant,
        again: Option<Instant>,
    },
    Ended,
}

/// Whether the herder may be running something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    None,
    Held,
    Revoking { round: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Find,
    Join,
    Sync,
    Heartbeat,
    Leave,
}

/// A member of the group.
#[derive(Debug)]
pub struct Membership {
    timeouts: Timeouts,
    phase: Phase,
    work: Work,
    coordinator_known: bool,
    member: String,
    /// `None` while this is no member
    generation: Option<i32>,
    leads: bool,
    rejoin: bool,
    round: u64,
    in_flight: Option<(Kind, Instant)>,
    /// nothing is sent before
    not_before: Option<Instant>,
    failures: u32,
    /// the coordinator knew at this time that the member was alive
    alive: Instant,
    next_heartbeat: Instant,
    notices: VecDeque<Notice>,
}

impl Membership {
    /// A worker that is no member yet.
    pub fn new(timeouts: Timeouts, now: Instant) -> Self {
        Self {
            timeouts,
            phase: Phase::Join,
            work: Work::None,
            coordinator_known: false,
            member: String::new(),
            generation: None,
            leads: false,
            rejoin: false,
            round: 0,
            in_flight: None,
            not_before: None,
            failures: 0,
            alive: now,
            next_heartbeat: now,
            notices: VecDeque::new(),
        }
    }

    /// What the herder is to be told, oldest first.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// What is due at `now`.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(until) = self.awaited(now) {
            return Next::Wait(until);
        }
        if self.phase == Phase::Ended {
            return Next::Ended;
        }
        let session_end = self.session_end();
        if let Some(not_before) = self.not_before {
            if now < not_before {
                return Next::Wait(earliest(session_end, Some(not_before)));
            }
            self.not_before = None;
        }
        if !self.coordinator_known {
            return self.send(now, Kind::Find, Request::FindCoordinator);
        }
        match (&self.phase, self.generation) {
            (Phase::Leave { .. }, _) => {
                let member = self.member.clone();
                self.send(now, Kind::Leave, Request::Leave { member })
            }
            (Phase::Join, _) if self.may_join() => {
                let member = self.member.clone();
                self.send(now, Kind::Join, Request::Join { member })
            }
            (Phase::Sync(assignments), Some(generation)) if !matches!(self.work, Work::Revoking { .. }) => {
                let request = Request::Sync {
                    member: self.member.clone(),
                    generation,
                    assignments: assignments.clone(),
                };
                self.send(now, Kind::Sync, request)
            }
            (Phase::Stable { .. }, _) if self.rejoin => {
                self.join_again();
                self.next(now)
            }
            (_, Some(generation)) if now >= self.next_heartbeat => {
                let member = self.member.clone();
                self.send(now, Kind::Heartbeat, Request::Heartbeat { member, generation })
            }
            (_, Some(_)) => Next::Wait(earliest(session_end, Some(self.next_heartbeat))),
            (_, None) => Next::Wait(None),
        }
    }

    /// While a request is under way: until when its answer is waited for before something else is due (`None`: without
    /// end). `None` when it is not waited for any more, and is to be given up.
    pub fn awaited(&mut self, now: Instant) -> Option<Option<Instant>> {
        self.expire(now);
        let mut until = self.session_end();
        if let Phase::Leave { deadline, .. } = self.phase {
            if now >= deadline {
                self.left();
            }
            until = earliest(until, Some(deadline));
        }
        self.in_flight.map(|_| until)
    }

    /// Takes the answer to the request under way.
    pub fn answered(&mut self, now: Instant, answer: Answer) {
        let Some((kind, sent)) = self.in_flight.take() else {
            return;
        };
        if !matches!(answer, Answer::Refused { .. } | Answer::Unreachable) {
            self.failures = 0;
            self.coordinator_known = true;
        }
        match (kind, answer) {
            (Kind::Find, Answer::Found) => {}
            (Kind::Join, Answer::Joined(joined)) => self.joined(now, joined),
            (Kind::Sync, Answer::Synced(assignment)) => self.synced(now, assignment),
            (Kind::Heartbeat, Answer::Done) => self.alive = sent,
            (Kind::Leave, Answer::Done | Answer::Refused { .. }) => self.left(),
            (kind, Answer::Refused { code, member }) => self.refused(now, sent, kind, code, member),
            // an answer to something else cannot be relied on either
            (_, _) => {
                self.coordinator_known = false;
                self.back_off(now);
            }
        }
    }

    /// Takes what the herder says.
    pub fn told(&mut self, now: Instant, told: Told) {
        match told {
            Told::Dealt { round, assignments } if self.phase == (Phase::Deal { round }) => {
                self.phase = Phase::Sync(assignments);
            }
            Told::Revoked { round } if self.work == (Work::Revoking { round }) => self.work = Work::None,
            // an answer to a notice that something newer has overtaken
            Told::Dealt { .. } | Told::Revoked { .. } => {}
            Told::Rejoin => self.rejoin = true,
            Told::Unsynced { round } if self.phase == (Phase::Stable { round }) => {
                self.revoke();
                self.leave(now, Some(now + self.timeouts.unsync_backoff));
            }
            Told::Unsynced { .. } => {}
            Told::Stop => {
                self.work = Work::None;
                self.leave(now, None);
            }
        }
    }

    fn send(&mut self, now: Instant, kind: Kind, request: Request) -> Next {
        self.in_flight = Some((kind, now));
        if kind == Kind::Heartbeat {
            self.next_heartbeat = now + self.timeouts.heartbeat;
        }
        Next::Send(request)
    }

    /// When others may begin to run what this member holds.
    fn session_end(&self) -> Option<Instant> {
        (self.work == Work::Held).then(|| self.alive + self.timeouts.session)
    }

    fn expire(&mut self, now: Instant) {
        if self.session_end().is_some_and(|end| now >= end) {
            self.revoke();
            // what is known of the coordinator may be as old
            self.coordinator_known = false;
            if !matches!(self.phase, Phase::Leave { .. } | Phase::Ended) {
                self.phase = Phase::Join;
            }
        }
    }

    fn may_join(&self) -> bool {
        match self.work {
            Work::None => true,
            Work::Held => self.leads && self.generation.is_some(),
            Work::Revoking { .. } => false,
        }
    }

    fn join_again(&mut self) {
        self.rejoin = false;
        self.phase = Phase::Join;
        if !self.may_join() {
            self.revoke();
        }
    }

    fn revoke(&mut self) {
        if self.work == Work::Held {
            let round = self.next_round();
            self.work = Work::Revoking { round };
            self.notices.push_back(Notice::Revoke { round });
        }
    }

    fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    fn joined(&mut self, now: Instant, joined: Joined) {
        self.alive = now;
        self.rejoin = false;
        self.generation = Some(joined.generation);
        self.leads = joined.leader == joined.member;
        self.member = joined.member;
        self.next_heartbeat = now + self.timeouts.heartbeat;
        if self.leads {
            let round = self.next_round();
            self.phase = Phase::Deal { round };
            self.notices.push_back(Notice::Deal {
                round,
                member: self.member.clone(),
                members: joined.members,
            });
        } else {
            self.revoke();
            self.phase = Phase::Sync(Vec::new());
        }
    }

    fn synced(&mut self, now: Instant, assignment: Bytes) {
        let (Phase::Sync(_), Some(generation)) = (&self.phase, self.generation) else {
            return;
        };
        self.alive = now;
        self.next_heartbeat = now + self.timeouts.heartbeat;
        let round = self.next_round();
        self.phase = Phase::Stable { round };
        self.work = Work::Held;
        self.notices.push_back(Notice::Assigned {
            round,
            generation,
            leads: self.leads,
            assignment,
        });
    }

    /// What each of Kafka's error codes means here.
    fn refused(&mut self, now: Instant, sent: Instant, kind: Kind, code: i16, member: String) {
        match code {
            REBALANCE_IN_PROGRESS => {
                self.alive = self.alive.max(sent);
                match (kind, &self.phase) {
                    // known: this member is about to join
                    (Kind::Heartbeat, Phase::Join | Phase::Leave { .. }) => {}
                    (Kind::Join, _) => self.back_off(now),
                    _ => self.join_again(),
                }
            }
            MEMBER_ID_REQUIRED => self.member = member,
            UNKNOWN_MEMBER_ID => {
                self.member.clear();
                self.lost();
            }
            ILLEGAL_GENERATION | FENCED_INSTANCE_ID => self.lost(),
            COORDINATOR_LOAD_IN_PROGRESS => self.back_off(now),
            COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => {
                self.coordinator_known = false;
                self.back_off(now);
            }
            code => {
                self.notices.push_back(Notice::Refused(code));
                self.lost();
                self.not_before = Some(now + REFUSED_RETRY);
            }
        }
    }

    /// The coordinator does not count this member among those of its generation.
    fn lost(&mut self) {
        self.generation = None;
        self.leads = false;
        if !matches!(self.phase, Phase::Leave { .. }) {
            self.join_again();
        }
    }

    fn leave(&mut self, now: Instant, again: Option<Instant>) {
        self.phase = Phase::Leave {
            deadline: now + LEAVE,
            again,
        };
        self.not_before = None;
        // a join or sync may last as long as a rebalance: not waited for
        self.in_flight = None;
        // one that the coordinator does not know has nothing to leave, and one that is nowhere cannot be told
        if self.member.is_empty() || !self.coordinator_known {
            self.left();
        }
    }

    fn left(&mut self) {
        let Phase::Leave { again, .. } = self.phase else { return };
        self.member.clear();
        self.generation = None;
        self.leads = false;
        self.in_flight = None;
        self.not_before = again;
        self.phase = match again {
            Some(_) => Phase::Join,
            None => Phase::Ended,
        };
    }

    fn back_off(&mut self, now: Instant) {
        let factor = 1_u32 << self.failures.min(16);
        self.failures += 1;
        let delay = self.timeouts.retry.saturating_mul(factor);
        self.not_before = Some(now + delay.min(self.timeouts.longest_retry));
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

// org.apache.kafka.common.protocol.Errors
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;

/// What a refusal that only a person can do something about means.
pub fn explained(code: i16) -> &'static str {
    match code {
        23 => {
            "INCONSISTENT_GROUP_PROTOCOL: the group has members that are no Connect workers, or that do not offer the \
             eager protocol; choose another group.id"
        }
        24 => "INVALID_GROUP_ID: group.id is empty or not allowed",
        26 => {
            "INVALID_SESSION_TIMEOUT: session.timeout.ms must lie between the broker's group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        30 => "GROUP_AUTHORIZATION_FAILED: the worker's principal needs READ on group.id",
        81 => "GROUP_MAX_SIZE_REACHED: the broker's group.max.size allows no more members",
        _ => "see org.apache.kafka.common.protocol.Errors",
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
