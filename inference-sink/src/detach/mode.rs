//! The mode of one model in one input partition: a pure machine. Offsets are those of the feature log's partition.
//!
//! ```text
//!            barrier: did not finish, paused, over its rate, breaker open
//!  IN STEP ------------------------------------------------------------------> DETACHED
//!     ^      rows go to the flow                 rows go to the feature log       |
//!     '---------------------------------------------------------------------------'
//!            barrier: wanted again, and everything appended for it is done
//! ```
//! The mode changes at barriers only, and is written in the barrier's transaction. While it is detached, its rows of one
//! interval are appended in that interval's transaction, are read back once that has committed, and count as done in the
//! transaction that carries their outputs.

/// Why a model is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// it did not finish within `inference.commit.drain.ms`
    Slow,
    /// somebody paused it
    Paused,
    /// its tenant is over its rate and waits
    OverRate,
    /// its circuit breaker is open
    Breaker,
    /// a run took longer than `inference.run.limit.ms`
    Suspended,
    /// its tenant's output topic refuses records
    Outputs,
    /// its tenant's queues hold as much as they may
    Memory,
    /// its artifact cannot be loaded
    Artifact,
}

/// The position of a detached model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Detached {
    /// why
    pub reason: Reason,
    /// next log offset that it has to do
    pub position: i64,
    /// log offset after the last entry that was appended for it; at most `position`: it has done everything
    pub end: i64,
}

/// The mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// rows go to the flow as events come
    #[default]
    InStep,
    /// rows go through the feature log
    Detached(Detached),
}

impl Mode {
    /// Detaches at a barrier. `log_end`: the log's end offset as far as the task knows; nothing below it is this model's
    /// unless it is detached already.
    pub fn detach(&mut self, reason: Reason, log_end: i64) {
        match self {
            Mode::InStep => {
                *self = Mode::Detached(Detached {
                    reason,
                    position: log_end,
                    end: log_end,
                })
            }
            Mode::Detached(detached) => detached.reason = reason,
        }
    }

    /// An entry of it was appended at `offset` in a transaction that has committed.
    pub fn appended(&mut self, offset: i64) {
        if let Mode::Detached(detached) = self {
            detached.end = detached.end.max(offset + 1);
        }
    }

    /// The mode as it was committed does not know of entries of the same transaction: everything up to the log's end may be
    /// its own.
    pub fn assume_end(&mut self, log_end: i64) {
        if let Mode::Detached(detached) = self {
            detached.end = detached.end.max(log_end);
        }
    }

    /// The log was deleted and made again: what is left of this model's entries is gone, and it goes on at the beginning of
    /// the new log. Returns how many entries that were at most (other models' lie between them).
    pub fn log_made_again(&mut self) -> i64 {
        let lost = self.lag();
        if let Mode::Detached(detached) = self {
            (detached.position, detached.end) = (0, 0);
        }
        lost
    }

    /// Its entries below `next` are done, with their outputs in the transaction at hand.
    pub fn done(&mut self, next: i64) {
        if let Mode::Detached(detached) = self {
            detached.position = detached.position.max(next);
        }
    }

    /// Its entries from `from` on are not done after all: their outputs were refused.
    pub fn undo(&mut self, from: i64) {
        if let Mode::Detached(detached) = self {
            detached.position = detached.position.min(from);
        }
    }

    /// Whether everything that was appended is done, so that it may be attached at a barrier whose own interval's rows it
    /// has finished too.
    pub fn has_caught_up(&self) -> bool {
        match self {
            Mode::InStep => true,
            Mode::Detached(detached) => detached.position >= detached.end,
        }
    }

    /// Attaches at a barrier. False: it has not caught up, and stays.
    pub fn attach(&mut self) -> bool {
        let caught_up = self.has_caught_up();
        if caught_up {
            *self = Mode::InStep;
        }
        caught_up
    }

    /// Whether it is detached.
    pub fn is_detached(&self) -> bool {
        matches!(self, Mode::Detached(_))
    }

    /// Entries between position and end, at most: other models' entries lie between them.
    pub fn lag(&self) -> i64 {
        match self {
            Mode::InStep => 0,
            Mode::Detached(detached) => (detached.end - detached.position).max(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// rows of the input
        Rows(usize),
        /// the model does so many of what it could
        Run(usize),
        /// a barrier that drains, or not
        Barrier { finishes: bool, wanted: bool },
        /// the process dies and starts from what was committed
        Crash,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![
                4 => (0usize..5).prop_map(Step::Rows),
                4 => (0usize..8).prop_map(Step::Run),
                4 => (any::<bool>(), any::<bool>()).prop_map(|(finishes, wanted)| Step::Barrier { finishes, wanted }),
                1 => Just(Step::Crash),
            ],
            1..120,
        )
    }

    /// What is durable: what one transaction writes as a whole.
    #[derive(Clone, Default)]
    struct Committed {
        mode: Mode,
        input: u64,
        log: Vec<u64>,
        outputs: Vec<u64>,
    }

    proptest! {
        /// Whatever happens, each input row gives exactly one committed output, in order.
        #[test]
        fn outputs_equal_those_of_an_undisturbed_run(steps in steps()) {
            let mut committed = Committed::default();
            let mut mode = Mode::InStep;
            // Rows of the interval, in the flow or waiting to be appended, and outputs of the interval.
            let (mut input, mut rows, mut outputs, mut done) = (0u64, Vec::<u64>::new(), Vec::<u64>::new(), 0i64);
            let finish = [Step::Barrier { finishes: true, wanted: true }, Step::Run(10_000), Step::Barrier { finishes: true, wanted: true }];
            for step in steps.into_iter().chain(finish) {
                match step {
                    Step::Rows(count) => for _ in 0..count { rows.push(input); input += 1; },
                    Step::Run(count) => match mode {
                        Mode::InStep => outputs.extend(rows.drain(..count.min(rows.len()))),
                        Mode::Detached(_) => for _ in 0..count {
                            if done < committed.log.len() as i64 { outputs.push(committed.log[done as usize]); done += 1; }
                        },
                    },
                    Step::Barrier { finishes, wanted } => {
                        mode.done(done);
                        let caught_up = mode.has_caught_up();
                        let may_run = if mode.is_detached() { wanted && caught_up } else { true };
                        if may_run && finishes { outputs.append(&mut rows); }
                        let log_end = committed.log.len() as i64;
                        if mode.is_detached() {
                            if wanted && rows.is_empty() { mode.attach(); }
                        } else if !rows.is_empty() || !wanted {
                            mode.detach(Reason::Slow, log_end);
                        }
                        let written = mode;
                        for row in rows.drain(..) {
                            mode.appended(committed.log.len() as i64);
                            committed.log.push(row);
                        }
                        if let Mode::Detached(detached) = mode { done = done.max(detached.position); }
                        // What was appended in this very transaction is not in the mode that it writes.
                        committed.mode = written;
                        committed.input = input;
                        committed.outputs.append(&mut outputs);
                    }
                    Step::Crash => {
                        mode = committed.mode;
                        mode.assume_end(committed.log.len() as i64);
                        input = committed.input;
                        rows.clear();
                        outputs.clear();
                        done = if let Mode::Detached(detached) = mode { detached.position } else { committed.log.len() as i64 };
                    }
                }
            }
            prop_assert_eq!(mode, Mode::InStep);
            prop_assert_eq!(committed.outputs, (0..input).collect::<Vec<u64>>());
        }
    }
}
