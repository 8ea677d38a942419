//! Connect's data: values, and the schemas that describe them. A schema has a default value, a struct has a schema.

pub mod schema;
pub mod value;
