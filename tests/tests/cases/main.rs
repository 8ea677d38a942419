//! Cases from the field: public bug reports and configuration files, at their smallest, each with the behaviour that their
//! authors expected. One file per case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod case_04_quoted_group_id;
mod case_07_no_replication_factors;
mod case_12_missing_smts;
mod case_31_outbox_eventrouter;
mod case_33_toast_arrays;
mod case_35_numeric_special_values;
mod case_38_slot_recreated;
mod case_42_unwrap_delete_headers;
mod case_49_tls_required;
mod case_50_removed_option_names;
mod case_66_lstm_state_leak;
mod case_67_int64_ids;
mod case_69_double_logistic_refused;
mod case_70_missing_into_int64;
mod case_71_dynamic_quantization;
mod case_73_dims_none_none;
mod case_84_input_topic_deleted;
mod case_86_output_topic_missing;
mod case_88_input_topic_missing;
mod case_94_store_from_default_converters;
mod missing_class;
mod one_model;
#[path = "../postgres_catalog/worker.rs"]
mod postgres_worker;
