//! What could not be represented, counted by column and kind, and said in the log: the first time, and at each tenfold.

use super::tables::TableName;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Counts for one run of a task.
pub(super) struct Losses {
    /// `topic.prefix`, as in the connector's other lines
    connector: Arc<str>,
    counts: FxHashMap<(TableName, Arc<str>, &'static str), u64>,
    /// a row is read once more, of which everything has been counted
    again: bool,
}

impl Losses {
    pub(super) fn new(connector: &Arc<str>) -> Self {
        Self {
            connector: Arc::clone(connector),
            counts: FxHashMap::default(),
            again: false,
        }
    }

    /// Reads a row that has been read, without counting what is lost of it a second time.
    pub(super) fn again<R>(&mut self, read: impl FnOnce(&mut Self) -> R) -> R {
        self.again = true;
        let result = read(self);
        self.again = false;
        result
    }

    /// A value of `column` was one of `kind`; the column is empty where it concerns the row.
    pub(super) fn note(&mut self, table: &TableName, column: &Arc<str>, kind: &'static str) {
        if self.again {
            return;
        }
        let place = (table.clone(), Arc::clone(column), kind);
        let count = self.counts.entry(place).or_default();
        *count += 1;
        if is_power_of_ten(*count) {
            tracing::warn!(
                connector = %self.connector, column = %Place(table, column), kind, count = *count,
                "not representable: written as null, or as what comes nearest"
            );
        }
    }

    /// Says all counts, when the task stops.
    pub(super) fn summarise(&self) {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_unstable_by_key(|((table, column, kind), _)| (&table.schema, &table.table, column, *kind));
        for ((table, column, kind), count) in counts {
            tracing::warn!(
                connector = %self.connector, column = %Place(table, column), kind, count,
                "not representable in this run of the task"
            );
        }
    }
}

struct Place<'a>(&'a TableName, &'a str);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            "" => write!(formatter, "{}", self.0),
            column => write!(formatter, "{}.{column}", self.0),
        }
    }
}

fn is_power_of_ten(mut count: u64) -> bool {
    while count >= 10 && count.is_multiple_of(10) {
        count /= 10;
    }
    count == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_each_tenfold() {
        let lines = (0..=1_000_000).filter(|count| is_power_of_ten(*count));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]
        );
    }
}
