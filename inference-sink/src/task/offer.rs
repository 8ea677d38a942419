//! From an event to the rows of the models that want it: limits, windows, flows.

use super::TaskModel;
use super::hand_over::{place, row_block};
use super::partition::PartitionState;
use super::refusals::Refusals;
use super::topology::{Subscriber, WindowPlan};
use crate::barrier::ShedEvent;
use crate::detach::Reason;
use crate::flow::RowSource;
use crate::limits::{RateLimit, Verdict};
use crate::metrics::{Metrics, ShedReason};
use crate::models::{InputError, write_inputs};
use crate::trigger::{Observed, WindowEntry};
use connect_api::partitioned::RawRecord;
use feature_engine::Evaluator;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What stands between an event and the models that want it.
pub(super) struct Models<'a> {
    pub models: &'a mut [TaskModel],
    pub limits: &'a mut BTreeMap<String, RateLimit>,
    pub shed: &'a mut Vec<ShedEvent>,
    pub shed_topics: &'a BTreeMap<String, Arc<str>>,
    pub refusals: &'a Refusals,
    pub metrics: &'a Metrics,
    /// of the event at hand, by tenant: its limit judges an event once, however many of its models want it
    pub verdicts: Vec<Option<Verdict>>,
}

impl Models<'_> {
    /// Gives an event to a model that wants it.
    pub fn offer(
        &mut self,
        subscriber: &Subscriber,
        evaluator: &Evaluator,
        partition: &mut PartitionState,
        record: &RawRecord<'_>,
        source: RowSource,
    ) {
        match self.judge(subscriber, partition, record) {
            Verdict::Pass => {}
            Verdict::Shed => return,
            Verdict::Wait => partition.divert(&subscriber.model, Reason::OverRate),
        }
        if let Some(window) = &subscriber.window {
            let taken = self.observe(subscriber, window, evaluator, partition, record, source);
            if !(taken && window.updates) {
                return;
            }
        }
        let block = row_block(self.models, partition, &subscriber.model, subscriber.index);
        let Some(block) = block else { return };
        if let Err(error) = write_inputs(evaluator, &subscriber.slots, &mut block.inputs) {
            subscriber.refuse_input(&error, record);
            return;
        }
        block.end_row(source, |out| subscriber.write_key(evaluator, record.key, out));
    }

    fn judge(&mut self, subscriber: &Subscriber, partition: &PartitionState, record: &RawRecord<'_>) -> Verdict {
        if self.limits.is_empty() {
            return Verdict::Pass;
        }
        let tenant = &subscriber.model.document.tenant;
        // What waits in the feature log already is judged when it is read from there.
        let waits = |limit: &RateLimit| limit.waits() && partition.is_diverted(&subscriber.model.identity);
        let Some(limit) = self.limits.get_mut(tenant.as_str()).filter(|limit| !waits(limit)) else {
            return Verdict::Pass;
        };
        if self.verdicts.len() <= subscriber.tenant {
            self.verdicts.resize(subscriber.tenant + 1, None);
        }
        let Some(verdict) = self.verdicts.get_mut(subscriber.tenant) else {
            return Verdict::Pass;
        };
        if let Some(verdict) = verdict {
            return *verdict;
        }
        let judged = *verdict.insert(limit.judge(spread(record.offset, record.partition)));
        if judged == Verdict::Shed {
            self.metrics.shed(tenant, ShedReason::Rate, 1);
            // A topic that refuses records gets none for a while: the event is counted all the same.
            let topic = self.shed_topics.get(tenant.as_str());
            if let Some(topic) = topic.filter(|topic| !self.refusals.leaves_alone(topic)) {
                self.shed.push(ShedEvent::of(topic, record));
            }
        }
        judged
    }

    /// Puts an event into its window. False: it is in none.
    fn observe(
        &mut self,
        subscriber: &Subscriber,
        plan: &WindowPlan,
        evaluator: &Evaluator,
        partition: &mut PartitionState,
        record: &RawRecord<'_>,
        source: RowSource,
    ) -> bool {
        let tenant = &subscriber.model.document.tenant;
        let mut key = Vec::new();
        if let Err(part) = plan.write_key(evaluator, &mut key) {
            subscriber.runtime.unusable(&format!(
                "{}: is in no window, as `{part}` of trigger.window.by is missing",
                place(record)
            ));
            self.metrics.shed(tenant, ShedReason::NoKey, 1);
            return false;
        }
        let mut row = subscriber.model.signature.empty();
        if let Err(error) = write_inputs(evaluator, &subscriber.slots, &mut row) {
            subscriber.refuse_input(&error, record);
            return false;
        }
        let mut output_key = Vec::new();
        let has_key = subscriber.write_key(evaluator, record.key, &mut output_key);
        let entry = WindowEntry {
            version: subscriber.model.version,
            signature: subscriber.model.signature.clone(),
            row,
            output_key: has_key.then_some(output_key),
            topic: source.topic,
            offset: record.offset,
            event_time_ms: source.event_time_ms,
        };
        let now_ms = partition.time_of(&plan.views).unwrap_or(source.event_time_ms);
        let windows = partition.windows_of(&subscriber.model.identity);
        if windows.observe(&plan.rule, &key, entry, now_ms) == Observed::Late {
            subscriber.runtime.late.fetch_add(1, Ordering::Relaxed);
            self.metrics.shed(tenant, ShedReason::Late, 1);
            return false;
        }
        true
    }
}

impl Subscriber {
    /// Counts an event that gives the model no row.
    #[cold]
    fn refuse_input(&self, error: &InputError, record: &RawRecord<'_>) {
        self.runtime
            .refused_input(format!("{}: {}", place(record), self.model.input_error(error)));
    }

    pub(super) fn wants(&self, evaluator: &Evaluator) -> bool {
        if let Some((id, types)) = &self.event_type {
            let matches = match evaluator.scalar(*id) {
                feature_engine::Scalar::Text(text) => types.iter().any(|wanted| wanted == text),
                _ => false,
            };
            if !matches {
                return false;
            }
        }
        self.filter.is_none_or(|filter| evaluator.scalar(filter).is_true())
    }

    fn write_key(&self, evaluator: &Evaluator, event_key: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        match self.key {
            Some(key) => evaluator.scalar(key).write_plain(out),
            None => event_key.map(|key| out.extend_from_slice(key)).is_some(),
        }
    }
}

impl WindowPlan {
    /// Appends a window's key: its parts as plain text, each ended by a 0. Parts are UTF-8, which has no byte 0xff, so that
    /// one marks a 0 within a part, and no two lists of parts have one key.
    ///
    /// Error: the part that is missing.
    fn write_key<'a>(&'a self, evaluator: &Evaluator, key: &mut Vec<u8>) -> Result<(), &'a str> {
        for (text, part) in &self.by {
            let start = key.len();
            if !evaluator.scalar(*part).write_plain(key) {
                return Err(text);
            }
            let mut at = start;
            while let Some(zero) = key.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
                at += zero + 2;
                key.insert(at - 1, 0xff);
            }
            key.push(0);
        }
        Ok(())
    }
}

/// A number that is uniform over events (SplitMix64).
fn spread(offset: i64, partition: i32) -> u64 {
    let x = (offset as u64).wrapping_add((partition as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
