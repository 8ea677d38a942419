//! The loops that run tasks.
