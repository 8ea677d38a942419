//! Runs a model: scratch memory of one thread.

use std::ops::Range;
use std::sync::Arc;

use crate::scratch::{Scratch, next_batch};
use crate::{Model, ModelError, Outputs, Values};

/// Scratch memory to run one model on one thread. Nothing of a run is kept for the next: every run starts from the model's
/// initial state, whatever ran before and however it ended.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    scratch: Scratch,
}

impl Session {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let scratch = Scratch::new(&model.program);
        Session { model, scratch }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Runs some rows. `inputs` has the rows of each model input, in the order of [`Model::inputs`] and of their element
    /// types; `rows` says which of them. Any number of rows: they are cut into compiled batch sizes, and the last batch is
    /// padded. The answer holds until the next run. A panic of the engine is caught and answered as an error; the session
    /// stays usable.
    ///
    /// # Errors
    /// Inputs that are not the model's, or a failure of the run: of all of its rows, though one alone may have caused it.
    pub fn run(&mut self, inputs: &[Values], rows: Range<usize>) -> Result<&Outputs, ModelError> {
        self.check(inputs, &rows)?;
        let program = &self.model.program;
        self.scratch.outputs.clear();
        let mut done = rows.start;
        while done < rows.end {
            let (taken, batch) = next_batch(rows.end - done, &program.batch_sizes, program.fixed);
            self.scratch.run(program, batch, inputs, done..done + taken)?;
            done += taken;
        }
        Ok(&self.scratch.outputs)
    }

    fn check(&self, inputs: &[Values], rows: &Range<usize>) -> Result<(), ModelError> {
        let specs = self.model.inputs();
        if inputs.len() != specs.len() {
            return Err(ModelError::InputCount {
                expected: specs.len(),
                got: inputs.len(),
            });
        }
        for (spec, input) in specs.iter().zip(inputs) {
            if input.element() != spec.element {
                return Err(ModelError::InputElement {
                    input: spec.name.clone(),
                    expected: spec.element,
                    got: input.element(),
                });
            }
            if rows
                .end
                .checked_mul(spec.width())
                .is_none_or(|needed| needed > input.len())
            {
                return Err(ModelError::InputWidth {
                    input: spec.name.clone(),
                    expected: spec.width(),
                    got: input.len() / rows.end.max(1),
                });
            }
        }
        Ok(())
    }
}
