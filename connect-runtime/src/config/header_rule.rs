//! Rules of `response.http.headers.config`.

/// `add NAME:VALUE` or `set NAME: VALUE`.
pub(crate) fn header_rule(rule: &str) -> Option<(&str, &str, &str)> {
    let (action, rest) = rule.trim_matches('"').trim().split_once(char::is_whitespace)?;
    let (name, value) = rest.split_once(':')?;
    ["add", "set"]
        .contains(&action)
        .then_some((action, name.trim(), value.trim()))
}
