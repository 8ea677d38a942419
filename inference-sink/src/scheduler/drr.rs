//! Deficit round robin (M. Shreedhar, G. Varghese, SIGCOMM 1995) over tenants, and round robin over the flows of one.
//!
//! Pure: time is an argument, in microseconds. A tenant's turn adds `quantum * weight` to its deficit; a grant reserves a
//! budget of at most one quantum and the measured cost settles it, so that a run that costs more than was predicted is
//! paid for in later turns. Work-conserving: whenever a flow is ready and its tenant is under its ceiling, somebody gets
//! a grant, and a tenant that has nothing to run saves nothing up.
//!
//! A tenant whose last burst of work was short goes before those that wait in the ring, and then to the end of the ring, so
//! that it comes first again only after everybody had a turn (the sparse flows of RFC 8290, section 5.1): who asks for little
//! does not wait for who asks for much, and takes nobody's share.

use std::collections::VecDeque;

/// A tenant of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(usize);

/// A flow of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(usize);

/// Leave to run one batch of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grant {
    /// whose batch
    pub flow: FlowId,
    /// what it should cost at most, in CPU microseconds; a single row may cost more
    pub budget_us: f64,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// run this
    Run(Grant),
    /// everything that is ready is at its ceiling until this time, in microseconds
    Wait(u64),
    /// nothing is ready
    Idle,
}

#[derive(Debug)]
struct Tenant {
    weight: f64,
    deficit_us: f64,
    /// flows with rows and without a run
    ready: VecDeque<usize>,
    /// in the ring, or before it
    in_ring: bool,
    in_turn: bool,
    /// runs under way
    running: usize,
    /// spent since it last had nothing to do
    burst_us: f64,
    /// its last burst was short
    sparse: bool,
    ceiling: Option<Ceiling>,
}

/// A leaky bucket that fills at the tenant's largest share of all cores.
#[derive(Debug)]
struct Ceiling {
    share: f64,
    credit_us: f64,
    filled_at_us: u64,
}

#[derive(Debug)]
struct Flow {
    tenant: usize,
    ready: bool,
    /// budget of the run under way
    reserved_us: Option<f64>,
    /// rows came while it ran
    again: bool,
    removed: bool,
}

/// The scheduler.
#[derive(Debug)]
pub struct Drr {
    quantum_us: f64,
    cores: f64,
    tenants: Vec<Tenant>,
    flows: Vec<Flow>,
    free: Vec<usize>,
    /// before the ring
    sparse: VecDeque<usize>,
    ring: VecDeque<usize>,
}

/// A burst is short that costs at most this share of a turn.
const SPARSE_SHARE: f64 = 0.1;

/// A ceiling's bucket holds what its share earns in this time.
const CEILING_BURST_US: f64 = 50_000.0;

#[allow(clippy::indexing_slicing)] // every id was given out by `tenant` or `flow` and indexes these tables for good
impl Drr {
    /// A scheduler of `cores` cores. `quantum_us`: CPU microseconds that weight 1 earns in a turn.
    pub fn new(quantum_us: f64, cores: usize) -> Drr {
        Drr {
            quantum_us: quantum_us.max(1.0),
            cores: cores.max(1) as f64,
            tenants: Vec::new(),
            flows: Vec::new(),
            free: Vec::new(),
            sparse: VecDeque::new(),
            ring: VecDeque::new(),
        }
    }

    /// Adds a tenant.
    pub fn tenant(&mut self, weight: u32) -> TenantId {
        self.tenants.push(Tenant {
            weight: f64::from(weight.max(1)),
            deficit_us: 0.0,
            ready: VecDeque::new(),
            in_ring: false,
            in_turn: false,
            running: 0,
            burst_us: 0.0,
            sparse: true,
            ceiling: None,
        });
        TenantId(self.tenants.len() - 1)
    }

    /// Changes a tenant's weight and ceiling (`max_share`: of all cores, above 0).
    pub fn configure(&mut self, tenant: TenantId, weight: u32, max_share: Option<f64>, now_us: u64) {
        let tenant = &mut self.tenants[tenant.0];
        tenant.weight = f64::from(weight.max(1));
        match (&mut tenant.ceiling, max_share) {
            (Some(ceiling), Some(share)) => ceiling.share = share,
            (ceiling, share) => {
                *ceiling = share.map(|share| Ceiling {
                    share,
                    credit_us: 0.0,
                    filled_at_us: now_us,
                });
            }
        }
    }

    /// Adds a flow of a tenant, with nothing to run.
    pub fn flow(&mut self, tenant: TenantId) -> FlowId {
        let flow = Flow {
            tenant: tenant.0,
            ready: false,
            reserved_us: None,
            again: false,
            removed: false,
        };
        match self.free.pop() {
            Some(index) => {
                self.flows[index] = flow;
                FlowId(index)
            }
            None => {
                self.flows.push(flow);
                FlowId(self.flows.len() - 1)
            }
        }
    }

    /// Takes a flow out; one that runs is gone once it is charged.
    pub fn remove(&mut self, flow: FlowId) {
        let state = &mut self.flows[flow.0];
        if state.removed {
            return;
        }
        state.removed = true;
        let (tenant, was_ready, running) = (state.tenant, state.ready, state.reserved_us.is_some());
        state.ready = false;
        if was_ready {
            self.tenants[tenant].ready.retain(|ready| *ready != flow.0);
        }
        if !running {
            self.free.push(flow.0);
        }
    }

    /// The flow has rows to run.
    pub fn ready(&mut self, flow: FlowId) {
        let state = &mut self.flows[flow.0];
        if state.removed || state.ready {
            return;
        }
        if state.reserved_us.is_some() {
            state.again = true;
            return;
        }
        state.ready = true;
        let tenant = state.tenant;
        let short_us = self.short_us(tenant);
        let state = &mut self.tenants[tenant];
        state.ready.push_back(flow.0);
        if state.in_ring {
            return;
        }
        state.in_ring = true;
        if state.sparse && state.burst_us < short_us {
            self.sparse.push_back(tenant);
        } else {
            self.ring.push_back(tenant);
        }
    }

    /// Whose batch is to run now.
    pub fn next(&mut self, now_us: u64) -> Next {
        if let Some(grant) = self.next_sparse(now_us) {
            return Next::Run(grant);
        }
        // Twice round the ring: once to end turns that are spent, once to start new ones.
        let mut visits = 2 * self.ring.len();
        let mut earliest: Option<u64> = None;
        while let Some(&tenant) = self.ring.front() {
            if visits == 0 {
                let Some(rounds) = self.rounds_until_positive(now_us) else {
                    break;
                };
                self.earn_rounds(rounds, now_us);
                visits = 2 * self.ring.len();
                continue;
            }
            visits -= 1;
            if self.tenants[tenant].ready.is_empty() {
                self.ring.pop_front();
                self.end_turn(tenant);
                self.tenants[tenant].in_ring = false;
                continue;
            }
            if let Some(until) = self.throttled_until(tenant, now_us) {
                earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
                self.tenants[tenant].in_turn = false;
                self.ring.rotate_left(1);
                continue;
            }
            let turn_us = self.quantum_us * self.tenants[tenant].weight;
            match self.in_turn(tenant, turn_us) {
                Some(grant) => return Next::Run(grant),
                None => self.ring.rotate_left(1),
            }
        }
        match earliest {
            Some(until) => Next::Wait(until.max(now_us + 1)),
            None => Next::Idle,
        }
    }

    /// The next of those before the ring. Each has one short turn there and then its place at the ring's end.
    fn next_sparse(&mut self, now_us: u64) -> Option<Grant> {
        while let Some(&tenant) = self.sparse.front() {
            if self.tenants[tenant].ready.is_empty() {
                self.end_turn(tenant);
            } else if self.throttled_until(tenant, now_us).is_some() {
                self.tenants[tenant].in_turn = false;
            } else if let Some(grant) = self.in_turn(tenant, self.short_us(tenant)) {
                return Some(grant);
            }
            self.sparse.pop_front();
            self.ring.push_back(tenant);
        }
        None
    }

    /// Lets a tenant run its first ready flow for what it has left in its turn, a quantum at most. None: the turn is over.
    fn in_turn(&mut self, tenant: usize, turn_us: f64) -> Option<Grant> {
        let state = &mut self.tenants[tenant];
        if !state.in_turn {
            state.in_turn = true;
            state.deficit_us += turn_us;
        }
        if state.deficit_us <= 0.0 {
            state.in_turn = false;
            return None;
        }
        let flow = state.ready.pop_front()?;
        let budget_us = state.deficit_us.min(self.quantum_us);
        state.deficit_us -= budget_us;
        state.running += 1;
        if let Some(ceiling) = &mut state.ceiling {
            ceiling.credit_us -= budget_us;
        }
        self.flows[flow].ready = false;
        self.flows[flow].reserved_us = Some(budget_us);
        Some(Grant {
            flow: FlowId(flow),
            budget_us,
        })
    }

    /// What a short burst of a tenant costs at most.
    fn short_us(&self, tenant: usize) -> f64 {
        SPARSE_SHARE * self.quantum_us * self.tenants[tenant].weight
    }

    /// Settles a run at its measured cost. `more`: the flow has rows left.
    pub fn charge(&mut self, flow: FlowId, spent_us: f64, more: bool) {
        let state = &mut self.flows[flow.0];
        let Some(reserved_us) = state.reserved_us.take() else {
            return;
        };
        let more = more || std::mem::take(&mut state.again);
        let (tenant, removed) = (state.tenant, state.removed);
        let short_us = self.short_us(tenant);
        let tenant = &mut self.tenants[tenant];
        let spent_us = if spent_us.is_finite() {
            spent_us.max(0.0)
        } else {
            reserved_us
        };
        tenant.deficit_us += reserved_us - spent_us;
        tenant.running -= 1;
        tenant.burst_us += spent_us;
        if !more && tenant.running == 0 && tenant.ready.is_empty() {
            tenant.sparse = tenant.burst_us <= short_us;
            tenant.burst_us = 0.0;
        }
        if let Some(ceiling) = &mut tenant.ceiling {
            ceiling.credit_us += reserved_us - spent_us;
        }
        if !tenant.in_ring {
            // It had nothing else to run when it was last visited: unspent budget is not saved up.
            tenant.deficit_us = tenant.deficit_us.min(0.0);
        }
        if removed {
            self.free.push(flow.0);
        } else if more {
            self.ready(flow);
        }
    }

    /// Ends the turn of a tenant that has nothing to run: what it has not spent is not saved up.
    fn end_turn(&mut self, tenant: usize) {
        let tenant = &mut self.tenants[tenant];
        tenant.in_turn = false;
        tenant.deficit_us = tenant.deficit_us.min(0.0);
    }

    /// Turns that must pass until the first tenant that may run has paid what it owes; none if none may run.
    fn rounds_until_positive(&mut self, now_us: u64) -> Option<f64> {
        let mut rounds: Option<f64> = None;
        for index in 0..self.ring.len() {
            let tenant = self.ring[index];
            if self.tenants[tenant].ready.is_empty() || self.throttled_until(tenant, now_us).is_some() {
                continue;
            }
            let state = &self.tenants[tenant];
            let needed = (-state.deficit_us / (self.quantum_us * state.weight)).floor().max(0.0);
            rounds = Some(rounds.map_or(needed, |rounds: f64| rounds.min(needed)));
        }
        rounds
    }

    fn earn_rounds(&mut self, rounds: f64, now_us: u64) {
        for index in 0..self.ring.len() {
            let tenant = self.ring[index];
            if self.throttled_until(tenant, now_us).is_none() {
                let state = &mut self.tenants[tenant];
                state.deficit_us += rounds * self.quantum_us * state.weight;
            }
        }
    }

    /// Until when a tenant is at its ceiling.
    fn throttled_until(&mut self, tenant: usize, now_us: u64) -> Option<u64> {
        let cores = self.cores;
        let ceiling = self.tenants[tenant].ceiling.as_mut()?;
        let rate = ceiling.share * cores;
        let elapsed_us = now_us.saturating_sub(ceiling.filled_at_us) as f64;
        ceiling.credit_us = (ceiling.credit_us + elapsed_us * rate).min(CEILING_BURST_US * rate);
        ceiling.filled_at_us = now_us.max(ceiling.filled_at_us);
        (ceiling.credit_us <= 0.0).then(|| now_us + (-ceiling.credit_us / rate).ceil().max(1.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fairness::jain_index;
    use super::*;
    use proptest::prelude::*;

    const QUANTUM_US: f64 = 1_000.0;

    /// One simulated tenant: weight and the cost of a row.
    fn tenants() -> impl Strategy<Value = Vec<(u32, f64)>> {
        prop::collection::vec((1u32..8, 1.0f64..5_000.0), 2..8)
    }

    /// Runs batches near the budget, as the executors do, and returns what they cost.
    fn cost(grant: &Grant, row_us: f64) -> f64 {
        (grant.budget_us / row_us).floor().max(1.0) * row_us
    }

    proptest! {
        #[test]
        fn backlogged_tenants_get_cpu_by_weight(tenants in tenants()) {
            let mut drr = Drr::new(QUANTUM_US, 1);
            let flows: Vec<FlowId> = tenants.iter().map(|(weight, _)| { let t = drr.tenant(*weight); drr.flow(t) }).collect();
            for flow in &flows { drr.ready(*flow); }
            let mut spent = vec![0.0; tenants.len()];
            let mut now = 0.0;
            while now < 3_000_000.0 {
                let Next::Run(grant) = drr.next(now as u64) else { panic!("work-conserving") };
                let index = flows.iter().position(|flow| *flow == grant.flow).unwrap();
                let cost = cost(&grant, tenants[index].1);
                spent[index] += cost;
                now += cost;
                drr.charge(grant.flow, cost, true);
            }
            let index = jain_index(spent.iter().zip(&tenants).map(|(spent, (weight, _))| spent / f64::from(*weight)));
            prop_assert!(index > 0.98, "Jain {index}: {spent:?} for {tenants:?}");
        }

        #[test]
        fn nobody_starves(tenants in tenants()) {
            let mut drr = Drr::new(QUANTUM_US, 1);
            let flows: Vec<FlowId> = tenants.iter().map(|(weight, _)| { let t = drr.tenant(*weight); drr.flow(t) }).collect();
            for flow in &flows { drr.ready(*flow); }
            let weights: f64 = tenants.iter().map(|(weight, _)| f64::from(*weight)).sum();
            let slowest = tenants.iter().map(|(_, row)| *row).fold(QUANTUM_US, f64::max);
            let mut last_served = vec![0.0f64; tenants.len()];
            let mut now = 0.0;
            while now < 1_000_000.0 {
                let Next::Run(grant) = drr.next(now as u64) else { panic!("work-conserving") };
                let index = flows.iter().position(|flow| *flow == grant.flow).unwrap();
                // A debt of one row is paid within so many rounds, in each of which the others spend their quanta.
                let rounds = slowest / QUANTUM_US + 2.0;
                let bound = rounds * QUANTUM_US * weights + (tenants.len() as f64 + 1.0) * 2.0 * slowest;
                prop_assert!(now - last_served[index] <= bound, "waited {} of {bound}", now - last_served[index]);
                last_served[index] = now;
                let cost = cost(&grant, tenants[index].1);
                now += cost;
                drr.charge(grant.flow, cost, true);
            }
        }

        #[test]
        fn conserves_work_and_loses_no_flow(steps in prop::collection::vec((0usize..6, 0u8..3, 1.0f64..20_000.0), 1..300)) {
            let mut drr = Drr::new(QUANTUM_US, 2);
            let ids: Vec<TenantId> = (1..4).map(|weight| drr.tenant(weight)).collect();
            let flows: Vec<FlowId> = (0..6).map(|i| drr.flow(ids[i % 3])).collect();
            let mut waiting = [false; 6];
            let mut running: Vec<FlowId> = Vec::new();
            for (flow, action, cost) in steps {
                match action {
                    0 => { drr.ready(flows[flow]); waiting[flow] = true; }
                    1 => match drr.next(0) {
                        Next::Run(grant) => {
                            let index = flows.iter().position(|f| *f == grant.flow).unwrap();
                            prop_assert!(waiting[index] && !running.contains(&grant.flow));
                            prop_assert!(grant.budget_us > 0.0 && grant.budget_us <= QUANTUM_US);
                            waiting[index] = false;
                            running.push(grant.flow);
                        }
                        Next::Wait(_) => panic!("no ceilings here"),
                        Next::Idle => for (index, waits) in waiting.iter().enumerate() {
                            prop_assert!(!waits || running.contains(&flows[index]));
                        },
                    },
                    _ => if let Some(flow) = running.pop() { drr.charge(flow, cost, false); },
                }
            }
        }

        #[test]
        fn a_ceiling_holds_even_when_nobody_else_wants_the_cpu(share in 0.05f64..0.9, row_us in 10.0f64..2_000.0) {
            let mut drr = Drr::new(QUANTUM_US, 1);
            let tenant = drr.tenant(1);
            drr.configure(tenant, 1, Some(share), 0);
            let flow = drr.flow(tenant);
            drr.ready(flow);
            let (mut now, mut spent) = (0u64, 0.0);
            while now < 2_000_000 {
                match drr.next(now) {
                    Next::Run(grant) => {
                        let cost = cost(&grant, row_us).ceil();
                        spent += cost;
                        now += cost as u64;
                        drr.charge(flow, cost, true);
                    }
                    Next::Wait(until) => { prop_assert!(until > now); now = until; }
                    Next::Idle => panic!("the flow is ready"),
                }
            }
            // Above it at most a full bucket and the last row; below it at most what a debt of one row and budget leaves unpaid.
            let (most_us, least_us) = (share * (now as f64 + CEILING_BURST_US) + row_us, share * now as f64 - row_us - QUANTUM_US);
            prop_assert!(spent <= most_us && spent >= least_us, "{spent} of {least_us} to {most_us}");
        }
    }

    /// Tenants that have short work again and again beside one that always has work; what each spent.
    fn beside_a_backlog(sparse: usize, work_us: f64, pause_us: f64) -> Vec<f64> {
        let mut drr = Drr::new(QUANTUM_US, 1);
        let flows: Vec<FlowId> = (0..=sparse)
            .map(|_| {
                let tenant = drr.tenant(1);
                drr.flow(tenant)
            })
            .collect();
        drr.ready(flows[sparse]);
        let (mut now, mut spent, mut wakes) = (0.0, vec![0.0; sparse + 1], vec![Some(0.0); sparse]);
        while now < 2_000_000.0 {
            for (flow, wake) in flows.iter().zip(&mut wakes) {
                if wake.take_if(|at| *at <= now).is_some() {
                    drr.ready(*flow);
                }
            }
            let Next::Run(grant) = drr.next(now as u64) else {
                panic!("work-conserving")
            };
            let index = flows.iter().position(|flow| *flow == grant.flow).unwrap();
            let cost = if index == sparse { grant.budget_us } else { work_us };
            now += cost;
            spent[index] += cost;
            drr.charge(grant.flow, cost, index == sparse);
            if let Some(wake) = wakes.get_mut(index) {
                *wake = Some(now + pause_us);
            }
        }
        spent
    }

    #[test]
    fn many_that_ask_for_little_do_not_starve_one_that_asks_for_much() {
        // Together they would take all of it.
        for (sparse, work_us, pause_us) in [(50, 90.0, 0.0), (200, 20.0, 500.0), (3, 100.0, 10.0)] {
            let spent = beside_a_backlog(sparse, work_us, pause_us);
            let most = spent[..sparse].iter().copied().fold(0.0, f64::max);
            assert!(
                spent[sparse] >= most - work_us,
                "{} of one, {most} of another",
                spent[sparse]
            );
        }
    }

    #[test]
    fn who_asks_for_little_goes_before_who_asked_for_much() {
        let mut drr = Drr::new(QUANTUM_US, 1);
        let (much, little) = (drr.tenant(1), drr.tenant(1));
        let costly = [drr.flow(much), drr.flow(much)];
        let cheap = drr.flow(little);
        for burst in 0..10 {
            costly.iter().for_each(|flow| drr.ready(*flow));
            drr.ready(cheap);
            let mut order = Vec::new();
            while let Next::Run(grant) = drr.next(0) {
                let cost = if grant.flow == cheap { 5.0 } else { 120.0 };
                drr.charge(grant.flow, cost, false);
                order.push(grant.flow);
            }
            assert_eq!(order.len(), 3);
            assert!(burst == 0 || order[0] == cheap, "{order:?}");
        }
    }

    #[test]
    fn idle_time_is_lent_and_not_saved_up() {
        let mut drr = Drr::new(QUANTUM_US, 1);
        let (a, b) = (drr.tenant(1), drr.tenant(1));
        let (fa, fb) = (drr.flow(a), drr.flow(b));
        drr.ready(fa);
        for _ in 0..1_000 {
            assert!(matches!(drr.next(0), Next::Run(Grant { flow, .. }) if flow == fa));
            drr.charge(fa, QUANTUM_US, true);
        }
        drr.ready(fb);
        let mut served = [0, 0];
        for _ in 0..100 {
            let Next::Run(grant) = drr.next(0) else {
                panic!("work-conserving")
            };
            served[usize::from(grant.flow == fb)] += 1;
            drr.charge(grant.flow, QUANTUM_US, true);
        }
        assert!(i32::abs(served[0] - served[1]) <= 2, "{served:?}");
    }

    #[test]
    fn a_removed_flow_is_never_granted_again() {
        let mut drr = Drr::new(QUANTUM_US, 1);
        let tenant = drr.tenant(1);
        let (first, second) = (drr.flow(tenant), drr.flow(tenant));
        drr.ready(first);
        drr.ready(second);
        drr.remove(first);
        assert!(matches!(drr.next(0), Next::Run(Grant { flow, .. }) if flow == second));
        drr.remove(second);
        drr.charge(second, 10.0, true);
        assert_eq!(drr.next(0), Next::Idle);
    }
}
