//! What was measured: a table on the terminal and `bench-results.json`.

use crate::contest::{Better, Figure, Subjects};
use crate::cores::Placement;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

/// One figure of all sides.
#[derive(Debug, Serialize)]
struct Row {
    /// what was measured
    name: String,
    /// of all values
    unit: &'static str,
    better: Better,
    /// cores that each side could use
    cores: usize,
    /// the first side's median by the second's; of two builds the second's by the first's
    ratio: Option<f64>,
    /// the smallest and the largest such ratio of one round
    ratio_of_rounds: Option<(f64, f64)>,
    /// The first is the product, or the build before. Peers follow by their benchmark's first figure, the better one first.
    sides: Vec<Column>,
}

/// One figure of one side.
#[derive(Debug, Serialize)]
struct Column {
    who: String,
    median: f64,
    /// of the rounds, in their order
    runs: Vec<f64>,
}

/// What was measured on what.
#[derive(Debug, Serialize)]
struct Results<'a> {
    /// every value is of this run, on this machine
    measured: &'static str,
    compared: &'static str,
    /// the command or commands that were measured
    binaries: Vec<String>,
    machine: Machine,
    rows: &'a [Row],
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
}

/// Rows in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    builds: bool,
}

impl Report {
    /// An empty report, on a build beside its peers or on two builds.
    pub fn new(subjects: &Subjects) -> Report {
        Report {
            rows: Vec::new(),
            builds: matches!(subjects, Subjects::TwoBuilds(..)),
        }
    }

    /// Adds a row for each figure. `runs` has, for each side, the figures of each round.
    pub fn add(&mut self, benchmark: &str, cores: Placement, sides: &[String], runs: &[Vec<Vec<Figure>>]) {
        let order = self.order(runs);
        let all = runs.iter().flatten().flatten();
        let mut known: Vec<&Figure> = Vec::new();
        for figure in all {
            if !known.iter().any(|other| other.name == figure.name) {
                known.push(figure);
            }
        }
        for figure in known {
            let of_side = |side: &usize| {
                let rounds = runs.get(*side)?.iter().flatten();
                let runs: Vec<f64> = rounds.filter(|f| f.name == figure.name).map(|f| f.value).collect();
                let who = sides.get(*side)?.clone();
                let median = median(runs.iter().copied());
                (!runs.is_empty()).then_some(Column { who, median, runs })
            };
            let columns: Vec<Column> = order.iter().filter_map(of_side).collect();
            let name = match figure.name.as_str() {
                "" => benchmark.to_owned(),
                name => format!("{benchmark}, {name}"),
            };
            let row = self.row(name, figure, cores.count(), columns);
            println!("{}", row.lines(self.builds).join("\n"));
            self.rows.push(row);
        }
    }

    /// The first side, then the others by the median of their first figure.
    fn order(&self, runs: &[Vec<Vec<Figure>>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..runs.len()).collect();
        let key = |side: &usize| {
            let first = || {
                runs.get(*side)
                    .into_iter()
                    .flatten()
                    .filter_map(|figures| figures.first())
            };
            let worse_is_more = match first().next().map(|figure| figure.better) {
                Some(Better::Higher) => -1.0,
                _ => 1.0,
            };
            median(first().map(|figure| figure.value)) * worse_is_more
        };
        if let Some(others) = order.get_mut(1..) {
            others.sort_by(|one, other| key(one).total_cmp(&key(other)));
        }
        order
    }

    fn row(&self, name: String, figure: &Figure, cores: usize, sides: Vec<Column>) -> Row {
        let of = |one: f64, other: f64| if self.builds { other / one } else { one / other };
        let (ratio, ratio_of_rounds) = match sides.as_slice() {
            [one, other, ..] => {
                let pairs = one.runs.iter().zip(&other.runs).map(|(one, other)| of(*one, *other));
                let (least, most) = pairs.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), ratio| {
                    (least.min(ratio), most.max(ratio))
                });
                (Some(of(one.median, other.median)), Some((least, most)))
            }
            _ => (None, None),
        };
        Row {
            name,
            unit: figure.unit,
            better: figure.better,
            cores,
            ratio: ratio.filter(|ratio| ratio.is_finite()),
            ratio_of_rounds: ratio_of_rounds.filter(|(least, most)| least.is_finite() && most.is_finite()),
            sides,
        }
    }

    /// Prints the whole table and writes it.
    pub fn finish(&self, subjects: &Subjects, path: &Path) -> Result<()> {
        let [one, other] = self.columns();
        println!("\nmedians; everything was measured in this run, on this machine, in turns");
        let behind = if self.builds { "ratios of rounds" } else { "peer" };
        println!("{:<72} {one:>12} {other:>12} {:>8}  {behind}", "", "ratio");
        for row in &self.rows {
            println!("{}", row.lines(self.builds).join("\n"));
        }
        let (compared, binaries) = match subjects {
            Subjects::BesidePeers(build) => ("the product beside its peers", vec![build]),
            Subjects::TwoBuilds(before, after) => ("two builds", vec![before, after]),
        };
        let results = Results {
            measured: "in this run",
            compared,
            binaries: binaries
                .iter()
                .map(|build| build.binary.display().to_string())
                .collect(),
            machine: Machine::this()?,
            rows: &self.rows,
        };
        let text = serde_json::to_string_pretty(&results)? + "\n";
        let markdown = path.with_extension("md");
        for (path, text) in [(path, text), (&markdown, self.markdown(&results.machine))] {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The table as docs/BENCHMARKS.md has it.
    fn markdown(&self, machine: &Machine) -> String {
        let [one, other] = self.columns();
        let mut text = format!(
            "{}, {} cores, {:.0} GiB, Linux {}\n\n| | {one} | {other} | ratio | |\n|---|---|---|---|---|\n",
            machine.processor, machine.cores, machine.memory_gib, machine.kernel
        );
        for row in &self.rows {
            for cells in row.cells(self.builds) {
                text.push_str(&format!("| {} |\n", cells.join(" | ")));
            }
        }
        text
    }

    fn columns(&self) -> [&'static str; 2] {
        if self.builds {
            ["before", "after"]
        } else {
            ["millrace", "peer"]
        }
    }
}

impl Row {
    /// As lines of the table on a terminal.
    fn lines(&self, builds: bool) -> Vec<String> {
        self.cells(builds)
            .iter()
            .map(|[name, ours, peer, ratio, behind]| format!("{name:<72} {ours:>12} {peer:>12} {ratio:>8}  {behind}"))
            .collect()
    }

    /// Name, the first side, the second, their ratio, and what the second is; and one more line for each other peer.
    fn cells(&self, builds: bool) -> Vec<[String; 5]> {
        let name = format!("{} [{}]", self.name, self.unit);
        let times = |ratio: f64| format!("{ratio:.2}x");
        let ours = self.sides.first().map_or(f64::NAN, |side| side.median);
        let peer = self.sides.get(1);
        let behind = match (builds, self.ratio_of_rounds, peer) {
            (true, Some((least, most)), _) => {
                let better = match self.better {
                    Better::Higher => "more",
                    Better::Lower => "less",
                };
                format!("{least:.2} to {most:.2}; {better} is better")
            }
            (false, _, Some(peer)) => peer.who.clone(),
            _ => String::new(),
        };
        let first = [
            name,
            number(ours),
            peer.map(|peer| number(peer.median)).unwrap_or_default(),
            self.ratio.map(times).unwrap_or_default(),
            behind,
        ];
        let others = self.sides.iter().skip(2).map(|other| {
            let ratio = times(ours / other.median);
            [
                String::new(),
                String::new(),
                number(other.median),
                ratio,
                other.who.clone(),
            ]
        });
        std::iter::once(first).chain(others).collect()
    }
}

impl Machine {
    fn this() -> Result<Machine> {
        let field = |file: &str, name: &str| -> Result<String> {
            let text = std::fs::read_to_string(file)?;
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            Ok(line.split_once(':').map_or("", |(_, value)| value).trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal")?;
        let kilobytes: f64 = memory
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(f64::NAN);
        Ok(Machine {
            processor: field("/proc/cpuinfo", "model name")?,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kilobytes / f64::from(1 << 20),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// The middle one; of an even number of figures the mean of the two in the middle.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    match figures.len() {
        0 => f64::NAN,
        count => (at((count - 1) / 2) + at(count / 2)) / 2.0,
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn build(name: &'static str) -> crate::contest::Build {
        crate::contest::Build {
            name,
            binary: PathBuf::new(),
        }
    }

    fn rounds(rates: &[f64]) -> Vec<Vec<Figure>> {
        let figures = |rate: &f64| {
            vec![
                Figure::rate("", "events/s", *rate),
                Figure::cost("CPU", "CPU-s", 100.0 / rate),
            ]
        };
        rates.iter().map(figures).collect()
    }

    #[test]
    fn the_first_ratio_is_to_the_better_peer() {
        let mut report = Report::new(&Subjects::BesidePeers(build("millrace")));
        let sides = ["ours", "slow", "fast"].map(str::to_owned);
        let runs = [
            rounds(&[100.0, 120.0, 110.0]),
            rounds(&[10.0]),
            rounds(&[20.0, 22.0, 30.0]),
        ];
        report.add("path", Placement::Own, &sides, &runs);
        let who: Vec<Vec<&str>> = report
            .rows
            .iter()
            .map(|row| row.sides.iter().map(|side| side.who.as_str()).collect())
            .collect();
        assert_eq!(who, [["ours", "fast", "slow"], ["ours", "fast", "slow"]]);
        let rate = &report.rows[0];
        assert_eq!(rate.ratio, Some(110.0 / 22.0));
        assert!(rate.lines(false)[0].contains("5.00x"), "{:?}", rate.lines(false));
    }

    #[test]
    fn two_builds_have_the_ratio_of_after_to_before() {
        let mut report = Report::new(&Subjects::TwoBuilds(build("before"), build("after")));
        let sides = ["before", "after"].map(str::to_owned);
        let runs = [rounds(&[100.0, 100.0]), rounds(&[90.0, 110.0])];
        report.add("path", Placement::Own, &sides, &runs);
        assert_eq!(report.rows[0].ratio, Some(1.0));
        assert_eq!(report.rows[0].ratio_of_rounds, Some((0.9, 1.1)));
    }

    #[test]
    fn the_median_of_an_even_number_is_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), 2.5);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
    }
}
