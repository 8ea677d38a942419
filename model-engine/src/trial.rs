//! Runs a program to see whether the rows of a batch are computed apart from each other.
//!
//! Where that is proven from the graph, one thing is left to see: a model may count the rows of its batch, so answers of one
//! row must agree between batch sizes, as far as the kernels' orders of summation let them. Where it is not proven, rows of
//! many kinds are run alone (a batch filled with one of them) and beside others, in several places of the batch and beside
//! what spoils every sum (NaN, infinity, huge numbers). It is the same plan with the same kernels each time, so not one bit
//! of a row's answer may change: no tolerance could tell the order of a sum from a step of a quantisation.

use std::ops::Range;

use crate::compile::Program;
use crate::scratch::Scratch;
use crate::{ElementType, ModelError, Values};

/// How far answers of one row may be apart between batch sizes, in parts of the larger one: much more than what the order of
/// a sum changes, and much less than what one row more or less in the batch does to a mean.
const SIZES_APART: f64 = 1e-3;
/// And in absolute terms, for answers near zero.
const SIZES_APART_NEAR_ZERO: f64 = 1e-5;

/// Kinds of rows; none of them can make numbers that are not finite by itself in an ordinary model.
const ORDINARY: [Kind; 9] = [
    Kind::Zeros,
    Kind::Ones,
    Kind::Small,
    Kind::Noise,
    Kind::Noise,
    Kind::Signed,
    Kind::Whole,
    Kind::Scales,
    Kind::Large,
];
/// So many of them, the first, are of a size at which the order of a sum changes little.
const MODEST: usize = 7;
/// What the ordinary rows are put beside.
const NEIGHBOURS: [Kind; 4] = [Kind::NotANumber, Kind::Infinite, Kind::Huge, Kind::Large];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Zeros,
    Ones,
    Small,
    Noise,
    Signed,
    Whole,
    Scales,
    Large,
    NotANumber,
    Infinite,
    Huge,
}

/// An answer that was not the same, or why there was none.
#[derive(Debug, PartialEq)]
pub(crate) enum Trial {
    /// Answers were the same.
    Same,
    /// The output of this name differed by so much.
    Differs { output: String, by: f64 },
    /// Not one row could be run.
    Failed(ModelError),
}

/// Whether one row's answers agree between batch sizes.
pub(crate) fn between_sizes(program: &Program) -> Trial {
    let mut bench = Bench::new(program);
    let alone = match bench.alone(smallest(program), MODEST) {
        Ok(alone) => alone,
        Err(error) => return Trial::Failed(error),
    };
    for size in program.batch_sizes.iter().skip(1) {
        let places = (0..*size).map(|place| alone.get(place % alone.len()));
        let rows: Vec<usize> = places.map(|row| row.map_or(0, |(row, _)| *row)).collect();
        let Ok(together) = bench.run(*size, &rows) else {
            continue;
        };
        for ((_, expected), got) in alone.iter().zip(&together) {
            if let Some(differs) = bench.compare(expected, got, agree) {
                return differs;
            }
        }
    }
    Trial::Same
}

/// Whether rows beside each other are as they are alone, bit for bit.
pub(crate) fn within_batches(program: &Program) -> Trial {
    let mut bench = Bench::new(program);
    for &size in program.batch_sizes.iter().filter(|size| **size > 1) {
        let alone = match bench.alone(size, ORDINARY.len()) {
            Ok(alone) => alone,
            Err(error) => return Trial::Failed(error),
        };
        for arrangement in bench.arrangements(size, alone.len()) {
            let row_at = |place: &Place| match place {
                Place::Ordinary(which) => alone.get(*which).map_or(0, |(row, _)| *row),
                Place::Neighbour(row) => *row,
            };
            let rows: Vec<usize> = arrangement.iter().map(row_at).collect();
            // What a neighbour makes fail fails with it in service too, and each is run alone then.
            let Ok(together) = bench.run(size, &rows) else { continue };
            for (place, got) in arrangement.iter().zip(&together) {
                let Place::Ordinary(which) = place else { continue };
                let Some((_, expected)) = alone.get(*which) else {
                    continue;
                };
                if let Some(differs) = bench.compare(expected, got, same) {
                    return differs;
                }
            }
        }
    }
    Trial::Same
}

fn smallest(program: &Program) -> usize {
    program.batch_sizes.first().copied().unwrap_or(1)
}

/// What is in one place of a batch.
#[derive(Clone, Copy)]
enum Place {
    /// One of the rows that can be run alone.
    Ordinary(usize),
    /// A row of the bench.
    Neighbour(usize),
}

/// One value of an answer.
type Answer = Vec<f64>;

struct Bench<'a> {
    program: &'a Program,
    scratch: Scratch,
    /// All rows of the trial: the ordinary ones, then the neighbours.
    rows: Vec<Values>,
}

impl Bench<'_> {
    fn new(program: &Program) -> Bench<'_> {
        let input = |(number, (spec, _)): (usize, &(crate::TensorSpec, _))| {
            let mut values = Values::new(spec.element);
            for (row, kind) in ORDINARY.iter().chain(&NEIGHBOURS).enumerate() {
                let mut noise = Noise::new(row as u64 * 31 + number as u64 + 1);
                (0..spec.width()).for_each(|_| push(*kind, &mut noise, &mut values));
            }
            values
        };
        Bench {
            program,
            scratch: Scratch::new(program),
            rows: program.inputs.iter().enumerate().map(input).collect(),
        }
    }

    /// Which of the first ordinary rows can be run, and their answers, each in a batch that it fills.
    fn alone(&mut self, size: usize, first: usize) -> Result<Vec<(usize, Answer)>, ModelError> {
        let mut answers = Vec::new();
        let mut failed = None;
        for row in 0..first {
            match self.run(size, &vec![row; size]) {
                Ok(mut together) => answers.push((row, together.swap_remove(0))),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if answers.is_empty() => Err(error),
            _ => Ok(answers),
        }
    }

    /// Ways to put `count` ordinary rows into a batch: in order, backwards, in strides, every second place a neighbour.
    fn arrangements(&self, size: usize, count: usize) -> Vec<Vec<Place>> {
        let ordinary = |place: usize, stride: usize, shift: usize| Place::Ordinary((place * stride + shift) % count);
        let mut all: Vec<Vec<Place>> = [(1, 0), (count.max(2) - 1, 1), (2, 1), (5, 3)]
            .iter()
            .map(|(stride, shift)| (0..size).map(|place| ordinary(place, *stride, *shift)).collect())
            .collect();
        for neighbour in 0..NEIGHBOURS.len() {
            for first in 0..2 {
                let place = |place: usize| match place % 2 == first {
                    true => ordinary(place / 2, 1, neighbour),
                    false => Place::Neighbour(ORDINARY.len() + neighbour),
                };
                all.push((0..size).map(place).collect());
            }
        }
        all
    }

    /// Runs rows of the bench in one batch.
    fn run(&mut self, size: usize, rows: &[usize]) -> Result<Vec<Answer>, ModelError> {
        let inputs: Vec<Values> = self
            .program
            .inputs
            .iter()
            .zip(&self.rows)
            .map(|((spec, _), from)| {
                let mut values = Values::new(spec.element);
                let width = spec.width();
                rows.iter()
                    .for_each(|row| values.extend_from(from, row * width..(row + 1) * width));
                values
            })
            .collect();
        self.scratch.outputs.clear();
        self.scratch.run(self.program, size, &inputs, 0..rows.len())?;
        Ok((0..rows.len()).map(|row| self.scratch.outputs.numbers(row)).collect())
    }

    /// The first output in which two answers differ.
    fn compare(&self, expected: &Answer, got: &Answer, equal: fn(ElementType, f64, f64) -> bool) -> Option<Trial> {
        let mut columns: Range<usize> = 0..0;
        for (spec, _) in &self.program.outputs {
            columns = columns.end..columns.end + spec.width();
            let both = expected.get(columns.clone())?.iter().zip(got.get(columns.clone())?);
            let differences = both.filter(|(a, b)| !equal(spec.element, **a, **b));
            let by = differences.map(|(a, b)| (a - b).abs()).reduce(f64::max);
            if let Some(by) = by {
                let output = spec.name.clone();
                return Some(Trial::Differs { output, by });
            }
        }
        None
    }
}

fn same(_: ElementType, a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// Integers and labels are not compared between sizes: the order of a sum may decide which of two equal scores wins.
fn agree(element: ElementType, a: f64, b: f64) -> bool {
    match element {
        ElementType::Float | ElementType::Double => {
            same(element, a, b) || (a - b).abs() <= SIZES_APART * a.abs().max(b.abs()) + SIZES_APART_NEAR_ZERO
        }
        _ => true,
    }
}

fn push(kind: Kind, noise: &mut Noise, values: &mut Values) {
    match values {
        Values::Float(values) => values.push(number(kind, noise) as f32),
        Values::Double(values) => values.push(number(kind, noise)),
        // Positions in a table of unknown length, as a rule: small ones are in most.
        Values::Int64(values) => values.push(integer(kind, noise)),
        Values::Int32(values) => values.push(integer(kind, noise) as i32),
        Values::Boolean(values) => values.push(integer(kind, noise) % 2 == 1),
    }
}

fn number(kind: Kind, noise: &mut Noise) -> f64 {
    let unit = noise.next();
    let signed = 2.0 * unit - 1.0;
    match kind {
        Kind::Zeros => 0.0,
        Kind::Ones => 1.0,
        Kind::Small => 1e-3 * signed,
        Kind::Noise => unit,
        Kind::Signed => 4.0 * signed,
        Kind::Whole => (10.0 * unit).floor(),
        Kind::Scales => signed * 10_f64.powi((noise.next() * 7.0) as i32 - 3),
        Kind::Large => 1e4 * signed,
        Kind::NotANumber => f64::NAN,
        Kind::Infinite => f64::INFINITY.copysign(signed),
        Kind::Huge => 1e30 * signed,
    }
}

fn integer(kind: Kind, noise: &mut Noise) -> i64 {
    let unit = noise.next();
    match kind {
        Kind::Zeros => 0,
        Kind::Ones | Kind::Infinite => 1,
        Kind::Whole | Kind::Large | Kind::Huge => (10.0 * unit) as i64,
        _ => (3.0 * unit) as i64,
    }
}

/// Numbers from 0 to 1 (xorshift), the same in every run.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
