//! Prometheus text (exposition format 0.0.4), read strictly: what a scraper would take amiss is an error.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// One family of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// `counter` or `gauge`
    pub kind: String,
    /// what it says
    pub help: String,
    /// values by labels
    pub samples: BTreeMap<Labels, f64>,
}

/// All families of an answer.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// by name
    pub families: BTreeMap<String, Family>,
}

impl Exposition {
    /// Reads an answer.
    ///
    /// # Errors
    /// A line that is none, a family without HELP or TYPE, or with two, or in two places, a sample that comes twice or belongs
    /// to no family.
    pub fn parse(text: &str) -> Result<Exposition> {
        ensure!(
            text.is_empty() || text.ends_with('\n'),
            "the last line does not end: {text:?}"
        );
        let mut all = Exposition::default();
        let mut open: Option<String> = None;
        let mut help: Option<(String, String)> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').context("HELP without words")?;
                ensure!(help.is_none(), "two HELP before a TYPE: {line}");
                ensure!(is_name(name, true) && !words.trim().is_empty(), "{line}");
                help = Some((name.to_owned(), words.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').context("TYPE without a kind")?;
                let Some((helped, words)) = help.take() else {
                    bail!("TYPE without HELP: {line}")
                };
                ensure!(helped == name, "HELP of {helped}, TYPE of {name}");
                ensure!(matches!(kind, "counter" | "gauge"), "{line}");
                let family = Family {
                    kind: kind.to_owned(),
                    help: words,
                    samples: BTreeMap::new(),
                };
                let before = all.families.insert(name.to_owned(), family);
                ensure!(before.is_none(), "{name} comes twice");
                open = Some(name.to_owned());
            } else {
                ensure!(help.is_none(), "a sample between HELP and TYPE: {line}");
                let (name, labels, value) = sample(line).with_context(|| format!("the line {line:?}"))?;
                ensure!(
                    open.as_deref() == Some(name),
                    "a sample outside its family {open:?}: {line}"
                );
                let family = all.families.get_mut(name).context("no family")?;
                ensure!(
                    family.samples.insert(labels, value).is_none(),
                    "a sample comes twice: {line}"
                );
            }
        }
        ensure!(help.is_none(), "HELP at the end: {help:?}");
        Ok(all)
    }

    /// The value of the one sample of a family that has these labels, and maybe others.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let family = self.families.get(name).with_context(|| format!("no {name}"))?;
        let fits = |own: &Labels| {
            labels
                .iter()
                .all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        };
        let mut found = family.samples.iter().filter(|(own, _)| fits(own));
        let (_, value) = found
            .next()
            .with_context(|| format!("{name} has no sample with {labels:?}: {:?}", family.samples))?;
        ensure!(
            found.next().is_none(),
            "{name} has several samples with {labels:?}: {:?}",
            family.samples
        );
        Ok(*value)
    }

    /// Names of the labels that the samples of a family have. None: it has no sample.
    ///
    /// # Errors
    /// When they do not all have the same.
    pub fn labels(&self, name: &str) -> Result<Option<BTreeSet<String>>> {
        let family = self.families.get(name).with_context(|| format!("no {name}"))?;
        let mut all = family
            .samples
            .keys()
            .map(|labels| labels.keys().cloned().collect::<BTreeSet<_>>());
        let first = all.next();
        ensure!(
            all.all(|labels| Some(&labels) == first.as_ref()),
            "samples of {name} have different labels"
        );
        Ok(first)
    }
}

/// Name, labels and value of a line.
fn sample(line: &str) -> Result<(&str, Labels, f64)> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    ensure!(is_name(name, true), "the name {name:?}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").context("a label without a value")?;
            ensure!(is_name(label, false), "the label {label:?}");
            let (value, after) = label_value(after)?;
            ensure!(
                labels.insert(label.to_owned(), value).is_none(),
                "the label {label} comes twice"
            );
            match (after.strip_prefix(','), after.strip_prefix('}')) {
                (Some(more), _) => rest = more,
                (None, Some(end)) => {
                    rest = end;
                    break;
                }
                _ => bail!("labels do not end"),
            }
        }
    }
    let value = rest.strip_prefix(' ').context("no value")?;
    let value: f64 = value.parse().with_context(|| format!("the value {value:?}"))?;
    ensure!(value.is_finite(), "the value {value}");
    Ok((name, labels, value))
}

/// The text up to the closing quote, unescaped, and what comes after.
fn label_value(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match characters.next() {
                Some((_, '\\')) => value.push('\\'),
                Some((_, '"')) => value.push('"'),
                Some((_, 'n')) => value.push('\n'),
                other => bail!("an escape of {other:?}"),
            },
            other => value.push(other),
        }
    }
    bail!("a label's value does not end")
}

fn is_name(name: &str, colons: bool) -> bool {
    let fits = |character: char| character.is_ascii_alphabetic() || character == '_' || (colons && character == ':');
    let mut characters = name.chars();
    characters.next().is_some_and(fits) && characters.all(|character| fits(character) || character.is_ascii_digit())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n}, \",y=\"\"} 1\na_total{x=\"r\",y=\"\"} 2.5\n# HELP b That.\n# TYPE b gauge\nb 0\n";

    #[test]
    fn reads_what_is_right() {
        let all = Exposition::parse(GOOD).unwrap();
        assert_eq!(all.value("a_total", &[("x", "q\"\\\n}, ")]).unwrap(), 1.0);
        assert_eq!(all.value("b", &[]).unwrap(), 0.0);
        assert!(all.value("a_total", &[]).is_err() && all.value("a_total", &[("x", "s")]).is_err());
        assert_eq!(all.labels("a_total").unwrap().unwrap().len(), 2);
    }

    #[test]
    fn refuses_what_is_wrong() {
        for (from, to) in [
            ("# HELP b That.\n", ""),
            ("# TYPE b gauge\n", ""),
            ("# TYPE b gauge", "# TYPE b gauge\n# TYPE b gauge"),
            ("# TYPE b gauge", "# TYPE c gauge"),
            ("# TYPE b gauge", "# TYPE b number"),
            ("b 0\n", "b 0\nb 1\n"),
            ("b 0\n", "b 0"),
            ("b 0\n", "b NaN\n"),
            ("b 0\n", "b\n"),
            ("b 0\n", "b 0\na_total{x=\"s\",y=\"\"} 2\n"),
            ("b 0\n", "b 0\n# HELP a_total What.\n# TYPE a_total counter\n"),
            ("x=\"r\"", "x=\"r\"\""),
            ("x=\"r\"", "x=\"\\r\""),
            ("x=\"r\",y", "x=\"r\",x"),
            ("x=\"r\"", "1x=\"r\""),
        ] {
            let wrong = GOOD.replace(from, to);
            assert_ne!(wrong, GOOD, "{from}");
            assert!(Exposition::parse(&wrong).is_err(), "{wrong}");
        }
        let mixed = GOOD.replace("{x=\"r\",y=\"\"}", "{x=\"r\"}");
        assert!(Exposition::parse(&mixed).unwrap().labels("a_total").is_err());
    }
}
