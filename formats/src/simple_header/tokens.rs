//! Tokens of header text: delimiters `: , { } [ ] "` and what lies between them. A backslash takes a delimiter's meaning
//! away and stays in the token.

/// As `String.trim`: without the control characters and spaces around it.
pub(super) fn java_trim(text: &str) -> &str {
    text.trim_matches(|character| character <= ' ')
}

/// Hands out tokens, with one token of look-ahead.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    ahead: Option<&'a str>,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            ahead: None,
        }
    }

    /// The whole text.
    pub(super) fn original(&self) -> &'a str {
        self.text
    }

    pub(super) fn has_next(&self) -> bool {
        self.ahead.is_some() || self.at < self.text.len()
    }

    /// The next token; empty at the end.
    pub(super) fn next(&mut self) -> &'a str {
        match self.ahead.take() {
            Some(token) => token,
            None => self.read(),
        }
    }

    /// The text of the next `count` tokens, or `None` (and nothing is consumed) where there are fewer.
    pub(super) fn next_joined(&mut self, count: usize) -> Option<&'a str> {
        let start = self.mark();
        for _ in 0..count {
            if !self.has_next() {
                self.rewind_to(start);
                return None;
            }
            self.next();
        }
        self.text.get(start..self.at)
    }

    /// Consumes the next token if it is `expected`, blanks around it aside.
    pub(super) fn can_consume(&mut self, expected: &str) -> bool {
        let mut token = match self.ahead {
            Some(token) => token,
            None if self.at < self.text.len() => self.read(),
            None => return false,
        };
        while java_trim(token).is_empty() && self.at < self.text.len() {
            token = self.read();
        }
        let found = java_trim(token) == expected;
        self.ahead = (!found).then_some(token);
        found
    }

    /// Where the next token begins.
    pub(super) fn mark(&self) -> usize {
        self.at - self.ahead.map_or(0, str::len)
    }

    pub(super) fn rewind_to(&mut self, mark: usize) {
        self.at = mark;
        self.ahead = None;
    }

    fn read(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let mut escaped = false;
        for (offset, character) in rest.char_indices() {
            match character {
                '\\' => escaped = !escaped,
                ':' | ',' | '{' | '}' | '[' | ']' | '"' if !escaped => {
                    let length = if offset == 0 { 1 } else { offset };
                    self.at = start + length;
                    return rest.get(..length).unwrap_or_default();
                }
                _ => escaped = false,
            }
        }
        self.at = self.text.len();
        rest
    }
}
