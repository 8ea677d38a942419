//! The text of arrays: `{1,NULL,"a \"b\""}`. Pure.

/// An array as it is written.
#[derive(Debug, PartialEq)]
pub(super) enum Elements {
    /// of one dimension; null is `None`
    Flat(Vec<Option<String>>),
    /// of more dimensions: how many arrays the outermost one has
    Nested(usize),
}

/// The elements.
///
/// # Errors
/// Why the text is not an array.
pub(super) fn elements(text: &str) -> Result<Elements, &'static str> {
    // bounds other than from 1 on are written in front: [0:2]={...}
    let body = match text.strip_prefix('[') {
        Some(bounds) => bounds.split_once("]=").map_or(text, |(_, body)| body),
        None => text,
    };
    let body = body
        .strip_prefix('{')
        .and_then(|body| body.strip_suffix('}'))
        .ok_or("not an array")?;
    if body.is_empty() {
        return Ok(Elements::Flat(Vec::new()));
    }
    let mut found = Vec::new();
    let mut element = String::new();
    let mut quoted = false;
    let mut inside = false;
    let (mut depth, mut arrays) = (0_usize, 0);
    let mut characters = body.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => element.push(characters.next().ok_or("ends in a backslash")?),
            '"' => {
                inside = !inside;
                quoted = true;
            }
            ',' if !inside => found.push(finished(&mut element, &mut quoted)),
            '{' if !inside => {
                arrays += usize::from(depth == 0);
                depth += 1;
            }
            '}' if !inside => depth = depth.checked_sub(1).ok_or("a brace is closed that was not opened")?,
            other => element.push(other),
        }
    }
    if inside {
        return Err("an element's quote is not closed");
    }
    if depth > 0 {
        return Err("a brace is not closed");
    }
    if arrays > 0 {
        return Ok(Elements::Nested(arrays));
    }
    found.push(finished(&mut element, &mut quoted));
    Ok(Elements::Flat(found))
}

fn finished(element: &mut String, quoted: &mut bool) -> Option<String> {
    let text = std::mem::take(element);
    match std::mem::take(quoted) {
        false if text.eq_ignore_ascii_case("null") => None,
        _ => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_arrays() {
        let flat = |elements: &[Option<&str>]| {
            let owned = elements.iter().map(|element| element.map(str::to_owned));
            Ok(Elements::Flat(owned.collect()))
        };
        assert_eq!(elements("{}"), flat(&[]));
        assert_eq!(elements("[0:1]={1,2}"), flat(&[Some("1"), Some("2")]));
        assert_eq!(elements("{NULL,\"NULL\",\"\"}"), flat(&[None, Some("NULL"), Some("")]));
        assert_eq!(elements("{{1},{2}}"), Ok(Elements::Nested(2)));
        assert_eq!(elements("[1:1][2:3]={{\"}\",2}}"), Ok(Elements::Nested(1)));
        assert_eq!(elements("{{{1},{2}},{{3},{4}},{{5},{6}}}"), Ok(Elements::Nested(3)));
        for wrong in ["1,2", "{{1}", "{1}}", "{\"}"] {
            assert!(elements(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        /// What PostgreSQL writes of an array (every element quoted here) comes back.
        #[test]
        fn elements_come_back(all in proptest::collection::vec(proptest::option::of(".{0,8}"), 1..6)) {
            let written: Vec<String> = all.iter().map(|element| match element {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            }).collect();
            prop_assert_eq!(elements(&format!("{{{}}}", written.join(","))), Ok(Elements::Flat(all)));
        }

        #[test]
        fn any_text_is_read(text in "[{}\\\\\",a\\[\\]=]{0,12}") {
            let _ = elements(&text);
        }
    }
}
