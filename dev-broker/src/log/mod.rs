//! One partition: batches in order, producers, open and aborted transactions.

pub mod compaction;
pub mod partition;
pub mod producers;
pub mod records;

#[cfg(test)]
mod test_batches;
#[cfg(test)]
mod tests;
