//! A bounded number of the demo's purchases: those of some households over the whole year, so that each household's history
//! is whole and much of its state expires on the way.

use crate::files;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Columns of `transactions.csv.gz`.
const HOUSEHOLD: usize = 0;
const TIME: usize = 10;

/// Purchases in a file of their own.
pub struct Purchases {
    /// where they are
    pub file: PathBuf,
    /// how many
    pub count: usize,
    /// when, one by one
    times: Vec<String>,
}

impl Purchases {
    /// Writes the purchases of the first households that have `wanted` of them, in time order.
    pub fn write(file: &Path, wanted: usize) -> Result<Purchases> {
        let text = unpacked("transactions")?;
        let mut lines = text.lines();
        let header = lines.next().context("no header")?;
        let field = |line: &str, column: usize| line.split(',').nth(column).unwrap_or_default().to_owned();
        let mut by_household: BTreeMap<String, usize> = BTreeMap::new();
        for line in lines.clone() {
            *by_household.entry(field(line, HOUSEHOLD)).or_default() += 1;
        }
        let mut count = 0;
        let mut households = BTreeSet::new();
        for (household, purchases) in by_household {
            if count < wanted {
                count += purchases;
                households.insert(household);
            }
        }
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        writeln!(out, "{header}")?;
        let mut times = Vec::new();
        for line in lines.filter(|line| households.contains(&field(line, HOUSEHOLD))) {
            times.push(field(line, TIME));
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        Ok(Purchases {
            file: file.to_owned(),
            count,
            times,
        })
    }

    /// When purchase number `number` was made, or the last one.
    pub fn time_of(&self, number: usize) -> Result<&str> {
        let time = self.times.get(number).or(self.times.last());
        time.map(String::as_str).context("there are no purchases")
    }
}

/// The text of `configs/demo/data/NAME.csv.gz`.
pub fn unpacked(name: &str) -> Result<String> {
    let path = files::root().join(format!("configs/demo/data/{name}.csv.gz"));
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    Ok(text)
}
