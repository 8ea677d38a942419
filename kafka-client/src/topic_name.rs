//! Which names a topic may have: `org.apache.kafka.common.internals.Topic`.

/// Bytes of the longest name.
const LONGEST: usize = 249;

/// Whether brokers take this name for a topic.
///
/// # Errors
/// What is wrong with it: what follows `Invalid value NAME for configuration OPTION: `.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err("a topic's name may not be empty".to_owned());
    }
    if name == "." || name == ".." {
        return Err("a topic's name may not be . or ..".to_owned());
    }
    if let Some(other) = name.chars().find(|c| !legal(*c)) {
        return Err(format!(
            "a topic's name may have a-z, A-Z, 0-9, '.', '_' and '-' only, and this one has {other:?}"
        ));
    }
    if name.len() > LONGEST {
        return Err(format!(
            "a topic's name may have {LONGEST} characters, and this one has {}",
            name.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_brokers_take_them() {
        for name in ["a", "...", "a.b_c-D9", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()));
        }
        for (name, why) in [
            ("", "empty"),
            (".", ". or .."),
            ("..", ". or .."),
            ("a b", "' '"),
            ("\"a\"", "'\"'"),
            ("ä", "'ä'"),
            ("a\u{0}", "'\\0'"),
            (&"x".repeat(250), "250"),
        ] {
            let said = check_topic_name(name).unwrap_err();
            assert!(said.contains(why), "{name:?}: {said}");
        }
    }
}
