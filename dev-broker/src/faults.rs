//! Faults on demand, at a named request, so that tests of crashes are exact.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;

/// What to do to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// Take it and never answer.
    Drop,
    /// Handle it after so long.
    Delay(Duration),
    /// Close the connection instead of handling it.
    Close,
    /// Handle it, then close the connection instead of answering: the client cannot know.
    HandleThenClose,
    /// Handle it, then answer this error all the same (requests as for [`Self::Error`]).
    HandleThenError(ResponseError),
    /// Do not handle it, answer this error (requests to produce, to fetch, for offsets, of groups and of
    /// transactions; the connection is closed on others).
    Error(ResponseError),
}

/// Which requests of that kind are hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultTarget {
    /// The n-th from now on, 1 being the next; only that one.
    Nth(u32),
    /// All.
    All,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The kind of request.
    pub api_key: ApiKey,
    /// Which of them.
    pub target: FaultTarget,
    /// What happens to it.
    pub action: FaultAction,
}

#[derive(Debug)]
struct Injected {
    fault: Fault,
    seen: u32,
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    injected: Mutex<Vec<Injected>>,
}

impl Faults {
    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.injected.lock().push(Injected { fault, seen: 0 });
    }

    /// Takes all faults back.
    pub fn clear(&self) {
        self.injected.lock().clear();
    }

    /// What to do to this request, if anything. Every fault of its kind counts it.
    pub fn on_request(&self, api_key: ApiKey) -> Option<FaultAction> {
        let mut hit = None;
        let mut injected = self.injected.lock();
        injected.retain_mut(|injected| {
            if injected.fault.api_key != api_key {
                return true;
            }
            injected.seen += 1;
            match injected.fault.target {
                FaultTarget::All => {
                    hit = hit.or(Some(injected.fault.action));
                    true
                }
                FaultTarget::Nth(nth) if injected.seen >= nth => {
                    hit = hit.or(Some(injected.fault.action));
                    false
                }
                FaultTarget::Nth(_) => true,
            }
        });
        hit
    }
}
