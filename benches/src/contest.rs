//! Runs in turns: the product beside its peers, or one build of it beside another.
//!
//! ```text
//!   sides A, B, C       round 0: A B C      round 1: C B A      round 2: A B C      ...
//!   two builds, together          A+B                 A+B                 A+B
//!   Contest::run(side) -> figures of one run  ==>  report: medians, ratio
//! ```

use crate::report::Report;
use crate::scratch::Scratch;
use crate::{cores, events};
use anyhow::{Context, Result};
use std::fmt::{self, Display};
use std::path::PathBuf;

/// One of those that take turns.
#[derive(Clone, Debug)]
pub enum Side<P> {
    /// the product
    Millrace(Build),
    /// what it is compared with
    Peer(P),
}

/// A build of the product.
#[derive(Clone, Debug)]
pub struct Build {
    /// what it is called beside other builds
    pub name: &'static str,
    /// the command `millrace`
    pub binary: PathBuf,
}

impl<P: Display> Display for Side<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Side::Millrace(build) => f.write_str(build.name),
            Side::Peer(peer) => peer.fmt(f),
        }
    }
}

/// A benchmark without a peer.
#[derive(Clone, Copy, Debug)]
pub enum NoPeer {}

impl Display for NoPeer {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// the larger
    Higher,
    /// the smaller
    Lower,
}

/// One figure of one run.
#[derive(Clone, Debug)]
pub struct Figure {
    /// what it is, within its benchmark; empty for the benchmark's own figure
    pub name: String,
    /// of `value`
    pub unit: &'static str,
    /// which way is up
    pub better: Better,
    /// what was measured
    pub value: f64,
}

impl Figure {
    /// A figure of which more is better.
    pub fn rate(name: impl Into<String>, unit: &'static str, value: f64) -> Figure {
        Figure {
            name: name.into(),
            unit,
            better: Better::Higher,
            value,
        }
    }

    /// A figure of which less is better.
    pub fn cost(name: impl Into<String>, unit: &'static str, value: f64) -> Figure {
        Figure {
            name: name.into(),
            unit,
            better: Better::Lower,
            value,
        }
    }

    /// The most memory that a process ever had.
    pub fn peak_memory(bytes: f64) -> Figure {
        Figure::cost("peak memory", "MB", bytes / 1e6)
    }
}

/// Work that sides do in turns. A run's first figure is the one by which the better of several peers is told.
pub trait Contest {
    /// Who else takes part.
    type Peer: Display + Clone;

    /// One run of one side.
    async fn run(&mut self, side: &Side<Self::Peer>, round: usize) -> Result<Vec<Figure>>;
}

/// Work that two builds can do at the same time.
pub trait Together {
    /// One run of both.
    async fn run_both(&mut self, builds: [&Build; 2], round: usize) -> Result<[Vec<Figure>; 2]>;
}

/// Who takes part.
#[derive(Debug)]
pub enum Subjects {
    /// one build beside the programs that it replaces
    BesidePeers(Build),
    /// two builds
    TwoBuilds(Build, Build),
}

/// What benchmarks have in common: who takes part, their input, and where figures go.
pub struct Bench {
    /// who takes part
    pub subjects: Subjects,
    /// rounds of every contest; by default each has its own number
    pub rounds: Option<usize>,
    /// whether two builds run at the same time, where they can
    pub together: bool,
    /// how much there is to do
    pub sizes: Sizes,
    /// the demo's purchases
    pub purchases: Vec<events::Purchase>,
    /// where runs write
    pub scratch: Scratch,
    /// figures so far
    pub report: Report,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Sizes {
    /// Events of a run of the whole path; a sixth of them with thirty models
    #[arg(long, default_value_t = 1_200_000)]
    pub events: usize,
    /// Records of a run of the sink
    #[arg(long, default_value_t = 10_000_000)]
    pub records: usize,
    /// Rows of the table of the catalog; three tenths of them are changed live
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: usize,
}

/// A contest to be run: its name, the cores that each side may use, its peers and its number of rounds.
pub struct Terms<P> {
    /// of its rows
    pub name: String,
    /// that each side may use
    pub cores: cores::Placement,
    /// beside which one build of the product is measured
    pub peers: Vec<P>,
    /// beside peers, unless another number was asked for
    pub rounds: usize,
    /// of two builds, unless another number was asked for
    pub pairs: usize,
}

impl Subjects {
    /// The build, or the one before.
    pub fn first(&self) -> &Build {
        match self {
            Subjects::BesidePeers(build) | Subjects::TwoBuilds(build, _) => build,
        }
    }

    fn sides<P: Clone>(&self, peers: &[P]) -> Vec<Side<P>> {
        match self {
            Subjects::BesidePeers(build) => std::iter::once(Side::Millrace(build.clone()))
                .chain(peers.iter().cloned().map(Side::Peer))
                .collect(),
            Subjects::TwoBuilds(before, after) => {
                vec![Side::Millrace(before.clone()), Side::Millrace(after.clone())]
            }
        }
    }
}

/// Has all sides run in turns, every other round in the opposite order, and reports the medians.
pub async fn hold<C: Contest>(
    contest: &mut C,
    terms: &Terms<C::Peer>,
    subjects: &Subjects,
    rounds: Option<usize>,
    report: &mut Report,
) -> Result<()> {
    let sides = subjects.sides(&terms.peers);
    let mut runs: Vec<Vec<Vec<Figure>>> = vec![Vec::new(); sides.len()];
    let usual = match subjects {
        Subjects::BesidePeers(_) => terms.rounds,
        Subjects::TwoBuilds(..) => terms.pairs,
    };
    for round in 0..rounds.unwrap_or(usual) {
        let mut turns: Vec<_> = sides.iter().zip(&mut runs).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (side, runs) in turns {
            let figures = contest.run(side, round).await;
            let figures = figures.with_context(|| format!("{}: {side}, round {round}", terms.name))?;
            for figure in figures.iter().take(2) {
                println!(
                    "    {side}, round {round}: {} {} {}",
                    figure.name, figure.value, figure.unit
                );
            }
            runs.push(figures);
        }
    }
    report_runs(terms, &sides, &runs, report);
    Ok(())
}

/// Has two builds run at the same time, with the cores of one. Whatever else the machine does takes from both alike, so that
/// what they use can be compared where turns differ by more than the builds do.
pub async fn hold_together<C: Contest + Together>(
    contest: &mut C,
    terms: &Terms<C::Peer>,
    builds: [&Build; 2],
    rounds: Option<usize>,
    report: &mut Report,
) -> Result<()> {
    let mut runs: Vec<Vec<Vec<Figure>>> = vec![Vec::new(); builds.len()];
    for round in 0..rounds.unwrap_or(terms.pairs) {
        let figures = contest.run_both(builds, round).await;
        let figures = figures.with_context(|| format!("{}: together, round {round}", terms.name))?;
        for (runs, figures) in runs.iter_mut().zip(figures) {
            runs.push(figures);
        }
    }
    let sides: Vec<Side<C::Peer>> = builds.into_iter().cloned().map(Side::Millrace).collect();
    report_runs(terms, &sides, &runs, report);
    Ok(())
}

fn report_runs<P: Display>(terms: &Terms<P>, sides: &[Side<P>], runs: &[Vec<Vec<Figure>>], report: &mut Report) {
    let names: Vec<String> = sides.iter().map(ToString::to_string).collect();
    report.add(&terms.name, terms.cores, &names, runs);
}
