//! General connectors: file, event replay.
