//! Rows that have waited, for the version that runs them now. One that was made for the same inputs stays as it is; any other
//! is made again ([`Remake`]), with the defaults of the view that the version reads for the row's topic.

use super::topology::ViewPlan;
use crate::flow::RowBlock;
use crate::models::{InputSignature, Remake, ServedModel};
use model_engine::Values;
use std::collections::HashMap;
use std::sync::Arc;

/// How rows of other signatures become rows of the versions that are served.
#[derive(Default)]
pub(super) struct Remakes {
    /// by model, hash of the other signature and topic
    known: HashMap<(Arc<str>, u64, u16), (Remake, Place)>,
}

/// Where a model is in the plans: topic, view of it, number among the view's models.
type Place = (usize, usize, usize);

impl Remakes {
    /// Appends the features of a row of `topic` to a block of the version that is to run it; the row is to be ended then.
    ///
    /// # Errors
    /// Why it is no row of that version; the block is as it was.
    pub fn take_up(
        &mut self,
        plans: &mut [Vec<ViewPlan>],
        topic: u16,
        (made_for, row): (&InputSignature, &[Values]),
        block: &mut RowBlock,
    ) -> Result<(), String> {
        let RowBlock { model, inputs, .. } = block;
        if made_for.hash() == model.signature.hash() {
            block.push_inputs(row);
            return Ok(());
        }
        let key = (model.identity.clone(), made_for.hash(), topic);
        let (remake, (topic, view, number)) = self.known.entry(key).or_insert_with(|| {
            let place = place_of(plans, topic, model);
            (Remake::new(made_for, &model.signature), place.unwrap_or_default())
        });
        let plan = plans.get_mut(*topic).and_then(|plans| plans.get_mut(*view));
        let subscriber = plan.and_then(|plan| Some((plan.models.get(*number)?, &mut plan.evaluator)));
        let Some((subscriber, evaluator)) = subscriber.filter(|(known, _)| Arc::ptr_eq(&known.model, model)) else {
            return Err("its model reads none of the connector's topics any more".to_owned());
        };
        remake
            .write(row, evaluator, &subscriber.slots, inputs)
            .map_err(|error| model.input_error(&error))
    }
}

/// Where a version is at the view that it reads for a topic; else at any that it reads.
fn place_of(plans: &[Vec<ViewPlan>], topic: u16, model: &Arc<ServedModel>) -> Option<Place> {
    let at = |topic: usize| {
        let views = plans.get(topic)?.iter().enumerate();
        let mut places = views.filter_map(|(view, plan)| {
            let mut models = plan.models.iter();
            let number = models.position(|known| Arc::ptr_eq(&known.model, model))?;
            Some((topic, view, number))
        });
        places.next()
    };
    at(topic.into()).or_else(|| (0..plans.len()).find_map(at))
}
