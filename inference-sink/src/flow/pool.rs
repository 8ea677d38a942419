//! The worker's executors and the scheduler that feeds them.

use super::executor::{self, Slot, Untold};
use super::outbox::Outbox;
use super::queue::FlowQueue;
use super::rows::RowBlock;
use crate::models::ModelRuntime;
use crate::scheduler::{Demand, Drr, FlowId, Next, TenantId};
use crate::trigger::{BatchTrigger, Due};
use feature_engine::resource::Tenant;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// CPU microseconds that weight 1 earns in a turn: how long others wait for a batch that is running.
const QUANTUM_US: f64 = 500.0;

/// The rows of one model in one task.
pub struct Flow {
    pub(super) id: FlowId,
    pub(super) tenant: Arc<str>,
    /// the model on this worker
    pub runtime: Arc<ModelRuntime>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) queue: Mutex<FlowQueue>,
}

/// CPU of one tenant on this worker.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct TenantFigures {
    /// share of CPU under contention, relative
    pub weight: u32,
    /// hard ceiling
    pub max_share: Option<f64>,
    /// CPU microseconds of its models' runs
    pub cpu_us: u64,
    /// the same in nanoseconds: a run of a cheap model takes a few microseconds, of which none is to be rounded away
    #[serde(skip)]
    cpu_ns: u64,
    /// CPU microseconds of its part of feature computation
    pub feature_us: u64,
}

/// The executors. Cloning shares them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    started: Instant,
    /// start of the worker, in milliseconds since the epoch: makes batch ids unique over restarts
    pub(super) started_ms: i64,
    pub(super) batches: AtomicU64,
    cores: usize,
    run_limit: Duration,
}

struct State {
    drr: Drr,
    flows: HashMap<FlowId, Arc<Flow>>,
    tenants: BTreeMap<Arc<str>, (TenantId, TenantFigures)>,
    delayed: BTreeSet<(u64, usize)>,
    delayed_flows: HashMap<usize, FlowId>,
    next_delay: usize,
    slots: Vec<Arc<Slot>>,
    abandoned: usize,
    stopping: bool,
}

impl Pool {
    /// Executors on `cores` cores (0: all there are). Threads start with the first flow.
    pub fn new(cores: usize, run_limit: Duration) -> Pool {
        let cores = match cores {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            cores => cores,
        };
        Pool {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    drr: Drr::new(QUANTUM_US, cores),
                    flows: HashMap::new(),
                    tenants: BTreeMap::new(),
                    delayed: BTreeSet::new(),
                    delayed_flows: HashMap::new(),
                    next_delay: 0,
                    slots: Vec::new(),
                    abandoned: 0,
                    stopping: false,
                }),
                work: Condvar::new(),
                started: Instant::now(),
                started_ms: crate::clock::wall_ms(),
                batches: AtomicU64::new(0),
                cores,
                run_limit,
            }),
        }
    }

    /// Microseconds since the pool was made.
    pub fn now_us(&self) -> u64 {
        self.shared.now_us()
    }

    /// Takes over a tenant's weight and ceiling.
    pub fn configure(&self, tenant: &Tenant) {
        let now_us = self.now_us();
        let mut state = self.shared.state.lock();
        let (id, figures) = state.tenant(&tenant.name);
        let max_share = tenant.cpu.map(|cpu| cpu.max_share);
        figures.weight = tenant.weight;
        figures.max_share = max_share;
        state.drr.configure(id, tenant.weight, max_share, now_us);
        drop(state);
        self.shared.work.notify_all();
    }

    /// A flow of a tenant's model for the task behind `outbox`.
    pub fn flow(&self, runtime: &Arc<ModelRuntime>, outbox: &Arc<Outbox>, trigger: BatchTrigger) -> Arc<Flow> {
        let mut state = self.shared.state.lock();
        let (tenant, _) = state.tenant(&runtime.tenant);
        let flow = Arc::new(Flow {
            id: state.drr.flow(tenant),
            tenant: runtime.tenant.clone(),
            runtime: runtime.clone(),
            outbox: outbox.clone(),
            queue: Mutex::new(FlowQueue::new(trigger)),
        });
        state.flows.insert(flow.id, flow.clone());
        if state.slots.is_empty() {
            for _ in 0..self.shared.cores {
                executor::start(&self.shared, &mut state.slots);
            }
            executor::watch(&self.shared);
        }
        flow
    }

    /// Appends rows to flows. Executors that wait are woken after the last of them: what the rows of one event make in
    /// several models is then sent together.
    pub fn push<'a>(&self, rows: impl IntoIterator<Item = (&'a Flow, RowBlock)>) {
        let mut scheduled = 0;
        for (flow, block) in rows {
            flow.runtime.rows.fetch_add(block.rows() as u64, Ordering::Relaxed);
            flow.queue.lock().push(block);
            scheduled += usize::from(self.shared.schedule(flow));
        }
        self.shared.wake_executors(scheduled);
    }

    /// Lets a flow run everything it has without waiting for full batches, or not.
    pub fn set_closing(&self, flow: &Flow, closing: bool) {
        flow.queue.lock().set_closing(closing);
        if closing {
            self.nudge(flow);
        }
    }

    /// Looks at a flow again: what kept its model from running may be over.
    pub fn nudge(&self, flow: &Flow) {
        let scheduled = self.shared.schedule(flow);
        self.shared.wake_executors(usize::from(scheduled));
    }

    /// Takes every row of a flow back that has not finished.
    pub fn take_back(&self, flow: &Flow) -> Vec<RowBlock> {
        flow.queue.lock().take_back()
    }

    /// Ends a flow. Rows that it has are dropped.
    pub fn remove(&self, flow: &Flow) {
        let mut state = self.shared.state.lock();
        state.drr.remove(flow.id);
        state.flows.remove(&flow.id);
        drop(state);
        flow.queue.lock().take_back();
    }

    /// Charges feature computation to a tenant's figures.
    pub fn charge_features(&self, tenant: &str, us: u64) {
        self.shared.state.lock().tenant(tenant).1.feature_us += us;
    }

    /// CPU by tenant.
    pub fn figures(&self) -> BTreeMap<Arc<str>, TenantFigures> {
        let state = self.shared.state.lock();
        state
            .tenants
            .iter()
            .map(|(name, (_, figures))| (name.clone(), figures.clone()))
            .collect()
    }

    /// Rows that wait or run, by tenant.
    pub fn waiting(&self) -> BTreeMap<Arc<str>, usize> {
        let flows: Vec<Arc<Flow>> = self.shared.state.lock().flows.values().cloned().collect();
        let mut waiting = BTreeMap::new();
        for flow in flows {
            *waiting.entry(flow.tenant.clone()).or_insert(0) += flow.outstanding();
        }
        waiting
    }

    /// What tenants have asked for and got: the CPU of rows that wait is that of rows of the same model that have run. Where a tenant
    /// has a ceiling of its own, what waits below that is nobody else's doing, and not counted.
    pub fn demands(&self) -> BTreeMap<Arc<str>, Demand> {
        let (mut demands, mut limited) = (BTreeMap::new(), BTreeSet::new());
        let flows: Vec<Arc<Flow>> = {
            let state = self.shared.state.lock();
            for (name, (_, figures)) in &state.tenants {
                let used_us = figures.cpu_us as f64;
                let demand = Demand {
                    weight: f64::from(figures.weight.max(1)),
                    used_us,
                    asked_us: used_us,
                };
                demands.insert(name.clone(), demand);
                if figures.max_share.is_some_and(|share| share < 1.0) {
                    limited.insert(name.clone());
                }
            }
            state.flows.values().cloned().collect()
        };
        for flow in flows.iter().filter(|flow| !limited.contains(&flow.tenant)) {
            let rows = flow.outstanding();
            // What a row has cost is not asked for nothing.
            if rows > 0
                && let Some(demand) = demands.get_mut(&flow.tenant)
            {
                demand.asked_us += rows as f64 * flow.runtime.figures().cpu_us_per_row;
            }
        }
        demands
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.shared.cores
    }

    /// Executors that were given up because a run did not end.
    pub fn abandoned(&self) -> usize {
        self.shared.state.lock().abandoned
    }

    /// Ends the executors once they have finished what they run.
    pub fn stop(&self) {
        self.shared.state.lock().stopping = true;
        self.shared.work.notify_all();
    }
}

impl Flow {
    /// Rows that wait or run.
    pub fn outstanding(&self) -> usize {
        self.queue.lock().outstanding()
    }

    /// Rows and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.waiting(), queue.bytes())
    }

    /// Changes the trigger.
    pub fn set_trigger(&self, trigger: BatchTrigger) {
        self.queue.lock().set_trigger(trigger);
    }

    /// Smoothed CPU microseconds of a row.
    pub fn row_us(&self) -> Option<f64> {
        self.queue.lock().row_us()
    }
}

impl State {
    fn tenant(&mut self, name: &str) -> (TenantId, &mut TenantFigures) {
        if !self.tenants.contains_key(name) {
            let id = self.drr.tenant(1);
            self.tenants.insert(
                name.into(),
                (
                    id,
                    TenantFigures {
                        weight: 1,
                        ..TenantFigures::default()
                    },
                ),
            );
        }
        #[allow(clippy::expect_used)] // inserted just above
        let (id, figures) = self.tenants.get_mut(name).expect("a tenant of the scheduler");
        (*id, figures)
    }

    fn delay(&mut self, flow: FlowId, until_us: u64) {
        self.next_delay += 1;
        self.delayed.insert((until_us, self.next_delay));
        self.delayed_flows.insert(self.next_delay, flow);
    }
}

impl Shared {
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn run_limit(&self) -> Duration {
        self.run_limit
    }

    /// Lets the scheduler know what a flow has to run, now or later; false: nothing.
    fn schedule(&self, flow: &Flow) -> bool {
        let due = flow.queue.lock().due(self.now_us());
        match due {
            Due::Now(_) => self.state.lock().drr.ready(flow.id),
            Due::At(at) => self.state.lock().delay(flow.id, at),
            Due::Never => return false,
        }
        true
    }

    /// Wakes as many executors as there are flows for, if they wait.
    fn wake_executors(&self, flows: usize) {
        for _ in 0..flows.min(self.cores) {
            self.work.notify_one();
        }
    }

    /// Waits for the next grant, and tells senders before; none: the pool stops, or the executor was given up.
    pub(super) fn next(&self, slot: &Slot, untold: &mut Untold) -> Option<(Arc<Flow>, f64)> {
        let mut state = self.state.lock();
        loop {
            if state.stopping || slot.is_abandoned() {
                return None;
            }
            let now_us = self.now_us();
            while let Some(&(at, number)) = state.delayed.first().filter(|(at, _)| *at <= now_us) {
                state.delayed.remove(&(at, number));
                if let Some(flow) = state.delayed_flows.remove(&number)
                    && state.flows.contains_key(&flow)
                {
                    state.drr.ready(flow);
                }
            }
            let delayed_at = state.delayed.first().map(|(at, _)| *at);
            let wait_until = match state.drr.next(now_us) {
                Next::Run(grant) => match state.flows.get(&grant.flow).cloned() {
                    Some(flow) => return Some((flow, grant.budget_us)),
                    None => {
                        state.drr.charge(grant.flow, 0.0, false);
                        continue;
                    }
                },
                Next::Wait(until) => Some(delayed_at.map_or(until, |at| at.min(until))),
                Next::Idle => delayed_at,
            };
            if !untold.is_empty() {
                // Without the lock: the last to hold an outbox ends its sender.
                drop(state);
                untold.tell();
                state = self.state.lock();
                continue;
            }
            match wait_until {
                Some(until) => {
                    let wait = Duration::from_micros(until.saturating_sub(now_us).max(50));
                    self.work.wait_for(&mut state, wait);
                }
                None => self.work.wait(&mut state),
            }
        }
    }

    /// Settles a grant.
    pub(super) fn settle(&self, flow: &Flow, spent_us: f64) {
        let due = flow.queue.lock().due(self.now_us());
        let mut state = self.state.lock();
        let (_, figures) = state.tenant(&flow.tenant);
        figures.cpu_ns += (spent_us * 1e3) as u64;
        figures.cpu_us = figures.cpu_ns / 1_000;
        // A stopped model's rows wait for their task to take them back, or for another flow's run on trial.
        let may_run = flow.runtime.allows(crate::clock::wall_ms());
        state
            .drr
            .charge(flow.id, spent_us, may_run && matches!(due, Due::Now(_)));
        if let Due::At(at) = due {
            state.delay(flow.id, at);
        }
        drop(state);
        self.work.notify_one();
    }

    /// Looks at every flow of a model again that may run from now on.
    pub(super) fn resume(&self, runtime: &Arc<ModelRuntime>) {
        let all = self.state.lock().flows.values().cloned().collect::<Vec<_>>();
        let own = all.iter().filter(|flow| Arc::ptr_eq(&flow.runtime, runtime));
        let scheduled = own.filter(|flow| self.schedule(flow)).count();
        self.wake_executors(scheduled);
    }

    /// Gives up executors whose run has passed the limit, and starts others. False: the pool stops.
    pub(super) fn give_up_overdue(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        if state.stopping {
            return false;
        }
        let now_us = self.now_us();
        let limit_us = u64::try_from(self.run_limit.as_micros()).unwrap_or(u64::MAX);
        let overdue: Vec<Arc<Slot>> = state
            .slots
            .iter()
            .filter(|slot| slot.runs_since(now_us) > limit_us)
            .cloned()
            .collect();
        for slot in overdue {
            let Some(flow) = slot.abandon() else { continue };
            state.slots.retain(|other| !Arc::ptr_eq(other, &slot));
            state.abandoned += 1;
            state.drr.charge(flow.id, limit_us as f64, false);
            executor::start(self, &mut state.slots);
            flow.runtime.suspend(format!(
                "a run took longer than inference.run.limit.ms={}: its thread was given up; put a new version or resume the model",
                self.run_limit.as_millis()
            ));
            flow.outbox.finished(true);
        }
        true
    }
}
