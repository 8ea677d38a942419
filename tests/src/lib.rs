//! End-to-end tests, and the harness that starts real services for them.

pub mod inference;
