//! Where the detached models of one partition of the feature log stand: a pure machine, over offsets.
//!
//! One consumer reads the partition for all of them. A model that cannot take an entry stops, and the others go on; once it
//! can go on, the partition is read again from there, unless the consumer has not got that far yet. So a cursor that is not
//! stopped is never behind the consumer, and nobody's entries are passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The cursors of one partition.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    /// next offset that the consumer gives; none before the partition is read
    fetched: Option<i64>,
    models: BTreeMap<Arc<str>, Cursor>,
}

/// Where one detached model stands.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    next: i64,
    /// an entry at `next` was not taken; nothing later may be
    stopped: bool,
}

/// What the consumer has to do before it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// nobody wants anything
    Nothing,
    /// read on
    ReadOn,
    /// begin to read the partition at an offset
    Begin(i64),
    /// go back to an offset
    Seek(i64),
}

impl Cursors {
    /// Forgets where a model stands: it goes on from its mode's position.
    pub fn forget(&mut self, model: &Arc<str>) {
        self.models.remove(model);
    }

    /// Forgets where every model stands.
    pub fn reset(&mut self) {
        self.models.clear();
    }

    /// Up to where a model has been given everything that is its own.
    pub fn reached(&self, model: &Arc<str>) -> Option<i64> {
        self.models.get(model).map(|cursor| cursor.next)
    }

    /// What is to be read for models that have entries between `position` and `end`.
    pub fn plan<'a>(
        &mut self,
        wanted: impl Iterator<Item = (&'a Arc<str>, i64, i64)>,
        can_go_on: impl Fn(&str) -> bool,
    ) -> Plan {
        let (mut anybody, mut back_to) = (false, i64::MAX);
        for (model, position, end) in wanted {
            if position >= end {
                continue;
            }
            let cursor = self.models.entry(model.clone()).or_insert(Cursor {
                next: position,
                stopped: true,
            });
            if cursor.next >= end || !can_go_on(model) {
                continue;
            }
            anybody = true;
            match self.fetched {
                // The consumer comes by.
                Some(fetched) if fetched <= cursor.next => cursor.stopped = false,
                _ => back_to = back_to.min(cursor.next),
            }
        }
        let plan = match (anybody, self.fetched) {
            (false, _) => return Plan::Nothing,
            (true, _) if back_to == i64::MAX => return Plan::ReadOn,
            (true, None) => Plan::Begin(back_to),
            (true, Some(_)) => Plan::Seek(back_to),
        };
        self.fetched = Some(back_to);
        for (model, cursor) in &mut self.models {
            if cursor.next >= back_to && can_go_on(model) {
                cursor.stopped = false;
            }
        }
        plan
    }

    /// An entry of `model` has come; `take` says whether the model takes it now.
    pub fn entry(&mut self, offset: i64, model: &str, mut take: impl FnMut() -> bool) {
        self.fetched = self.fetched.map(|fetched| fetched.max(offset + 1));
        for (known, cursor) in &mut self.models {
            if cursor.stopped || offset < cursor.next {
                continue;
            }
            if **known != *model || take() {
                cursor.next = offset + 1;
            } else {
                cursor.stopped = true;
                cursor.next = offset;
            }
        }
    }

    /// There was nothing more below `end`.
    pub fn ended(&mut self, end: i64) {
        for cursor in self.models.values_mut().filter(|cursor| !cursor.stopped) {
            cursor.next = cursor.next.max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// entries of models are appended
        Append(Vec<usize>),
        /// some models can go on, and the consumer brings so many entries, perhaps none
        Poll {
            ready: Vec<bool>,
            takes: Vec<bool>,
            entries: usize,
        },
        /// a model has run what it was given
        Done(usize),
        /// what a model was given and has not run is taken back
        TakeBack(usize),
    }

    const MODELS: usize = 4;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let flags = || prop::collection::vec(any::<bool>(), MODELS);
        let step = prop_oneof![
            3 => prop::collection::vec(0..MODELS, 1..12).prop_map(Step::Append),
            6 => (flags(), prop::collection::vec(any::<bool>(), 1..16), 0usize..8)
                .prop_map(|(ready, takes, entries)| Step::Poll { ready, takes, entries }),
            2 => (0..MODELS).prop_map(Step::Done),
            1 => (0..MODELS).prop_map(Step::TakeBack),
        ];
        prop::collection::vec(step, 1..80)
    }

    /// One model outside the cursors: its mode's position and end, and what it was given since.
    #[derive(Clone, Default)]
    struct Model {
        position: i64,
        end: i64,
        given: Vec<i64>,
        run: Vec<i64>,
    }

    proptest! {
        /// Whoever stops when, and whatever the consumer brings: each model runs all of its entries, once and in order.
        #[test]
        fn nobody_is_passed_over(steps in steps()) {
            let names: Vec<Arc<str>> = (0..MODELS).map(|number| format!("m{number}").into()).collect();
            let (mut log, mut models) = (Vec::<usize>::new(), vec![Model::default(); MODELS]);
            let (mut cursors, mut consumer) = (Cursors::default(), 0usize);
            let finish = (0..MODELS * 4).flat_map(|_| {
                let all = Step::Poll { ready: vec![true; MODELS], takes: vec![true], entries: 100_000 };
                std::iter::once(all).chain((0..MODELS).map(Step::Done))
            });
            for step in steps.into_iter().chain(finish) {
                match step {
                    Step::Append(owners) => for owner in owners {
                        log.push(owner);
                        models[owner].end = log.len() as i64;
                    },
                    Step::Poll { ready, takes, entries } => {
                        let can_go_on = |model: &str| ready[names.iter().position(|name| **name == *model).unwrap()];
                        let wanted = names.iter().zip(&models).map(|(name, model)| (name, model.position, model.end));
                        match cursors.plan(wanted, can_go_on) {
                            Plan::Nothing => continue,
                            Plan::ReadOn => {}
                            Plan::Begin(offset) | Plan::Seek(offset) => consumer = offset as usize,
                        }
                        let mut takes = takes.iter().cycle();
                        for _ in 0..entries {
                            let Some(&owner) = log.get(consumer) else { break };
                            let offset = consumer as i64;
                            consumer += 1;
                            cursors.entry(offset, &names[owner], || {
                                let taken = ready[owner] && *takes.next().unwrap();
                                if taken { models[owner].given.push(offset); }
                                taken
                            });
                        }
                        if consumer == log.len() { cursors.ended(consumer as i64); }
                    }
                    Step::Done(number) => {
                        let model = &mut models[number];
                        model.run.append(&mut model.given);
                        if let Some(next) = cursors.reached(&names[number]) { model.position = model.position.max(next); }
                    }
                    Step::TakeBack(number) => if !models[number].given.is_empty() {
                        models[number].given.clear();
                        cursors.forget(&names[number]);
                    },
                }
            }
            for (number, model) in models.iter().enumerate() {
                let own: Vec<i64> = (0..log.len()).filter(|at| log[*at] == number).map(|at| at as i64).collect();
                prop_assert_eq!(&model.run, &own, "model {}", number);
            }
        }
    }
}
