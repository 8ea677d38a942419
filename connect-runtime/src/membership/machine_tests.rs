use super::*;
use proptest::prelude::*;

const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(3);

fn membership(now: Instant) -> Membership {
    let timeouts = Timeouts {
        session: SESSION,
        heartbeat: HEARTBEAT,
        unsync_backoff: Duration::from_secs(300),
        retry: Duration::from_millis(100),
        longest_retry: Duration::from_secs(1),
    };
    Membership::new(timeouts, now)
}

fn refused(code: i16) -> Answer {
    Answer::Refused {
        code,
        member: String::new(),
    }
}

fn joined(leader: &str) -> Answer {
    Answer::Joined(Joined {
        member: "me".to_owned(),
        generation: 4,
        leader: leader.to_owned(),
        members: vec![("me".to_owned(), Bytes::from_static(b"metadata"))],
    })
}

fn join_request() -> Request {
    Request::Join {
        member: "me".to_owned(),
    }
}

/// Sends what is due, which must be `request`, and answers it.
#[track_caller]
fn exchange(member: &mut Membership, now: Instant, request: &Request, answer: Answer) {
    assert_eq!(member.next(now), Next::Send(request.clone()));
    member.answered(now, answer);
}

fn joining(now: Instant, leader: &str) -> Membership {
    let mut member = membership(now);
    exchange(&mut member, now, &Request::FindCoordinator, Answer::Found);
    let with_id = Answer::Refused {
        code: MEMBER_ID_REQUIRED,
        member: "me".to_owned(),
    };
    exchange(&mut member, now, &Request::Join { member: String::new() }, with_id);
    exchange(&mut member, now, &join_request(), joined(leader));
    member
}

fn sync(assignments: Vec<(String, Bytes)>) -> Request {
    Request::Sync {
        member: "me".to_owned(),
        generation: 4,
        assignments,
    }
}

fn heartbeat() -> Request {
    Request::Heartbeat {
        member: "me".to_owned(),
        generation: 4,
    }
}

/// A follower that runs something.
fn follower(now: Instant) -> Membership {
    let mut member = joining(now, "other");
    exchange(
        &mut member,
        now,
        &sync(vec![]),
        Answer::Synced(Bytes::from_static(b"work")),
    );
    let notice = member.notice().unwrap();
    assert!(
        matches!(
            notice,
            Notice::Assigned {
                generation: 4,
                leads: false,
                ..
            }
        ),
        "{notice:?}"
    );
    member
}

/// A leader that runs something.
fn leader(now: Instant) -> Membership {
    let mut member = joining(now, "me");
    deal(&mut member, now);
    member
}

fn deal(member: &mut Membership, now: Instant) {
    let Some(Notice::Deal { round, members, .. }) = member.notice() else {
        panic!("nothing to deal")
    };
    assert_eq!(members.len(), 1);
    assert!(
        matches!(member.next(now), Next::Wait(Some(_))),
        "syncs before it has dealt"
    );
    let assignments = vec![("me".to_owned(), Bytes::from_static(b"all"))];
    member.told(
        now,
        Told::Dealt {
            round,
            assignments: assignments.clone(),
        },
    );
    exchange(
        member,
        now,
        &sync(assignments),
        Answer::Synced(Bytes::from_static(b"all")),
    );
    assert!(matches!(member.notice(), Some(Notice::Assigned { leads: true, .. })));
}

fn revoked(member: &mut Membership) -> u64 {
    match member.notice() {
        Some(Notice::Revoke { round }) => round,
        other => panic!("not revoked: {other:?}"),
    }
}

#[test]
fn heartbeats_are_sent_when_due() {
    let now = Instant::now();
    let mut member = follower(now);
    assert_eq!(member.next(now), Next::Wait(Some(now + HEARTBEAT)));
    exchange(&mut member, now + HEARTBEAT, &heartbeat(), Answer::Done);
    assert_eq!(member.next(now + HEARTBEAT), Next::Wait(Some(now + HEARTBEAT * 2)));
}

#[test]
fn a_follower_gives_up_its_work_before_it_joins_and_goes_on_with_heartbeats_meanwhile() {
    let mut now = Instant::now();
    let mut member = follower(now);
    now += HEARTBEAT;
    exchange(&mut member, now, &heartbeat(), refused(REBALANCE_IN_PROGRESS));
    let round = revoked(&mut member);
    for _ in 0..5 {
        now += HEARTBEAT;
        exchange(&mut member, now, &heartbeat(), refused(REBALANCE_IN_PROGRESS));
        assert_eq!(member.notice(), None);
    }
    member.told(now, Told::Revoked { round: round + 1 });
    assert!(matches!(member.next(now), Next::Wait(_)), "another round's word counts");
    member.told(now, Told::Revoked { round });
    exchange(&mut member, now, &join_request(), joined("other"));
}

#[test]
fn a_leader_keeps_its_work_while_it_joins() {
    let now = Instant::now();
    let mut member = leader(now);
    member.told(now, Told::Rejoin);
    exchange(&mut member, now, &join_request(), joined("me"));
    deal(&mut member, now);
    assert_eq!(member.notice(), None);
}

#[test]
fn a_leader_that_leads_no_more_gives_up_its_work_before_it_syncs() {
    let now = Instant::now();
    let mut member = leader(now);
    member.told(now, Told::Rejoin);
    exchange(&mut member, now, &join_request(), joined("other"));
    let round = revoked(&mut member);
    assert!(matches!(member.next(now), Next::Wait(_)));
    member.told(now, Told::Revoked { round });
    exchange(&mut member, now, &sync(vec![]), Answer::Synced(Bytes::new()));
}

#[test]
fn a_member_that_is_not_heard_of_gives_up_its_work_when_its_session_ends() {
    let now = Instant::now();
    for mut member in [follower(now), leader(now)] {
        assert_eq!(member.next(now + HEARTBEAT), Next::Send(heartbeat()));
        member.answered(now + HEARTBEAT, Answer::Unreachable);
        let mut at = now + HEARTBEAT;
        while at < now + SESSION {
            assert_eq!(member.notice(), None, "too early");
            match member.next(at) {
                Next::Send(request) => {
                    assert_eq!(request, Request::FindCoordinator);
                    member.answered(at, Answer::Unreachable);
                }
                Next::Wait(Some(until)) => at = until,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at, now + SESSION);
        member.next(at);
        revoked(&mut member);
    }
}

#[test]
fn a_leader_gives_up_its_work_when_a_join_lasts_longer_than_its_session() {
    let now = Instant::now();
    let mut member = leader(now);
    member.told(now, Told::Rejoin);
    assert_eq!(member.next(now), Next::Send(join_request()));
    assert_eq!(member.awaited(now), Some(Some(now + SESSION)));
    assert_eq!(member.awaited(now + SESSION), Some(None), "the join itself goes on");
    revoked(&mut member);
    member.answered(now + SESSION, joined("me"));
    assert!(matches!(member.notice(), Some(Notice::Deal { .. })));
}

#[test]
fn a_member_that_wakes_after_its_session_gives_up_its_work_before_anything_else() {
    let now = Instant::now();
    let mut member = follower(now);
    let later = now + SESSION * 6;
    let next = member.next(later);
    revoked(&mut member);
    assert_eq!(next, Next::Send(Request::FindCoordinator));
}

#[test]
fn a_member_that_is_unknown_comes_back_as_a_new_one() {
    let now = Instant::now() + HEARTBEAT;
    let mut member = follower(now - HEARTBEAT);
    exchange(&mut member, now, &heartbeat(), refused(UNKNOWN_MEMBER_ID));
    let round = revoked(&mut member);
    assert_eq!(member.next(now), Next::Wait(None));
    member.told(now, Told::Revoked { round });
    assert_eq!(member.next(now), Next::Send(Request::Join { member: String::new() }));
}

#[test]
fn a_coordinator_that_moves_is_found_again_and_work_goes_on() {
    let now = Instant::now() + HEARTBEAT;
    let mut member = follower(now - HEARTBEAT);
    exchange(&mut member, now, &heartbeat(), refused(NOT_COORDINATOR));
    let Next::Wait(Some(retry)) = member.next(now) else {
        panic!("no back-off")
    };
    exchange(&mut member, retry, &Request::FindCoordinator, Answer::Found);
    exchange(&mut member, now + HEARTBEAT, &heartbeat(), Answer::Done);
    assert_eq!(member.notice(), None);
}

#[test]
fn a_member_that_cannot_read_so_far_leaves_for_a_while() {
    let now = Instant::now();
    let mut member = joining(now, "other");
    exchange(
        &mut member,
        now,
        &sync(vec![]),
        Answer::Synced(Bytes::from_static(b"work")),
    );
    let Some(Notice::Assigned { round, .. }) = member.notice() else {
        panic!("not assigned")
    };
    member.told(now, Told::Unsynced { round });
    let revoking = revoked(&mut member);
    exchange(
        &mut member,
        now,
        &Request::Leave {
            member: "me".to_owned(),
        },
        Answer::Done,
    );
    member.told(now, Told::Revoked { round: revoking });
    let back = now + Duration::from_secs(300);
    assert_eq!(member.next(now), Next::Wait(Some(back)));
    assert_eq!(member.next(back), Next::Send(Request::Join { member: String::new() }));
}

#[test]
fn a_stop_does_not_wait_for_a_join_and_ends_in_time() {
    let now = Instant::now();
    let mut member = leader(now);
    member.told(now, Told::Rejoin);
    assert_eq!(member.next(now), Next::Send(join_request()));
    member.told(now, Told::Stop);
    assert_eq!(member.awaited(now), None);
    assert_eq!(
        member.next(now),
        Next::Send(Request::Leave {
            member: "me".to_owned()
        })
    );
    assert_eq!(member.next(now + LEAVE), Next::Ended);
    // one that never joined has nothing to leave
    let mut stranger = membership(now);
    stranger.told(now, Told::Stop);
    assert_eq!(stranger.next(now), Next::Ended);
}

#[test]
fn a_stop_without_a_coordinator_waits_for_nothing() {
    let now = Instant::now();
    let mut member = follower(now);
    exchange(&mut member, now + HEARTBEAT, &heartbeat(), Answer::Unreachable);
    member.told(now + HEARTBEAT, Told::Stop);
    assert_eq!(member.next(now + HEARTBEAT), Next::Ended);
}

#[test]
fn a_refusal_that_stays_is_told_and_tried_again() {
    let now = Instant::now();
    let mut member = membership(now);
    exchange(&mut member, now, &Request::FindCoordinator, Answer::Found);
    exchange(&mut member, now, &Request::Join { member: String::new() }, refused(30));
    assert_eq!(member.notice(), Some(Notice::Refused(30)));
    assert_eq!(member.next(now), Next::Wait(Some(now + REFUSED_RETRY)));
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Answer(u8),
    Refuse(i16),
    Lost,
    Obey,
    Rejoin,
}

fn step() -> impl Strategy<Value = Step> {
    let code = prop_oneof![
        Just(14_i16),
        Just(15),
        Just(16),
        Just(22),
        Just(25),
        Just(27),
        Just(30),
        Just(79)
    ];
    prop_oneof![
        1 => (0..12_000u64).prop_map(Step::Pass),
        4 => any::<u8>().prop_map(Step::Answer),
        1 => code.prop_map(Step::Refuse),
        1 => Just(Step::Lost),
        3 => Just(Step::Obey),
        1 => Just(Step::Rejoin),
    ]
}

proptest! {
    /// Whatever happens: a follower never joins, and nobody syncs, while it holds or is giving up work that it must have
    /// given up; nothing is held beyond the session; and a member always has something to do.
    #[test]
    fn nothing_is_held_that_others_may_run(steps in proptest::collection::vec(step(), 1..120)) {
        let start = Instant::now();
        let (mut now, mut member) = (start, membership(start));
        let (mut holds, mut leads, mut revoking) = (false, false, None);
        let mut notices: VecDeque<Notice> = VecDeque::new();
        let mut sent: Option<Request> = None;
        let mut heard = start;
        for step in steps {
            let due = match sent {
                Some(_) => match member.awaited(now) {
                    Some(until) => Next::Wait(until),
                    None => { sent = None; member.next(now) }
                },
                None => member.next(now),
            };
            while let Some(notice) = member.notice() {
                if let Notice::Revoke { round } = notice {
                    prop_assert!(holds && revoking.is_none());
                    revoking = Some(round);
                }
                notices.push_back(notice);
            }
            prop_assert!(!holds || revoking.is_some() || now < heard + SESSION, "held beyond the session");
            match due {
                Next::Send(request) => {
                    prop_assert!(sent.is_none());
                    match &request {
                        Request::Join { .. } => prop_assert!(!holds || (leads && revoking.is_none())),
                        Request::Sync { .. } => prop_assert!(revoking.is_none()),
                        _ => {}
                    }
                    sent = Some(request);
                }
                Next::Wait(until) => prop_assert!(
                    sent.is_some() || until.is_some() || revoking.is_some() || !notices.is_empty(), "nothing will ever happen"
                ),
                Next::Ended => prop_assert!(false, "ended"),
            }
            match step {
                Step::Pass(millis) => now += Duration::from_millis(millis),
                Step::Answer(choice) => if let Some(request) = sent.take() {
                    let answer = match request {
                        Request::FindCoordinator => Answer::Found,
                        Request::Join { .. } => {
                            leads = choice % 2 == 0;
                            heard = now;
                            joined(if leads { "me" } else { "other" })
                        }
                        Request::Sync { .. } => { heard = now; Answer::Synced(Bytes::new()) }
                        Request::Heartbeat { .. } | Request::Leave { .. } => Answer::Done,
                    };
                    if answer == Answer::Done { heard = heard.max(now); }
                    member.answered(now, answer);
                },
                Step::Refuse(code) => if sent.take().is_some() {
                    heard = if code == 27 { now } else { heard };
                    member.answered(now, refused(code));
                },
                Step::Lost => if sent.take().is_some() { member.answered(now, Answer::Unreachable) },
                Step::Rejoin => member.told(now, Told::Rejoin),
                Step::Obey => match notices.pop_front() {
                    Some(Notice::Deal { round, .. }) => member.told(now, Told::Dealt { round, assignments: vec![] }),
                    Some(Notice::Assigned { .. }) => {}
                    Some(Notice::Revoke { round }) => {
                        member.told(now, Told::Revoked { round });
                        (holds, revoking) = (false, None);
                    }
                    Some(Notice::Refused(_)) | None => {}
                },
            }
            while let Some(notice) = member.notice() {
                match notice {
                    Notice::Assigned { .. } => holds = true,
                    Notice::Revoke { round } => { prop_assert!(holds && revoking.is_none()); revoking = Some(round); }
                    _ => {}
                }
                notices.push_back(notice);
            }
        }
    }
}
