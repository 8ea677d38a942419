//! What generated pages have in common.

use connect_runtime::plugins::simple_name;

/// The page of a class.
pub(crate) fn file_name(class: &str) -> String {
    simple_name(class).to_lowercase()
}

/// Text in a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
