//! Membership in the group of workers: Kafka's classic group protocol with protocol type `connect` (contract part 3).
//!
//! ```text
//!   herder --Told--> driver (a thread of its own) --Request--> coordinator --kafka-protocol--> broker
//!     ^                |   ^                                       |
//!     |             machine: what is due now, over explicit time   |
//!     +---Notice-------+   +----------------Answer-----------------+
//!
//!   assignor.rs     deals connectors and tasks to the members: pure
//!   protocol.rs     bytes of a member's metadata and of an assignment (contract 3.2)
//!   machine.rs      find the coordinator, join, deal, sync, heartbeat, rejoin, leave: pure
//!   coordinator.rs  requests over one TCP connection
//!   driver.rs       asks the machine what is due, and does it
//! ```
//!
//! The protocol among workers is the eager one (`default`). Whatever a connector does, heartbeats go on: the driver
//! shares neither thread nor lock with anything that runs a plugin.

pub mod assignor;
mod coordinator;
mod driver;
pub mod machine;
pub mod protocol;

pub use coordinator::GroupSettings;
pub(crate) use driver::{Member, MembershipParts};
