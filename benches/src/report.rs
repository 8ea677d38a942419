//! What was measured: a table on the terminal and `bench-results.json`.

use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

/// One figure beside its peer's.
#[derive(Debug, Serialize)]
pub struct Row {
    /// what was measured
    pub name: String,
    /// of `ours` and `peer`
    pub unit: &'static str,
    /// measured in this run
    pub ours: f64,
    /// the peer's figure, if there is one
    pub peer: Option<f64>,
    /// who the peer is, and where its figure comes from
    pub peer_name: String,
    /// `ours / peer`
    pub ratio: Option<f64>,
    /// cores that the measured process could use
    pub cores: usize,
}

/// Rows in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a figure that has a peer.
    pub fn beside(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        ours: f64,
        peer: f64,
        peer_name: &str,
        cores: usize,
    ) {
        self.add(name.into(), unit, ours, Some(peer), peer_name, cores);
    }

    /// Adds a figure of our own.
    pub fn alone(&mut self, name: impl Into<String>, unit: &'static str, ours: f64, cores: usize) {
        self.add(name.into(), unit, ours, None, "", cores);
    }

    fn add(&mut self, name: String, unit: &'static str, ours: f64, peer: Option<f64>, peer_name: &str, cores: usize) {
        let row = Row {
            name,
            unit,
            ours,
            peer,
            peer_name: peer_name.to_owned(),
            ratio: peer.filter(|peer| *peer > 0.0).map(|peer| ours / peer),
            cores,
        };
        println!("{}", line(&row));
        self.rows.push(row);
    }

    /// Prints the whole table and writes it.
    pub fn finish(&self, path: &Path) -> Result<()> {
        let header = format!("{:<58} {:>14} {:>14} {:>8}", "", "ours", "peer", "ratio");
        println!("\n{header}  peer is");
        for row in &self.rows {
            println!("{}", line(row));
        }
        let text = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The middle one of an odd number of figures.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn line(row: &Row) -> String {
    let peer = row.peer.map(number).unwrap_or_default();
    let ratio = row.ratio.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default();
    let name = format!("{} [{}]", row.name, row.unit);
    format!(
        "{name:<58} {:>14} {peer:>14} {ratio:>8}  {}",
        number(row.ours),
        row.peer_name
    )
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
