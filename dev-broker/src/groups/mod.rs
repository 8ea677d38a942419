//! Consumer groups of the classic protocol, of any protocol type: members and rebalances
//! (`group`), committed offsets (`offsets`), and all groups with their timers (`coordinator`).

pub mod coordinator;
pub mod group;
pub mod member;
pub mod offsets;
