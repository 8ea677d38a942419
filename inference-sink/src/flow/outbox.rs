//! Where executors leave what they have done for a task.

use super::queue::Batch;
use crate::output::{EncodedOutputs, OutputSender};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What became of one batch.
#[derive(Debug)]
pub struct BatchResult {
    /// `tenant/name`
    pub model: Arc<str>,
    /// outputs that go into the task's transaction; none where they were sent at once
    pub outputs: Option<EncodedOutputs>,
    /// number of outputs
    pub records: usize,
    /// the rows that were run: kept until their outputs are committed
    pub batch: Batch,
    /// feature log positions that the batch has reached: input partition, next offset
    pub log_done: Vec<(i32, i64)>,
}

#[derive(Default)]
struct Inner {
    results: Vec<BatchResult>,
    output_bytes: usize,
    finished: u64,
}

/// The outbox of one task.
pub struct Outbox {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// sends outputs at once; none: they wait for the transaction
    sender: Option<OutputSender>,
    /// input topics by the numbers that rows carry
    pub topics: Arc<[Arc<str>]>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// the task waits for queues to become empty
    wakes: AtomicBool,
}

impl Outbox {
    /// An empty outbox. `wake` wakes the task.
    pub fn new(topics: Arc<[Arc<str>]>, sender: Option<OutputSender>, wake: Arc<dyn Fn() + Send + Sync>) -> Outbox {
        Outbox {
            inner: Mutex::new(Inner::default()),
            changed: Condvar::new(),
            sender,
            topics,
            wake,
            wakes: AtomicBool::new(false),
        }
    }

    /// Whether the task is to be woken when the queue of a flow has become empty.
    pub fn wake_when_empty(&self, wakes: bool) {
        self.wakes.store(wakes, Ordering::Release);
    }

    /// Leaves a result; [`Self::tell_sender`] before waiting for anything.
    pub fn put(&self, mut result: BatchResult) {
        crash_point::reached("inference.predicted");
        if let (Some(sender), Some(outputs)) = (&self.sender, result.outputs.take_if(|_| self.sender.is_some())) {
            sender.send(outputs);
        }
        let mut inner = self.inner.lock();
        inner.output_bytes += result.outputs.as_ref().map_or(0, EncodedOutputs::bytes);
        inner.results.push(result);
    }

    /// Tells that a batch has finished, after its result was put and its flow's queue knows; `empty`: which has no more.
    pub fn finished(&self, empty: bool) {
        self.inner.lock().finished += 1;
        self.changed.notify_all();
        if empty && self.wakes.load(Ordering::Acquire) {
            (self.wake)();
        }
    }

    /// Tells the sender that outputs were left.
    pub fn tell_sender(&self) {
        if let Some(sender) = &self.sender {
            sender.tell();
        }
    }

    /// Takes everything that was left.
    pub fn take(&self) -> Vec<BatchResult> {
        let mut inner = self.inner.lock();
        inner.output_bytes = 0;
        std::mem::take(&mut inner.results)
    }

    /// Bytes of outputs that wait.
    pub fn output_bytes(&self) -> usize {
        self.inner.lock().output_bytes + self.sender.as_ref().map_or(0, OutputSender::waiting_bytes)
    }

    /// Waits until `done` holds or the deadline has passed; looks again whenever a batch finishes. True: it holds.
    pub fn wait_until(&self, deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
        loop {
            let seen = self.inner.lock().finished;
            if done() {
                return true;
            }
            let mut inner = self.inner.lock();
            while inner.finished == seen {
                if self.changed.wait_until(&mut inner, deadline).timed_out() {
                    drop(inner);
                    return done();
                }
            }
        }
    }

    /// The sender, where outputs are sent at once.
    pub fn sender(&self) -> Option<&OutputSender> {
        self.sender.as_ref()
    }
}
