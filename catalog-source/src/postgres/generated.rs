//! Generated columns of a key. Before PostgreSQL 18 they are not replicated: the server is asked to make them again, by the
//! column's own expression over the values that came. Such expressions are immutable, so the answer is what the row held.
//!
//! ```text
//!   row (b = '21'), g GENERATED ALWAYS AS (b * 2) --> SELECT (b * 2) FROM (SELECT '21'::integer AS "b") AS row
//! ```
//! One question for each row and column; a snapshot reads them with the others.

use super::connection::{identifier, literal};
use super::error::PostgresError;
use super::pgoutput::Cell;
use super::side_connection::SideConnection;
use super::tables::Generated;
use std::borrow::Cow;

/// What the column holds in a row, whose cells are found by the names of their columns. [`Cell::Unchanged`] where a value
/// that it is made of did not come.
pub(super) async fn evaluate<'a>(
    generated: &Generated,
    cell: impl Fn(&str) -> Option<&'a Cell<'a>>,
    side: &mut SideConnection,
) -> Result<Cell<'static>, PostgresError> {
    let Some(sql) = statement(generated, cell) else {
        return Ok(Cell::Unchanged);
    };
    match side.query(&sql).await {
        Ok(rows) => match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Some(text)) => Ok(Cell::Text(Cow::Owned(text.into_bytes()))),
            _ => Ok(Cell::Null),
        },
        // a function of the expression that is gone, a type that was changed
        Err(PostgresError::Server(error)) => {
            tracing::debug!(
                expression = generated.expression,
                error = error.message,
                "could not make a generated column"
            );
            Ok(Cell::Unchanged)
        }
        Err(error) => Err(error),
    }
}

fn statement<'a>(generated: &Generated, cell: impl Fn(&str) -> Option<&'a Cell<'a>>) -> Option<String> {
    let inputs = generated.inputs.iter().map(|(name, sql_type)| {
        let value = match cell(name)? {
            Cell::Null => "NULL".to_owned(),
            Cell::Text(text) => escaped(std::str::from_utf8(text).ok()?),
            Cell::Unchanged => return None,
        };
        Some(format!("{value}::{sql_type} AS {}", identifier(name)))
    });
    let inputs: Vec<String> = inputs.collect::<Option<_>>()?;
    Some(match inputs.is_empty() {
        true => format!("SELECT {}", generated.expression),
        false => format!(
            "SELECT {} FROM (SELECT {}) AS row",
            generated.expression,
            inputs.join(", ")
        ),
    })
}

/// A literal, whatever `standard_conforming_strings` says.
fn escaped(text: &str) -> String {
    match text.contains('\\') {
        true => format!(" E{}", literal(&text.replace('\\', "\\\\"))),
        false => literal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_literals() {
        let generated = Generated {
            expression: "(b || c)".to_owned(),
            inputs: vec![
                ("b".to_owned(), "text".to_owned()),
                ("c d".to_owned(), "character varying(3)".to_owned()),
            ],
        };
        let (text, null) = (Cell::Text(Cow::Borrowed(b"it's \\")), Cell::Null);
        let sql = statement(&generated, |name| Some(if name == "b" { &text } else { &null }));
        assert_eq!(
            sql.unwrap(),
            "SELECT (b || c) FROM (SELECT  E'it''s \\\\'::text AS \"b\", NULL::character varying(3) AS \"c d\") AS row"
        );
        let unchanged = Cell::Unchanged;
        assert_eq!(statement(&generated, |_| Some(&unchanged)), None);
        assert_eq!(statement(&generated, |_| None), None);
    }
}
