//! The text of a syntax tree, for messages and for comparing expressions.

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};

/// The expression as one would write it, with parentheses around every operator's operands that are operators.
pub(super) fn text_of(node: &IdedExpr) -> String {
    match &node.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Literal(literal) => literal_text(literal),
        Expr::Select(select) if select.test => format!("has({}.{})", text_of(&select.operand), select.field),
        Expr::Select(select) => format!("{}.{}", operand_text(&select.operand), select.field),
        Expr::List(list) => format!("[{}]", joined(&list.elements)),
        Expr::Call(call) => match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            (operators::CONDITIONAL, None, [condition, yes, no]) => {
                format!(
                    "{} ? {} : {}",
                    operand_text(condition),
                    operand_text(yes),
                    operand_text(no)
                )
            }
            (operators::INDEX, None, [of, index]) => format!("{}[{}]", operand_text(of), text_of(index)),
            (operators::LOGICAL_NOT, None, [operand]) => format!("!{}", operand_text(operand)),
            (operators::NEGATE, None, [operand]) => format!("-{}", operand_text(operand)),
            (operators::IN, None, [needle, list]) => format!("{} in {}", operand_text(needle), operand_text(list)),
            (name, None, [left, right]) if name.starts_with('_') => {
                format!(
                    "{} {} {}",
                    operand_text(left),
                    name.trim_matches('_'),
                    operand_text(right)
                )
            }
            (name, None, arguments) => format!("{name}({})", joined(arguments)),
            (name, Some(target), arguments) => format!("{}.{name}({})", operand_text(target), joined(arguments)),
        },
        Expr::Comprehension(comprehension) => format!("a macro over {}", text_of(&comprehension.iter_range)),
        Expr::Map(_) => "{..}".to_owned(),
        Expr::Struct(message) => format!("{}{{..}}", message.type_name),
        Expr::Unspecified => String::new(),
    }
}

fn operand_text(node: &IdedExpr) -> String {
    let is_operator = match &node.expr {
        Expr::Call(call) => {
            call.target.is_none() && call.func_name.contains(['_', '@']) && call.func_name != operators::INDEX
        }
        Expr::Comprehension(_) => true,
        _ => false,
    };
    if is_operator {
        format!("({})", text_of(node))
    } else {
        text_of(node)
    }
}

fn joined(nodes: &[IdedExpr]) -> String {
    nodes.iter().map(text_of).collect::<Vec<_>>().join(", ")
}

fn literal_text(literal: &LiteralValue) -> String {
    match literal {
        LiteralValue::Boolean(value) => value.inner().to_string(),
        LiteralValue::Int(value) => value.inner().to_string(),
        LiteralValue::UInt(value) => format!("{}u", value.inner()),
        LiteralValue::Double(value) => format!("{:?}", value.inner()),
        LiteralValue::String(value) => {
            format!(
                "'{}'",
                value
                    .inner()
                    .replace('\\', "\\\\")
                    .replace('\'', "\\'")
                    .replace('\n', "\\n")
            )
        }
        LiteralValue::Bytes(value) => format!("b'{}'", value.inner().escape_ascii()),
        LiteralValue::Null => "null".to_owned(),
    }
}
