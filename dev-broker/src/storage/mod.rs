//! Files of a broker that keeps its data: the journal of everything that is not a record.

pub mod journal;
