//! The text of one-dimensional arrays: `{1,NULL,"a \"b\""}`. Pure.

/// The elements; null is `None`.
///
/// # Errors
/// Why the text is not a one-dimensional array.
pub(super) fn elements(text: &str) -> Result<Vec<Option<String>>, String> {
    // bounds other than from 1 on are written in front: [0:2]={...}
    let body = match text.strip_prefix('[') {
        Some(bounds) => bounds.split_once("]=").map_or(text, |(_, body)| body),
        None => text,
    };
    let body = body
        .strip_prefix('{')
        .and_then(|body| body.strip_suffix('}'))
        .ok_or_else(|| "not an array".to_owned())?;
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut element = String::new();
    let mut quoted = false;
    let mut inside = false;
    let mut characters = body.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => element.push(characters.next().ok_or_else(|| "ends in a backslash".to_owned())?),
            '"' => {
                inside = !inside;
                quoted = true;
            }
            ',' if !inside => found.push(finished(&mut element, &mut quoted)),
            '{' | '}' if !inside => return Err("has more than one dimension, which is not supported".to_owned()),
            other => element.push(other),
        }
    }
    if inside {
        return Err("an element's quote is not closed".to_owned());
    }
    found.push(finished(&mut element, &mut quoted));
    Ok(found)
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
        assert_eq!(elements("{}").unwrap(), Vec::<Option<String>>::new());
        assert_eq!(
            elements("[0:1]={1,2}").unwrap(),
            [Some("1".to_owned()), Some("2".to_owned())]
        );
        assert_eq!(
            elements("{NULL,\"NULL\",\"\"}").unwrap(),
            [None, Some("NULL".to_owned()), Some(String::new())]
        );
        assert!(elements("{{1},{2}}").unwrap_err().contains("dimension"));
        assert!(elements("1,2").is_err());
    }

    proptest! {
        /// What PostgreSQL writes of an array (every element quoted here) comes back.
        #[test]
        fn elements_come_back(all in proptest::collection::vec(proptest::option::of(".{0,8}"), 1..6)) {
            let written: Vec<String> = all.iter().map(|element| match element {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            }).collect();
            prop_assert_eq!(elements(&format!("{{{}}}", written.join(","))).unwrap(), all);
        }

        #[test]
        fn any_text_is_read(text in "[{}\\\\\",a\\[\\]=]{0,12}") {
            let _ = elements(&text);
        }
    }
}
