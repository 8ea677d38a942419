//! From a syntax tree to operations: names are resolved, types are checked as far as they are known, and every
//! operation is made once, however many expressions need it.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators};
use regex::Regex;

use super::operation::{Operation, TimePart};
use super::source_text::text_of;
use super::{Syntax, ValueType};
use crate::slot::Register;

/// A constant of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant<'a> {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
}

/// What an expression's names mean, and where its operations go.
pub(crate) trait Names {
    /// A constant's register.
    fn constant(&mut self, constant: Constant<'_>) -> Register;
    /// An operation's register; the same for an equal operation.
    fn operation(&mut self, operation: Operation) -> Register;
    /// The number of a compiled pattern.
    fn pattern(&mut self, pattern: Regex) -> u32;
    /// The number of the first of these elements in the plan's element list.
    fn elements(&mut self, elements: &[Register]) -> u32;
    /// A field of the event's value.
    fn event_field(&mut self, path: &[&str]) -> Register;
    /// The last header of this name.
    fn header(&mut self, name: &str) -> Register;
    /// Any other variable, a feature too.
    fn variable(&mut self, name: &str) -> Result<(Register, ValueType), String>;
    /// A field of a lookup's row.
    fn row_field(&mut self, row: Register, field: &str) -> Register;
}

/// Lowers expressions into `names`.
pub(crate) struct Lowering<'n, N> {
    pub names: &'n mut N,
}

type Lowered = Result<(Register, ValueType), String>;

impl<N: Names> Lowering<'_, N> {
    /// Lowers an expression.
    ///
    /// # Errors
    /// A sentence with the text of the part that cannot be lowered.
    pub fn lower(&mut self, syntax: &Syntax) -> Lowered {
        self.node(&syntax.tree)
    }

    fn node(&mut self, node: &IdedExpr) -> Lowered {
        match &node.expr {
            Expr::Literal(literal) => self.literal(node, literal),
            Expr::Ident(name) if name == "event" => Err(refuse(node, "name one of its fields, such as event.quantity")),
            Expr::Ident(name) if name == "headers" => Err(refuse(node, "name one of them, such as headers['type']")),
            Expr::Ident(name) => self.names.variable(name),
            Expr::Select(select) => self.select(node, select),
            Expr::Call(call) => self.call(node, call),
            Expr::List(_) => Err(refuse(node, "a list can only stand on the right of `in`")),
            Expr::Comprehension(_) => Err(refuse(node, "macros over lists are not supported yet")),
            Expr::Map(_) | Expr::Struct(_) => Err(refuse(node, "maps and messages are not supported")),
            Expr::Unspecified => Err("the expression is empty".to_owned()),
        }
    }

    fn literal(&mut self, node: &IdedExpr, literal: &LiteralValue) -> Lowered {
        let (constant, value_type) = match literal {
            LiteralValue::Boolean(value) => (Constant::Bool(*value.inner()), ValueType::Bool),
            LiteralValue::Int(value) => (Constant::Integer(*value.inner()), ValueType::Integer),
            LiteralValue::Double(value) => (Constant::Number(*value.inner()), ValueType::Number),
            LiteralValue::String(value) => (Constant::Text(value.inner()), ValueType::Text),
            LiteralValue::UInt(_) => return Err(refuse(node, "unsigned ints are not supported; leave the u away")),
            LiteralValue::Bytes(_) => return Err(refuse(node, "bytes are not supported; use a string")),
            LiteralValue::Null => {
                return Err(refuse(
                    node,
                    "null is a missing value here; ask with has(), or give the feature a default",
                ));
            }
        };
        Ok((self.names.constant(constant), value_type))
    }

    /// `a.b`, or `has(a.b)`.
    fn select(&mut self, node: &IdedExpr, select: &SelectExpr) -> Lowered {
        let (register, value_type) = self.field(node, &select.operand, &select.field)?;
        if select.test {
            return Ok((self.names.operation(Operation::IsPresent(register)), ValueType::Bool));
        }
        Ok((register, value_type))
    }

    fn field(&mut self, node: &IdedExpr, operand: &IdedExpr, field: &str) -> Lowered {
        let mut path = vec![field];
        let mut root = operand;
        loop {
            match &root.expr {
                Expr::Select(select) if !select.test => {
                    path.push(&select.field);
                    root = &select.operand;
                }
                Expr::Call(call) if call.func_name == operators::INDEX => {
                    let (of, Some(name)) = (call.args.first(), call.args.get(1).and_then(text_literal)) else {
                        break;
                    };
                    let Some(of) = of else { break };
                    path.push(name);
                    root = of;
                }
                _ => break,
            }
        }
        path.reverse();
        match &root.expr {
            Expr::Ident(name) if name == "event" => Ok((self.names.event_field(&path), ValueType::Json)),
            Expr::Ident(name) if name == "headers" => match path.as_slice() {
                [name] => Ok((self.names.header(name), ValueType::Text)),
                _ => Err(refuse(node, "a header is text and has no fields")),
            },
            Expr::Ident(name) => match self.names.variable(name)? {
                (row, ValueType::Row) => Ok((self.names.row_field(row, &path.join(".")), ValueType::Json)),
                (_, other) => Err(refuse(node, &format!("`{name}` is {other} and has no fields"))),
            },
            _ => Err(refuse(node, "only event, headers and lookups have fields")),
        }
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Lowered {
        let name = call.func_name.as_str();
        match (call.target.as_deref(), call.args.as_slice()) {
            (None, [operand]) if name == operators::LOGICAL_NOT => {
                let operand = self.expect(operand, ValueType::Bool)?;
                Ok((self.names.operation(Operation::Not(operand)), ValueType::Bool))
            }
            (None, [operand]) if name == operators::NEGATE => self.negate(node, operand),
            (None, [condition, yes, no]) if name == operators::CONDITIONAL => {
                let condition = self.expect(condition, ValueType::Bool)?;
                let ((yes, yes_type), (no, no_type)) = (self.value(yes)?, self.value(no)?);
                let operation = Operation::Conditional(condition, yes, no);
                Ok((self.names.operation(operation), yes_type.either(no_type)))
            }
            (None, [of, index]) if name == operators::INDEX => match text_literal(index) {
                Some(field) => self.field(node, of, field),
                None => Err(refuse(
                    node,
                    "only a constant name can stand in brackets, such as headers['type']",
                )),
            },
            (None, [left, right]) if name == operators::IN => self.membership(node, left, right),
            (None, [left, right]) if name.starts_with('_') => self.binary(node, name, left, right),
            (None, [operand]) if matches!(name, "double" | "int" | "string") => self.conversion(node, name, operand),
            (None, [operand]) | (Some(operand), []) if name == "size" => {
                let (register, value_type) = self.value(operand)?;
                if value_type != ValueType::Text && !value_type.is_dynamic() {
                    return Err(refuse(node, &format!("{value_type} has no size")));
                }
                Ok((self.names.operation(Operation::Size(register)), ValueType::Integer))
            }
            (Some(text), [argument]) if matches!(name, "contains" | "startsWith" | "endsWith") => {
                let text = self.expect(text, ValueType::Text)?;
                let argument = self.expect(argument, ValueType::Text)?;
                let operation = match name {
                    "contains" => Operation::Contains(text, argument),
                    "startsWith" => Operation::StartsWith(text, argument),
                    _ => Operation::EndsWith(text, argument),
                };
                Ok((self.names.operation(operation), ValueType::Bool))
            }
            (Some(text), [pattern]) | (None, [text, pattern]) if name == "matches" => self.matches(node, text, pattern),
            (Some(time), arguments) if name.starts_with("get") => self.time_part(node, name, time, arguments),
            _ => Err(refuse(
                node,
                &format!("`{}` is not supported here", name.trim_matches('_')),
            )),
        }
    }

    /// A value that is not a row.
    fn value(&mut self, node: &IdedExpr) -> Lowered {
        let (register, value_type) = self.node(node)?;
        if value_type == ValueType::Row {
            let text = text_of(node);
            return Err(refuse(
                node,
                &format!("it is a row; name one of its fields, such as {text}.brand"),
            ));
        }
        Ok((register, value_type))
    }

    /// A value that can be of this type.
    fn expect(&mut self, node: &IdedExpr, expected: ValueType) -> Result<Register, String> {
        let (register, value_type) = self.value(node)?;
        if !value_type.may_be(expected) {
            return Err(refuse(node, &format!("it is {value_type}, where {expected} is needed")));
        }
        Ok(register)
    }

    fn negate(&mut self, node: &IdedExpr, operand: &IdedExpr) -> Lowered {
        let (register, value_type) = self.value(operand)?;
        let result = match value_type {
            ValueType::Integer | ValueType::Number | ValueType::Any => value_type,
            ValueType::Json => ValueType::Number,
            other => return Err(refuse(node, &format!("{other} cannot be negated"))),
        };
        Ok((self.names.operation(Operation::Negate(register)), result))
    }

    fn binary(&mut self, node: &IdedExpr, name: &str, left: &IdedExpr, right: &IdedExpr) -> Lowered {
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            let (a, b) = (
                self.expect(left, ValueType::Bool)?,
                self.expect(right, ValueType::Bool)?,
            );
            let operation = if name == operators::LOGICAL_AND {
                Operation::And(a, b)
            } else {
                Operation::Or(a, b)
            };
            return Ok((self.names.operation(operation), ValueType::Bool));
        }
        let ((a, a_type), (b, b_type)) = (self.value(left)?, self.value(right)?);
        let (operation, result) = match name {
            operators::ADD => (Operation::Add(a, b), sum_type(a_type, b_type)),
            operators::SUBSTRACT => (Operation::Subtract(a, b), arithmetic_type(a_type, b_type)),
            operators::MULTIPLY => (Operation::Multiply(a, b), arithmetic_type(a_type, b_type)),
            operators::DIVIDE => (Operation::Divide(a, b), arithmetic_type(a_type, b_type)),
            operators::MODULO => {
                let both = a_type.may_be(ValueType::Integer) && b_type.may_be(ValueType::Integer);
                (Operation::Remainder(a, b), both.then_some(ValueType::Integer))
            }
            operators::EQUALS => (Operation::Equal(a, b), comparable(a_type, b_type)),
            operators::NOT_EQUALS => (Operation::NotEqual(a, b), comparable(a_type, b_type)),
            operators::LESS => (Operation::Less(a, b), comparable(a_type, b_type)),
            operators::LESS_EQUALS => (Operation::LessOrEqual(a, b), comparable(a_type, b_type)),
            operators::GREATER => (Operation::Greater(a, b), comparable(a_type, b_type)),
            operators::GREATER_EQUALS => (Operation::GreaterOrEqual(a, b), comparable(a_type, b_type)),
            other => return Err(refuse(node, &format!("`{}` is not supported", other.trim_matches('_')))),
        };
        match result {
            Some(result) => Ok((self.names.operation(operation), result)),
            None => Err(refuse(node, &mismatch(name, left, a_type, right, b_type))),
        }
    }

    fn membership(&mut self, node: &IdedExpr, needle: &IdedExpr, list: &IdedExpr) -> Lowered {
        let Expr::List(list) = &list.expr else {
            return Err(refuse(node, "the right side of `in` must be a list such as ['a', 'b']"));
        };
        let (needle_register, needle_type) = self.value(needle)?;
        let mut elements = Vec::with_capacity(list.elements.len());
        for element in &list.elements {
            let (register, value_type) = self.value(element)?;
            if comparable(needle_type, value_type).is_none() {
                return Err(refuse(node, &mismatch("in", needle, needle_type, element, value_type)));
            }
            elements.push(register);
        }
        let first = self.names.elements(&elements);
        let operation = Operation::OneOf {
            needle: needle_register,
            first,
            count: elements.len() as u32,
        };
        Ok((self.names.operation(operation), ValueType::Bool))
    }

    fn conversion(&mut self, node: &IdedExpr, name: &str, operand: &IdedExpr) -> Lowered {
        let (register, from) = self.value(operand)?;
        let any_of = |types: &[ValueType]| from.is_dynamic() || types.contains(&from);
        use ValueType::{Bool, Integer, Number, Text, Time};
        let (possible, operation, result) = match name {
            "double" => (any_of(&[Number, Integer, Text]), Operation::ToNumber(register), Number),
            "int" => (
                any_of(&[Number, Integer, Text, Time]),
                Operation::ToInteger(register),
                Integer,
            ),
            _ => (
                any_of(&[Number, Integer, Text, Bool]),
                Operation::ToText(register),
                Text,
            ),
        };
        if !possible {
            return Err(refuse(node, &format!("{from} cannot be made {result}")));
        }
        Ok((self.names.operation(operation), result))
    }

    fn matches(&mut self, node: &IdedExpr, text: &IdedExpr, pattern: &IdedExpr) -> Lowered {
        let Some(pattern) = text_literal(pattern) else {
            return Err(refuse(node, "the pattern must be a constant"));
        };
        let pattern =
            Regex::new(pattern).map_err(|error| refuse(node, &format!("not a regular expression: {error}")))?;
        let text = self.expect(text, ValueType::Text)?;
        let pattern = self.names.pattern(pattern);
        Ok((self.names.operation(Operation::Matches(text, pattern)), ValueType::Bool))
    }

    fn time_part(&mut self, node: &IdedExpr, name: &str, time: &IdedExpr, arguments: &[IdedExpr]) -> Lowered {
        let Some((_, part)) = TIME_PARTS.iter().find(|(known, _)| *known == name) else {
            return Err(refuse(node, &format!("`{name}` is not a known function")));
        };
        if !arguments.is_empty() {
            return Err(refuse(node, "time zones are not supported yet; times are in UTC"));
        }
        let time = self.expect(time, ValueType::Time)?;
        Ok((
            self.names.operation(Operation::TimePart(time, *part)),
            ValueType::Integer,
        ))
    }
}

const TIME_PARTS: [(&str, TimePart); 10] = [
    ("getMilliseconds", TimePart::Milliseconds),
    ("getSeconds", TimePart::Seconds),
    ("getMinutes", TimePart::Minutes),
    ("getHours", TimePart::Hours),
    ("getDayOfWeek", TimePart::DayOfWeek),
    ("getDate", TimePart::Date),
    ("getDayOfMonth", TimePart::DayOfMonth),
    ("getDayOfYear", TimePart::DayOfYear),
    ("getMonth", TimePart::Month),
    ("getFullYear", TimePart::FullYear),
];

fn refuse(node: &IdedExpr, reason: &str) -> String {
    format!("`{}`: {reason}", text_of(node))
}

fn text_literal(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Type of `a + b`, if there is an overload.
fn sum_type(a: ValueType, b: ValueType) -> Option<ValueType> {
    let texts = a.may_be(ValueType::Text) && b.may_be(ValueType::Text);
    match (arithmetic_type(a, b), texts) {
        (Some(ValueType::Number), true) if a.is_dynamic() && b.is_dynamic() => Some(ValueType::Json),
        (None, true) => Some(ValueType::Text),
        (Some(_), true) => Some(ValueType::Any),
        (number, false) => number,
    }
}

/// Type of `a - b` and the like, if there is an overload.
fn arithmetic_type(a: ValueType, b: ValueType) -> Option<ValueType> {
    let both = |wanted| a.may_be(wanted) && b.may_be(wanted);
    match (both(ValueType::Number), both(ValueType::Integer)) {
        (true, true) => Some(ValueType::Any),
        (true, false) => Some(ValueType::Number),
        (false, true) => Some(ValueType::Integer),
        (false, false) => None,
    }
}

/// Bool, if values of these types can be equal or ordered.
fn comparable(a: ValueType, b: ValueType) -> Option<ValueType> {
    let numeric = |t: ValueType| t.may_be(ValueType::Number) || t.may_be(ValueType::Integer);
    let same = [ValueType::Bool, ValueType::Text, ValueType::Time]
        .into_iter()
        .any(|t| a.may_be(t) && b.may_be(t));
    (same || numeric(a) && numeric(b)).then_some(ValueType::Bool)
}

fn mismatch(name: &str, left: &IdedExpr, a: ValueType, right: &IdedExpr, b: ValueType) -> String {
    let operator = name.trim_matches('_');
    let message = format!("`{operator}` cannot take {a} and {b}");
    let int = match (a, b) {
        (ValueType::Integer, other) if other.may_be(ValueType::Number) => left,
        (other, ValueType::Integer) if other.may_be(ValueType::Number) => right,
        _ => return message,
    };
    let instead = match &int.expr {
        Expr::Literal(_) => format!("{}.0", text_of(int)),
        _ => format!("double({})", text_of(int)),
    };
    format!("{message}; JSON numbers are doubles, so write {instead}")
}
