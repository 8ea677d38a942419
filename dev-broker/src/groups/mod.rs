//! Consumer groups of the classic protocol, of any protocol type: members and rebalances
//! (`group`), and all groups with their timers (`coordinator`). Their offsets: `committed_offsets`.

pub mod coordinator;
pub mod group;
pub mod member;
