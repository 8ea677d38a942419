//! One executor thread: takes batches, runs them, meters their CPU, leaves the results in the task's outbox.

use super::outbox::{BatchResult, Outbox};
use super::pool::{Flow, Shared};
use super::queue::Batch;
use super::rows::RowBlock;
use crate::breaker::Run;
use crate::models::ServedModel;
use crate::output::{EncodedOutputs, encode_batch};
use model_engine::Session;
use parking_lot::Mutex;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A model that takes longer for a single row lets other threads go first where there are not enough cores: those that fetch
/// and send have little to do each time, and everybody waits for them. (Cheap models do not: at full speed that costs a fifth
/// of the throughput.)
const GIVE_WAY_US: f64 = 30.0;

/// So long outputs wait for those of other models, in any case.
const TOGETHER_US: f64 = 50.0;
/// And so many times as long as it took to make them: what is costly has less of a hurry.
const PATIENCE: f64 = 4.0;

/// Outboxes with outputs of which their senders do not know yet: what several models make of one event is sent together.
/// They are told before the executor waits for work, and before a run that would let outputs wait too long.
#[derive(Default)]
pub(super) struct Untold {
    outboxes: Vec<Arc<Outbox>>,
    until_us: u64,
}

impl Untold {
    fn add(&mut self, outbox: &Arc<Outbox>, spent_us: f64, now_us: u64) {
        let until_us = now_us + (PATIENCE * spent_us).max(TOGETHER_US) as u64;
        self.until_us = match self.outboxes.is_empty() {
            true => until_us,
            false => self.until_us.min(until_us),
        };
        if !self.outboxes.iter().any(|known| Arc::ptr_eq(known, outbox)) {
            self.outboxes.push(outbox.clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outboxes.is_empty()
    }

    /// Tells them unless a run that ends then, as far as is known, lets them wait.
    fn tell_before(&mut self, run_ends_us: Option<u64>) {
        if run_ends_us.is_none_or(|ends_us| ends_us > self.until_us) {
            self.tell();
        }
    }

    /// Tells them.
    pub(super) fn tell(&mut self) {
        self.outboxes.drain(..).for_each(|outbox| outbox.tell_sender());
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        self.tell();
    }
}

/// What an executor is doing, for the watch over it.
#[derive(Default)]
pub(super) struct Slot {
    /// when its run started, in microseconds of the pool's clock; 0 between runs
    since_us: AtomicU64,
    flow: Mutex<Option<Arc<Flow>>>,
    abandoned: AtomicBool,
}

impl Slot {
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn runs_since(&self, now_us: u64) -> u64 {
        match self.since_us.load(Ordering::Acquire) {
            0 => 0,
            since => now_us.saturating_sub(since),
        }
    }

    /// Gives the thread up; none if it has just finished. Whoever takes the flow out settles the grant.
    pub(super) fn abandon(&self) -> Option<Arc<Flow>> {
        let mut flow = self.flow.lock();
        let taken = flow.take()?;
        self.abandoned.store(true, Ordering::Release);
        Some(taken)
    }

    fn begin(&self, flow: &Arc<Flow>, now_us: u64) {
        *self.flow.lock() = Some(flow.clone());
        self.since_us.store(now_us.max(1), Ordering::Release);
    }

    /// False: the thread was given up meanwhile.
    fn end(&self) -> bool {
        self.since_us.store(0, Ordering::Release);
        self.flow.lock().take().is_some()
    }
}

pub(super) fn start(shared: &Arc<Shared>, slots: &mut Vec<Arc<Slot>>) {
    let slot = Arc::new(Slot::default());
    let (thread_shared, thread_slot) = (shared.clone(), slot.clone());
    let started = std::thread::Builder::new()
        .name("inference".to_owned())
        .spawn(move || execute(&thread_shared, &thread_slot));
    match started {
        Ok(_) => slots.push(slot),
        Err(error) => tracing::error!(error = %error, "an inference thread could not be started"),
    }
}

/// Watches over runs that do not end.
pub(super) fn watch(shared: &Arc<Shared>) {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    let pause = (shared.run_limit() / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let started = std::thread::Builder::new()
        .name("inference watch".to_owned())
        .spawn(move || {
            loop {
                std::thread::park_timeout(pause);
                match weak.upgrade() {
                    Some(shared) if shared.give_up_overdue() => {}
                    _ => return,
                }
            }
        });
    if let Err(error) = started {
        tracing::error!(error = %error, "the watch over runs could not be started");
    }
}

/// Sessions of one thread: scratch memory by model version.
#[derive(Default)]
struct Sessions(Vec<(Weak<ServedModel>, Session)>);

impl Sessions {
    /// Error: there is nothing to run.
    fn of(&mut self, model: &Arc<ServedModel>) -> Result<&mut Session, String> {
        let found = self
            .0
            .iter()
            .position(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(model)));
        let index = match found {
            Some(index) => index,
            None => {
                let engine = model.engine().ok_or("its artifact is not loaded")?;
                self.0.retain(|(known, _)| known.strong_count() > 0);
                self.0.push((Arc::downgrade(model), engine.session()));
                self.0.len() - 1
            }
        };
        #[allow(clippy::indexing_slicing)] // found or pushed just above
        Ok(&mut self.0[index].1)
    }

    fn forget(&mut self, model: &Arc<ServedModel>) {
        self.0
            .retain(|(known, _)| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(model)));
    }
}

fn execute(shared: &Arc<Shared>, slot: &Slot) {
    let mut sessions = Sessions::default();
    let mut untold = Untold::default();
    while let Some((flow, budget_us)) = shared.next(slot, &mut untold) {
        let now_us = shared.now_us();
        let Some(leave) = flow.runtime.start(crate::clock::wall_ms()) else {
            shared.settle(&flow, 0.0);
            continue;
        };
        let taken = flow.queue.lock().take(budget_us, now_us);
        let Some(batch) = taken else {
            flow.runtime.given_back(leave);
            shared.settle(&flow, 0.0);
            continue;
        };
        // Of a model's first run nothing is known.
        let ends_us = |row_us| now_us + (row_us * batch.rows.len() as f64) as u64;
        untold.tell_before(batch.row_us.map(ends_us));
        if batch.row_us.is_some_and(|row_us| row_us > GIVE_WAY_US) {
            std::thread::yield_now();
        }
        slot.begin(&flow, now_us);
        let before_us = thread_cpu_us();
        let outputs = run(shared, &mut sessions, &flow, &batch, leave);
        let spent_us = (thread_cpu_us() - before_us).max(0.1);
        if !slot.end() {
            return;
        }
        let resumes = flow.runtime.ended(leave);
        finish(shared, &flow, &batch, outputs, spent_us);
        if resumes {
            shared.resume(&flow.runtime);
        }
        if flow.outbox.sender().is_some() {
            untold.add(&flow.outbox, spent_us, shared.now_us());
        }
    }
}

/// Leaves the results, unless the rows were taken back.
fn finish(shared: &Shared, flow: &Arc<Flow>, batch: &Batch, outputs: EncodedOutputs, spent_us: f64) {
    let runtime = &flow.runtime;
    runtime.cpu_ns.fetch_add((spent_us * 1e3) as u64, Ordering::Relaxed);
    runtime.batches.fetch_add(1, Ordering::Relaxed);
    let (mut empty, mut valid) = (false, false);
    {
        let mut queue = flow.queue.lock();
        if queue.finish(batch, spent_us) {
            valid = true;
            runtime.succeeded(outputs.len() as u64);
            flow.outbox.put(BatchResult {
                model: runtime.identity.clone(),
                records: outputs.len(),
                outputs: (!outputs.is_empty()).then_some(outputs),
                batch: batch.clone(),
                log_done: log_positions(batch),
            });
            empty = queue.waiting() == 0;
        }
    }
    if valid {
        let now_us = shared.now_us();
        let deadline_us = batch
            .block
            .model
            .document
            .deadline
            .map(|deadline| deadline.as_millis().saturating_mul(1000));
        let metas = batch.block.metas.get(batch.rows.clone()).unwrap_or_default();
        runtime.took(
            metas.iter().map(|meta| now_us.saturating_sub(meta.arrived_us)),
            deadline_us,
        );
    }
    shared.settle(flow, spent_us);
    flow.outbox.finished(empty);
}

/// Up to where the batch has come in the feature log, by partition.
fn log_positions(batch: &Batch) -> Vec<(i32, i64)> {
    let mut positions: Vec<(i32, i64)> = Vec::new();
    for meta in batch.block.metas.get(batch.rows.clone()).unwrap_or_default() {
        if meta.log_offset < 0 {
            continue;
        }
        match positions.iter_mut().find(|(partition, _)| *partition == meta.partition) {
            Some((_, next)) => *next = (*next).max(meta.log_offset + 1),
            None => positions.push((meta.partition, meta.log_offset + 1)),
        }
    }
    positions
}

/// Runs a batch; if it fails as a whole, row by row, so that one bad row costs only itself.
fn run(shared: &Shared, sessions: &mut Sessions, flow: &Arc<Flow>, batch: &Batch, leave: Run) -> EncodedOutputs {
    let number = shared.batches.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", shared.started_ms);
    let block = &batch.block;
    let now_ms = crate::clock::wall_ms();
    let fails = |error: &str| flow.runtime.failed(error, Some(leave), now_ms);
    match run_rows(sessions, flow, block, batch.rows.clone(), name.clone()) {
        Ok((outputs, failed)) => {
            for _ in failed {
                fails("an output is not a finite number");
            }
            outputs
        }
        Err(error) if batch.rows.len() == 1 => {
            fails(&error);
            EncodedOutputs::new(block.model.clone(), name)
        }
        Err(_) => {
            let mut all = EncodedOutputs::new(block.model.clone(), name.clone());
            for row in batch.rows.clone() {
                match run_rows(sessions, flow, block, row..row + 1, name.clone()) {
                    Ok((outputs, failed)) if failed.is_empty() => all.append(outputs),
                    Ok(_) => fails("an output is not a finite number"),
                    Err(error) => fails(&error),
                }
            }
            all
        }
    }
}

fn run_rows(
    sessions: &mut Sessions,
    flow: &Flow,
    block: &RowBlock,
    rows: Range<usize>,
    name: String,
) -> Result<(EncodedOutputs, Vec<usize>), String> {
    let model = block.model.clone();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let session = sessions.of(&model)?;
        let outputs = session
            .run(&block.inputs, rows.clone())
            .map_err(|error| error.to_string())?;
        Ok(encode_batch(block, rows.clone(), outputs, name, &flow.outbox.topics))
    }));
    ran.unwrap_or_else(|_| {
        sessions.forget(&model);
        Err("the run panicked".to_owned())
    })
}

/// CPU time of this thread, in microseconds.
pub(crate) fn thread_cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Arc<Outbox> {
        Arc::new(Outbox::new(Arc::from([]), None, Arc::new(|| {})))
    }

    #[test]
    fn outputs_of_cheap_models_wait_for_each_other_and_not_for_a_costly_one() {
        let (mut untold, outbox) = (Untold::default(), outbox());
        untold.add(&outbox, 3.0, 1_000);
        untold.add(&outbox, 9.0, 1_010);
        untold.tell_before(Some(1_050));
        assert!(!untold.is_empty());
        untold.tell_before(Some(1_110));
        assert!(untold.is_empty());
    }

    #[test]
    fn outputs_of_costly_models_wait_for_each_other_and_for_no_unknown_one() {
        let (mut untold, outbox) = (Untold::default(), outbox());
        untold.add(&outbox, 100.0, 1_000);
        untold.add(&outbox, 100.0, 1_100);
        untold.tell_before(Some(1_200));
        assert!(!untold.is_empty());
        untold.tell_before(None);
        assert!(untold.is_empty());
    }
}
