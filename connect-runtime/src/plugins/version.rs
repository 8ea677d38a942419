//! Versions that a configuration asks for: `1.2`, `latest`, or a range as Maven writes it, `[1.0,2.0)`. Pure.

use std::cmp::Ordering;

/// Whether `installed` is what `wanted` asks for. A bare version is exactly that one.
pub fn satisfies(installed: &str, wanted: &str) -> bool {
    let wanted = wanted.trim();
    if wanted.eq_ignore_ascii_case("latest") {
        return true;
    }
    ranges(wanted).iter().any(|range| range.contains(installed))
}

/// `wanted` as a range, as Java shows it: `9` is `[9,9]`.
pub fn shown(wanted: &str) -> String {
    let wanted = wanted.trim();
    match wanted.starts_with(['[', '(']) {
        true => wanted.to_owned(),
        false => format!("[{wanted},{wanted}]"),
    }
}

struct Range<'a> {
    low: &'a str,
    low_included: bool,
    high: &'a str,
    high_included: bool,
}

impl Range<'_> {
    fn contains(&self, version: &str) -> bool {
        let above = match compare(version, self.low) {
            _ if self.low.is_empty() => true,
            Ordering::Greater => true,
            Ordering::Equal => self.low_included,
            Ordering::Less => false,
        };
        let below = match compare(version, self.high) {
            _ if self.high.is_empty() => true,
            Ordering::Less => true,
            Ordering::Equal => self.high_included,
            Ordering::Greater => false,
        };
        above && below
    }
}

/// The alternatives of `[1,2),[3,4]`; none where the text is no range.
fn ranges(text: &str) -> Vec<Range<'_>> {
    if text.is_empty() {
        return Vec::new();
    }
    if !text.starts_with(['[', '(']) {
        return vec![Range {
            low: text,
            low_included: true,
            high: text,
            high_included: true,
        }];
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['[', '(']) {
        let Some(end) = rest.find([']', ')']) else { break };
        let Some(inner) = rest.get(start + 1..end) else { break };
        let (low, high) = inner.split_once(',').unwrap_or((inner, inner));
        found.push(Range {
            low: low.trim(),
            low_included: rest.get(start..).is_some_and(|rest| rest.starts_with('[')),
            high: high.trim(),
            high_included: rest.get(end..).is_some_and(|rest| rest.starts_with(']')),
        });
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    found
}

/// By numbers between dots and dashes; a part that is no number lies before one that is.
fn compare(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(Option<u64>, String)> {
        let parts = text.split(['.', '-']);
        parts.map(|part| (part.parse().ok(), part.to_lowercase())).collect()
    };
    let (mut one, mut other) = (parts(one), parts(other));
    let longest = one.len().max(other.len());
    one.resize(longest, (Some(0), "0".to_owned()));
    other.resize(longest, (Some(0), "0".to_owned()));
    one.cmp(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_ranges() {
        for (wanted, fits) in [
            ("1.2.0", true),
            ("1.2", true),
            ("1.3", false),
            ("latest", true),
            ("[1.0,2.0)", true),
            ("[1.0,1.2.0)", false),
            ("(1.2.0,)", false),
            ("[1.2.0]", true),
            ("(,1.2]", true),
            ("(,1.0],[1.2,)", true),
            ("[1.10,)", false),
            ("", false),
            ("[", false),
        ] {
            assert_eq!(satisfies("1.2.0", wanted), fits, "{wanted}");
        }
        assert_eq!(shown("9"), "[9,9]");
        assert_eq!(shown(" [1,2) "), "[1,2)");
    }
}
