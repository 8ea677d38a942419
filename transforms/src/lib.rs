//! Single message transforms and predicates: the built-in classes (contract part 6). The chain of a connector is the worker's.
//!
//! ```text
//!   record -> [predicate?] transform A -> [predicate?] transform B -> ... -> record, or dropped
//!
//!   side.rs           a record's key or value ($Key, $Value), as a struct or a map
//!   field_path.rs     names of fields, dotted ones too
//! ```
//! Cast, DropHeaders, Flatten, HeaderFrom, InsertHeader, MaskField, SetSchemaMetadata, TimestampConverter and
//! TimestampRouter are not built in: a connector that names one is refused.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod extract_field;
mod extract_new_record_state;
mod field_path;
mod filter;
mod hoist_field;
mod insert_field;
mod predicates;
mod regex_router;
mod replace_field;
mod side;
mod value_to_key;

use connect_api::{PredicatePlugin, TransformationPlugin};
use side::Side;
use std::sync::Arc;

/// Every built-in transformation.
pub fn transformations() -> Vec<Arc<dyn TransformationPlugin>> {
    let mut plugins: Vec<Arc<dyn TransformationPlugin>> = vec![
        Arc::new(extract_new_record_state::ExtractNewRecordStatePlugin),
        Arc::new(filter::FilterPlugin),
        Arc::new(regex_router::RegexRouterPlugin),
        Arc::new(value_to_key::ValueToKeyPlugin),
    ];
    for side in [Side::Key, Side::Value] {
        plugins.push(Arc::new(extract_field::ExtractFieldPlugin(side)));
        plugins.push(Arc::new(hoist_field::HoistFieldPlugin(side)));
        plugins.push(Arc::new(insert_field::InsertFieldPlugin(side)));
        plugins.push(Arc::new(replace_field::ReplaceFieldPlugin(side)));
    }
    plugins
}

/// Every built-in predicate.
pub fn predicates() -> Vec<Arc<dyn PredicatePlugin>> {
    vec![
        Arc::new(predicates::HasHeaderKeyPlugin),
        Arc::new(predicates::RecordIsTombstonePlugin),
        Arc::new(predicates::TopicNameMatchesPlugin),
    ]
}
