//! Cases from the field: public bug reports and configuration files, at their smallest, each with the behaviour that their
//! authors expected. One file per case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod case_66_lstm_state_leak;
mod case_67_int64_ids;
mod case_69_double_logistic_refused;
mod case_70_missing_into_int64;
mod case_71_dynamic_quantization;
mod case_73_dims_none_none;
mod case_94_store_from_default_converters;
mod one_model;
