//! Asks the machine what is due, and does it, on a thread of its own: nothing that a plugin does can hold up a heartbeat.

use super::coordinator::{Coordinator, GroupSettings};
use super::machine::{Answer, Membership, Next, Notice, Timeouts, Told};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// What a member is made of.
pub(crate) struct MembershipParts {
    pub(crate) settings: GroupSettings,
    pub(crate) timeouts: Timeouts,
    /// this member's metadata, asked for at every join
    pub(crate) metadata: Box<dyn Fn() -> Bytes + Send>,
    /// where notices go
    pub(crate) notices: mpsc::UnboundedSender<Notice>,
}

/// The way to a member's thread.
pub(crate) struct Member {
    teller: Teller,
    reaches_coordinator: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

/// Tells a member what has become of its notices.
#[derive(Clone)]
pub(crate) struct Teller(mpsc::UnboundedSender<Told>);

impl Teller {
    /// Without effect when the member has left.
    pub(crate) fn tell(&self, told: Told) {
        let _ = self.0.send(told);
    }
}

impl Member {
    /// Starts the thread, which joins the group.
    pub(crate) fn start(parts: MembershipParts) -> std::io::Result<Self> {
        let (told, inbox) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let reaches_coordinator = Arc::new(AtomicBool::new(false));
        let reached = Arc::clone(&reaches_coordinator);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("group-membership".to_owned())
            .spawn(move || {
                runtime.block_on(drive(parts, inbox, &reached));
                runtime.shutdown_background();
                // nobody waits any more
                let _ = end.send(());
            })?;
        Ok(Self {
            teller: Teller(told),
            reaches_coordinator,
            ended,
        })
    }

    /// Tells the member something.
    pub(crate) fn tell(&self, told: Told) {
        self.teller.tell(told);
    }

    /// Whether the group's coordinator answered the last request.
    pub(crate) fn reaches_its_coordinator(&self) -> bool {
        self.reaches_coordinator.load(Ordering::Acquire)
    }

    /// The way to tell it something later.
    pub(crate) fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Leaves the group, in a few seconds at most. Everything must have been stopped.
    pub(crate) async fn leave(self) {
        self.tell(Told::Stop);
        // an error means that the thread has ended already
        let _ = self.ended.await;
    }
}

async fn drive(parts: MembershipParts, mut inbox: mpsc::UnboundedReceiver<Told>, reached: &AtomicBool) {
    let mut membership = Membership::new(parts.timeouts, Instant::now());
    let mut coordinator = Coordinator::new(parts.settings);
    loop {
        pass_on(&mut membership, &parts.notices);
        let due = membership.next(Instant::now());
        pass_on(&mut membership, &parts.notices);
        match due {
            Next::Ended => return,
            Next::Wait(until) => tokio::select! {
                () = sleep_until(until) => {}
                told = inbox.recv() => membership.told(Instant::now(), told.unwrap_or(Told::Stop)),
            },
            Next::Send(request) => {
                let answer = {
                    let call = coordinator.send(request, (parts.metadata)());
                    tokio::pin!(call);
                    loop {
                        let awaited = membership.awaited(Instant::now());
                        pass_on(&mut membership, &parts.notices);
                        let Some(until) = awaited else { break None };
                        tokio::select! {
                            answer = &mut call => break Some(answer),
                            () = sleep_until(until) => {}
                            told = inbox.recv() => membership.told(Instant::now(), told.unwrap_or(Told::Stop)),
                        }
                    }
                };
                match answer {
                    Some(answer) => {
                        reached.store(answer != Answer::Unreachable, Ordering::Release);
                        membership.answered(Instant::now(), answer);
                    }
                    None => coordinator.disconnect(),
                }
            }
        }
    }
}

fn pass_on(membership: &mut Membership, notices: &mpsc::UnboundedSender<Notice>) {
    while let Some(notice) = membership.notice() {
        // the herder has gone: the worker is stopping
        let _ = notices.send(notice);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
