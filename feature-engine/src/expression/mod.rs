//! Expressions: CEL (<https://github.com/google/cel-spec>), parsed by the `cel` crate, lowered once to operations over
//! registers.
//!
//! ```text
//! text -> parse -> syntax tree -> lower (types checked, names resolved) -> operations -> registers, per event
//! ```
//!
//! What differs from the language definition, so that events need no ceremony:
//! - JSON null is missing, `has(event.x)` is false for it, and there is no `null` literal;
//! - an error (a missing field, no overload, a division by zero of ints) makes the result missing;
//! - `has(event.a.b)` is false, not an error, where `event.a` is missing;
//! - all operands are computed; what cannot be seen, as nothing has an effect;
//! - numbers of JSON that are integers of 64 bits keep their digits in `+`, `-` and `*` (see [`crate::number`]), and so does
//!   the result of integers below 2^53 that is one above: CEL's doubles would round it;
//! - numbers and ints compare by value, as the language definition says and its interpreters mostly do not;
//! - a text that would have more than 1 MiB (or more than 8 MiB with the others of its event) is missing, and counted.

mod lower;
mod operation;
mod source_text;
mod value_type;

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

pub(crate) use lower::{Constant, Lowering, Names};
pub(crate) use operation::{ALL_TEXTS, Computation, LATEST_TIME_MS, Operation};
pub(crate) use value_type::ValueType;

/// A parsed expression.
#[derive(Clone, Debug)]
pub(crate) struct Syntax {
    tree: IdedExpr,
}

/// Longest expression; the parser's time grows faster than its input.
const LONGEST: usize = 4096;

impl Syntax {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Syntax, String> {
        if text.len() > LONGEST {
            return Err(format!("an expression has at most {LONGEST} bytes"));
        }
        match cel::parser::Parser::new().parse(text) {
            Ok(tree) => Ok(Syntax { tree }),
            Err(errors) => {
                let first = errors.errors.first();
                let message = first.map_or_else(String::new, |error| {
                    format!(" at line {}, column {}: {}", error.pos.0, error.pos.1, error.msg)
                });
                Err(format!("`{text}` is not a CEL expression{message}"))
            }
        }
    }

    /// The expression in one normal form: equal for expressions that differ in space only.
    pub fn canonical(&self) -> String {
        source_text::text_of(&self.tree)
    }

    /// The names of variables that it uses, in order, with repetitions.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        collect_variables(&self.tree.expr, &mut names);
        names
    }
}

fn collect_variables<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    match expr {
        Expr::Ident(name) => names.push(name),
        Expr::Select(select) => collect_variables(&select.operand.expr, names),
        Expr::Call(call) => {
            for operand in call.target.as_deref().into_iter().chain(&call.args) {
                collect_variables(&operand.expr, names);
            }
        }
        Expr::List(list) => list
            .elements
            .iter()
            .for_each(|element| collect_variables(&element.expr, names)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    collect_variables(&entry.key.expr, names);
                    collect_variables(&entry.value.expr, names);
                }
            }
        }
        Expr::Comprehension(_) | Expr::Struct(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}
