//! The script of requests, parsed.

use anyhow::{Context as _, Result, bail};

/// One line of the script with what belongs to it.
#[derive(Debug)]
pub enum Step {
    /// `== TITLE`
    Title(String),
    /// a request, sent to both
    Send(Request),
    /// `wait PATH POINTER VALUE`
    Wait {
        path: String,
        pointer: String,
        value: String,
    },
}

/// A request, and where the answers to it may differ.
#[derive(Debug)]
pub struct Request {
    /// number of its line in the script, from 1
    pub line: usize,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    /// pointer, reason
    pub differs: Vec<(String, String)>,
}

/// Every step, in order.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let context = || format!("line {line}: {text}");
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(more) = text.strip_prefix("  ") {
            let Some(Step::Send(request)) = steps.last_mut() else {
                bail!("{}: belongs to no request", context());
            };
            match more.strip_prefix("> ") {
                Some(header) => {
                    let (name, value) = header.split_once(':').with_context(context)?;
                    request.headers.push((name.to_owned(), value.trim().to_owned()));
                }
                None => {
                    let body = request.body.get_or_insert_default();
                    if !body.is_empty() {
                        body.push('\n');
                    }
                    body.push_str(more);
                }
            }
            continue;
        }
        let (first, rest) = text.split_once(' ').with_context(context)?;
        match first {
            "==" => steps.push(Step::Title(rest.to_owned())),
            "wait" => {
                let mut parts = rest.splitn(3, ' ').map(str::to_owned);
                let mut next = || parts.next().with_context(context);
                steps.push(Step::Wait {
                    path: next()?,
                    pointer: next()?,
                    value: next()?,
                });
            }
            "differs" => {
                let Some(Step::Send(request)) = steps.last_mut() else {
                    bail!("{}: belongs to no request", context());
                };
                let (pointer, reason) = rest.split_once(' ').with_context(context)?;
                request.differs.push((pointer.to_owned(), reason.to_owned()));
            }
            method => steps.push(Step::Send(Request {
                line,
                method: method.to_owned(),
                path: rest.to_owned(),
                headers: Vec::new(),
                body: None,
                differs: Vec::new(),
            })),
        }
    }
    Ok(steps)
}
