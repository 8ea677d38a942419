//! From Java's syntax to that of fancy-regex, which differ in what the same signs mean. Pure.
//!
//! The translation uses no flags: what a flag changes is written out, so that `(?i)` in the middle of a pattern ends
//! where Java ends it. Every character of a literal is written as its code point.

use super::PatternError;
use super::class;
use super::property;

/// Flags in force at a place of a pattern (`Pattern`'s constants).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// `i`
    pub(super) case_insensitive: bool,
    /// `u`: of letters beyond ASCII, too
    pub(super) unicode_case: bool,
    /// `d`: only `\n` ends a line
    pub(super) unix_lines: bool,
    /// `m`
    pub(super) multiline: bool,
    /// `s`
    pub(super) dot_all: bool,
    /// `x`
    pub(super) comments: bool,
    /// `U`: `\d`, `\w` and the like know Unicode
    pub(super) unicode_classes: bool,
}

/// A character of a pattern; one within `\Q..\E` means itself.
#[derive(Debug, Clone, Copy)]
struct Sign {
    character: char,
    quoted: bool,
}

/// What follows a backslash.
pub(super) enum Escaped {
    /// one character
    Literal(char),
    /// a set of characters, in brackets
    Class(String),
    /// something else, which no class may hold
    Other(String),
}

/// Reads a pattern.
pub(super) struct Reader {
    signs: Vec<Sign>,
    at: usize,
    pub(super) flags: Flags,
    /// groups opened so far
    groups: usize,
    /// groups of the whole pattern
    all_groups: usize,
    names: Vec<String>,
}

/// Groups and classes deeper than this are refused.
const DEPTH: usize = 100;

/// `pattern` in the syntax of fancy-regex.
pub(super) fn translate(pattern: &str, flags: Flags) -> Result<String, PatternError> {
    // a reference may stand in front of its group: the first pass counts them
    let mut counting = Reader::new(pattern, flags, usize::MAX);
    counting.whole()?;
    Reader::new(pattern, flags, counting.groups).whole()
}

impl Reader {
    fn new(pattern: &str, flags: Flags, all_groups: usize) -> Self {
        Self {
            signs: unquoted(pattern),
            at: 0,
            flags,
            groups: 0,
            all_groups,
            names: Vec::new(),
        }
    }

    fn whole(&mut self) -> Result<String, PatternError> {
        let translated = self.alternatives(0)?;
        match self.peek() {
            None => Ok(translated),
            Some(_) => Err(self.error("Unmatched closing ')'")),
        }
    }

    pub(super) fn error(&self, message: &str) -> PatternError {
        PatternError::new(format!("{message} near index {}", self.at))
    }

    /// The next sign, comments skipped.
    fn sign(&mut self) -> Option<Sign> {
        while self.flags.comments {
            match self.signs.get(self.at) {
                Some(sign) if !sign.quoted && is_blank(sign.character) => self.at += 1,
                Some(sign) if !sign.quoted && sign.character == '#' => {
                    let ends = |sign: &Sign| match self.flags.unix_lines {
                        true => sign.character == '\n',
                        false => LINE_TERMINATORS.contains(&sign.character),
                    };
                    let rest = self.signs.get(self.at..).unwrap_or_default();
                    self.at += rest.iter().position(ends).unwrap_or(rest.len());
                }
                _ => break,
            }
        }
        self.signs.get(self.at).copied()
    }

    /// The next sign, if it is one that may mean something else than itself.
    pub(super) fn peek(&mut self) -> Option<char> {
        self.sign().filter(|sign| !sign.quoted).map(|sign| sign.character)
    }

    /// The sign behind the next one, as it stands.
    pub(super) fn peek_second(&self) -> Option<char> {
        let second = self.signs.get(self.at + 1).filter(|sign| !sign.quoted);
        second.map(|sign| sign.character)
    }

    /// Takes the next sign: its character, and whether it is quoted.
    pub(super) fn take(&mut self) -> Option<(char, bool)> {
        let sign = self.sign()?;
        self.at += 1;
        Some((sign.character, sign.quoted))
    }

    /// Takes the next sign if it is `expected`, and means more than itself.
    pub(super) fn take_if(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        self.at += usize::from(found);
        found
    }

    /// Takes the next sign without skipping comments.
    fn raw(&mut self) -> Option<char> {
        let sign = self.signs.get(self.at)?;
        self.at += 1;
        Some(sign.character)
    }

    fn alternatives(&mut self, depth: usize) -> Result<String, PatternError> {
        if depth > DEPTH {
            return Err(PatternError::new(format!(
                "groups are nested deeper than {DEPTH}: not supported"
            )));
        }
        let mut translated = self.sequence(depth)?;
        while self.take_if('|') {
            translated.push('|');
            translated.push_str(&self.sequence(depth)?);
        }
        Ok(translated)
    }

    fn sequence(&mut self, depth: usize) -> Result<String, PatternError> {
        let mut translated = String::new();
        loop {
            match self.peek() {
                Some('|' | ')') => return Ok(translated),
                Some(dangling @ ('*' | '+' | '?')) => {
                    return Err(self.error(&format!("Dangling meta character '{dangling}'")));
                }
                None if self.sign().is_none() => return Ok(translated),
                _ => {}
            }
            if let Some(atom) = self.atom(depth)? {
                translated.push_str(&self.quantified(atom)?);
            }
        }
    }

    /// The next atom; `None` for one that only changes flags.
    fn atom(&mut self, depth: usize) -> Result<Option<String>, PatternError> {
        let Some(special) = self.peek() else {
            let literal = self.take().map(|(character, _)| self.literal(character));
            return Ok(literal);
        };
        Ok(Some(match special {
            '(' => return self.group(depth),
            '[' => class::read(self, 0)?,
            '\\' => {
                self.at += 1;
                match self.escape(false)? {
                    Escaped::Literal(character) => self.literal(character),
                    Escaped::Class(text) | Escaped::Other(text) => text,
                }
            }
            // as Java has it: nothing, repeated
            '{' => String::new(),
            '^' => {
                self.at += 1;
                self.line_begin()
            }
            '$' => {
                self.at += 1;
                self.line_end(self.flags.multiline)
            }
            '.' => {
                self.at += 1;
                match (self.flags.dot_all, self.flags.unix_lines) {
                    (true, _) => r"[\x{0}-\x{10FFFF}]".to_owned(),
                    (false, true) => r"[^\n]".to_owned(),
                    (false, false) => r"[^\n\r\x{85}\x{2028}\x{2029}]".to_owned(),
                }
            }
            plain => {
                self.at += 1;
                self.literal(plain)
            }
        }))
    }

    fn literal(&self, character: char) -> String {
        let Flags {
            case_insensitive,
            unicode_case,
            ..
        } = self.flags;
        match character {
            _ if !case_insensitive => code_point(character),
            _ if unicode_case => format!("(?i:{})", code_point(character)),
            letter if letter.is_ascii_alphabetic() => {
                format!("[{}{}]", letter.to_ascii_lowercase(), letter.to_ascii_uppercase())
            }
            other => code_point(other),
        }
    }

    fn line_begin(&self) -> String {
        match (self.flags.multiline, self.flags.unix_lines) {
            (false, _) => r"\A",
            // not at the end of the text, be it empty
            (true, true) => r"(?:(?:\A|(?<=\n))(?!\z))",
            (true, false) => r"(?:(?:\A|(?<=[\n\x{85}\x{2028}\x{2029}])|(?<=\r)(?!\n))(?!\z))",
        }
        .to_owned()
    }

    fn line_end(&self, multiline: bool) -> String {
        match (multiline, self.flags.unix_lines) {
            (false, true) => r"(?:\z|(?=\n\z))",
            (false, false) => r"(?:\z|(?=\r\n\z)|(?<!\r)(?=\n\z)|(?=[\r\x{85}\x{2028}\x{2029}]\z))",
            (true, true) => r"(?:\z|(?=\n))",
            (true, false) => r"(?:\z|(?<!\r)(?=\n)|(?=[\r\x{85}\x{2028}\x{2029}]))",
        }
        .to_owned()
    }

    fn quantified(&mut self, atom: String) -> Result<String, PatternError> {
        let (range, may_be_absent) = match self.peek() {
            Some(sign @ ('*' | '+' | '?')) => {
                self.at += 1;
                (sign.to_string(), sign != '+')
            }
            Some('{') => {
                let range = self.counts()?;
                let may_be_absent = range.starts_with("{0,");
                (range, may_be_absent)
            }
            _ => return Ok(atom),
        };
        let possessive = self.take_if('+');
        let lazy = !possessive && self.take_if('?');
        // an empty atom, however often, is nothing
        if atom.is_empty() {
            return Ok(atom);
        }
        // a look around, however often, is one
        let once = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| atom.starts_with(look));
        let repeated = match (once, may_be_absent, lazy) {
            (true, false, _) => return Ok(atom),
            (true, true, false) => format!("{atom}|"),
            (true, true, true) => format!("|{atom}"),
            (false, _, lazy) => format!("(?:{atom}){range}{}", if lazy { "?" } else { "" }),
        };
        match possessive {
            true => Ok(format!("(?>{repeated})")),
            false => Ok(format!("(?:{repeated})")),
        }
    }

    /// `{n}`, `{n,}` or `{n,m}`.
    fn counts(&mut self) -> Result<String, PatternError> {
        self.at += 1;
        let Some(least) = self.number()? else {
            return Err(self.error("Illegal repetition"));
        };
        let most = match self.signs.get(self.at).map(|sign| sign.character) {
            Some(',') => {
                self.at += 1;
                self.number()?
            }
            _ => Some(least),
        };
        if self.raw() != Some('}') {
            return Err(self.error("Unclosed counted closure"));
        }
        match most {
            Some(most) if most < least => Err(self.error("Illegal repetition range")),
            Some(most) => Ok(format!("{{{least},{most}}}")),
            None => Ok(format!("{{{least},}}")),
        }
    }

    fn number(&mut self) -> Result<Option<u32>, PatternError> {
        let mut number: Option<u32> = None;
        while let Some(digit) = self.signs.get(self.at).and_then(|sign| sign.character.to_digit(10)) {
            self.at += 1;
            let longer = number
                .unwrap_or(0)
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(digit));
            number = Some(longer.ok_or_else(|| self.error("Illegal repetition range"))?);
        }
        Ok(number)
    }

    fn group(&mut self, depth: usize) -> Result<Option<String>, PatternError> {
        self.at += 1;
        let outside = self.flags;
        let opening = match self.take_if('?') {
            false => {
                self.groups += 1;
                "(".to_owned()
            }
            true => match self.group_kind()? {
                Some(opening) => opening,
                None => return Ok(None),
            },
        };
        let inside = self.alternatives(depth + 1)?;
        self.flags = outside;
        match self.take_if(')') {
            true => Ok(Some(format!("{opening}{inside})"))),
            false => Err(self.error("Unclosed group")),
        }
    }

    /// What follows `(?`; `None` where it only changes flags.
    fn group_kind(&mut self) -> Result<Option<String>, PatternError> {
        let opening = match self.raw() {
            Some(':') => "(?:".to_owned(),
            Some('=') => "(?=".to_owned(),
            Some('!') => "(?!".to_owned(),
            Some('>') => "(?>".to_owned(),
            Some('<') => match self.signs.get(self.at).map(|sign| sign.character) {
                Some(sign @ ('=' | '!')) => {
                    self.at += 1;
                    format!("(?<{sign}")
                }
                _ => {
                    let name = self.name()?;
                    if self.names.contains(&name) {
                        return Err(self.error(&format!("Named capturing group <{name}> is already defined")));
                    }
                    self.groups += 1;
                    let opening = format!("(?<{name}>");
                    self.names.push(name);
                    opening
                }
            },
            Some(_) => {
                self.at -= 1;
                return self.inline_flags();
            }
            None => return Err(self.error("Unknown inline modifier")),
        };
        Ok(Some(opening))
    }

    /// A group's name, and the `>` behind it.
    fn name(&mut self) -> Result<String, PatternError> {
        let mut name = String::new();
        loop {
            match self.raw() {
                Some('>') if !name.is_empty() => return Ok(name),
                Some(character) if character.is_ascii_alphabetic() => name.push(character),
                Some(digit) if digit.is_ascii_digit() && !name.is_empty() => name.push(digit),
                Some(_) if name.is_empty() => {
                    return Err(self.error("capturing group name does not start with a Latin letter"));
                }
                _ => return Err(self.error("named capturing group is missing trailing '>'")),
            }
        }
    }

    fn inline_flags(&mut self) -> Result<Option<String>, PatternError> {
        let mut on = true;
        loop {
            let flags = &mut self.flags;
            match self.signs.get(self.at).map(|sign| sign.character) {
                Some('i') => flags.case_insensitive = on,
                Some('u') => flags.unicode_case = on,
                Some('d') => flags.unix_lines = on,
                Some('m') => flags.multiline = on,
                Some('s') => flags.dot_all = on,
                Some('x') => flags.comments = on,
                Some('U') => {
                    flags.unicode_classes = on;
                    flags.unicode_case = on;
                }
                Some('-') if on => on = false,
                Some(')') => {
                    self.at += 1;
                    return Ok(None);
                }
                Some(':') => {
                    self.at += 1;
                    return Ok(Some("(?:".to_owned()));
                }
                Some('c') => return Err(PatternError::new("canonical equivalence is not supported")),
                _ => return Err(self.error("Unknown inline modifier")),
            }
            self.at += 1;
        }
    }

    /// What the signs behind a backslash mean; `in_class`: between brackets.
    pub(super) fn escape(&mut self, in_class: bool) -> Result<Escaped, PatternError> {
        let Some(character) = self.raw() else {
            return Err(self.error("Unescaped trailing backslash"));
        };
        let other = |text: &str| Ok(Escaped::Other(text.to_owned()));
        let illegal = |reader: &Self| Err(reader.error("Illegal/unsupported escape sequence"));
        match character {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'h' | 'H' | 'v' | 'V' => Ok(Escaped::Class(
                property::predefined(character, self.flags.unicode_classes).to_owned(),
            )),
            'p' | 'P' => self.property(character == 'P').map(Escaped::Class),
            't' => Ok(Escaped::Literal('\t')),
            'n' => Ok(Escaped::Literal('\n')),
            'r' => Ok(Escaped::Literal('\r')),
            'f' => Ok(Escaped::Literal('\u{c}')),
            'a' => Ok(Escaped::Literal('\u{7}')),
            'e' => Ok(Escaped::Literal('\u{1b}')),
            '0' => self.octal(),
            'x' => self.hexadecimal(),
            'u' => self.utf16(),
            'c' => match self.raw() {
                Some(letter) => self.literal_of(u32::from(letter) ^ 64),
                None => Err(self.error("Illegal control escape sequence")),
            },
            'N' => Err(PatternError::new(r"\N (characters by name) is not supported")),
            _ if in_class && character.is_ascii_alphanumeric() => illegal(self),
            'A' => other(r"\A"),
            'z' => other(r"\z"),
            'Z' => Ok(Escaped::Other(self.line_end(false))),
            // there is only one match: where the last one ended is where the text begins
            'G' => other(r"\A"),
            'b' if self.peek() == Some('{') && self.peek_second() == Some('g') => {
                Err(PatternError::new(r"\b{g} is not supported"))
            }
            'b' => Ok(Escaped::Other(property::word_boundary(
                true,
                self.flags.unicode_classes,
            ))),
            'B' => Ok(Escaped::Other(property::word_boundary(
                false,
                self.flags.unicode_classes,
            ))),
            'R' => other(r"(?:\r\n|[\n\x{B}\x{C}\r\x{85}\x{2028}\x{2029}])"),
            'X' => Err(PatternError::new(r"\X (grapheme clusters) is not supported")),
            'k' => self.named_reference(),
            '1'..='9' => Ok(Escaped::Other(self.numbered_reference(character))),
            _ if character.is_ascii_alphabetic() => illegal(self),
            itself => Ok(Escaped::Literal(itself)),
        }
    }

    fn property(&mut self, complement: bool) -> Result<String, PatternError> {
        let name: String = match self.raw() {
            Some('{') => {
                let mut name = String::new();
                loop {
                    match self.raw() {
                        Some('}') => break name,
                        Some(character) => name.push(character),
                        None => return Err(self.error("Unclosed character family")),
                    }
                }
            }
            Some(letter) => letter.to_string(),
            None => return Err(self.error("Empty character family")),
        };
        property::named(&name, complement, self.flags)
    }

    fn literal_of(&self, code: u32) -> Result<Escaped, PatternError> {
        match char::from_u32(code) {
            Some(character) => Ok(Escaped::Literal(character)),
            None => Err(PatternError::new("an unpaired surrogate is not supported")),
        }
    }

    /// `\0n`, `\0nn` or `\0mnn`.
    fn octal(&mut self) -> Result<Escaped, PatternError> {
        let mut code = 0;
        let mut digits = 0;
        while let Some(digit) = self.signs.get(self.at).and_then(|sign| sign.character.to_digit(8)) {
            if digits == 3 || code * 8 + digit > 0o377 {
                break;
            }
            code = code * 8 + digit;
            digits += 1;
            self.at += 1;
        }
        match digits {
            0 => Err(self.error("Illegal octal escape sequence")),
            _ => self.literal_of(code),
        }
    }

    fn hex_digits(&mut self, count: usize) -> Option<u32> {
        let signs = self.signs.get(self.at..self.at + count)?;
        let code = signs
            .iter()
            .try_fold(0, |code, sign| Some(code * 16 + sign.character.to_digit(16)?))?;
        self.at += count;
        Some(code)
    }

    /// `\xhh` or `\x{h..h}`.
    fn hexadecimal(&mut self) -> Result<Escaped, PatternError> {
        if let Some(code) = self.hex_digits(2) {
            return self.literal_of(code);
        }
        let bad = |reader: &Self| Err(reader.error("Illegal hexadecimal escape sequence"));
        if self.raw() != Some('{') {
            return bad(self);
        }
        let mut code: u32 = 0;
        let mut digits = 0;
        loop {
            match self.raw() {
                Some('}') if digits > 0 => return self.literal_of(code),
                Some(character) => match character.to_digit(16) {
                    Some(digit) if code < 0x11_0000 => code = code * 16 + digit,
                    _ => return bad(self),
                },
                None => return Err(self.error("Unclosed hexadecimal escape sequence")),
            }
            digits += 1;
        }
    }

    /// `\uhhhh`; two of them for a character beyond the first plane.
    fn utf16(&mut self) -> Result<Escaped, PatternError> {
        let bad = |reader: &Self| reader.error("Illegal Unicode escape sequence");
        let first = self.hex_digits(4).ok_or_else(|| bad(self))?;
        let start = self.at;
        if (0xD800..0xDC00).contains(&first)
            && self.raw() == Some('\\')
            && self.raw() == Some('u')
            && let Some(second) = self.hex_digits(4).filter(|second| (0xDC00..0xE000).contains(second))
        {
            return self.literal_of(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00));
        }
        self.at = start;
        self.literal_of(first)
    }

    fn named_reference(&mut self) -> Result<Escaped, PatternError> {
        if self.raw() != Some('<') {
            return Err(self.error(r"\k is not followed by '<' for named capturing group"));
        }
        let name = self.name()?;
        match self.names.contains(&name) {
            true => Ok(Escaped::Other(self.reference(&format!(r"\k<{name}>")))),
            false => Err(self.error(&format!("named capturing group <{name}> does not exist"))),
        }
    }

    /// `\1` to `\9`, and more digits as long as there are so many groups.
    fn numbered_reference(&mut self, first: char) -> String {
        let mut number = first.to_digit(10).unwrap_or_default() as usize;
        while let Some(digit) = self.signs.get(self.at).and_then(|sign| sign.character.to_digit(10)) {
            let longer = number * 10 + digit as usize;
            if longer > self.groups {
                break;
            }
            number = longer;
            self.at += 1;
        }
        match number > self.all_groups {
            // a group that is not there never matches
            true => "(?!)".to_owned(),
            false => self.reference(&format!(r"\{number}")),
        }
    }

    fn reference(&self, reference: &str) -> String {
        match self.flags.case_insensitive {
            true => format!("(?i:{reference})"),
            false => format!("(?:{reference})"),
        }
    }
}

/// Java's line terminators.
const LINE_TERMINATORS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

/// A character as fancy-regex reads it, inside and outside of brackets.
pub(super) fn code_point(character: char) -> String {
    match character.is_ascii_alphanumeric() {
        true => character.to_string(),
        false => format!(r"\x{{{:X}}}", u32::from(character)),
    }
}

/// The pattern's characters, with those of `\Q..\E` marked.
fn unquoted(pattern: &str) -> Vec<Sign> {
    let mut signs = Vec::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    let plain = |character| Sign {
        character,
        quoted: false,
    };
    while let Some(character) = rest.next() {
        if character != '\\' {
            signs.push(plain(character));
            continue;
        }
        match rest.next() {
            Some('Q') => {
                let (quoted, behind) = rest.as_str().split_once(r"\E").unwrap_or((rest.as_str(), ""));
                signs.extend(quoted.chars().map(|character| Sign {
                    character,
                    quoted: true,
                }));
                rest = behind.chars();
            }
            Some(escaped) => signs.extend([plain('\\'), plain(escaped)]),
            None => signs.push(plain('\\')),
        }
    }
    signs
}
