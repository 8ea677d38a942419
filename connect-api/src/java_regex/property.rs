//! Sets of characters that have names: `\d`, `\p{Lower}`, `\p{IsAlphabetic}`, `\p{L}`. Pure.

use super::PatternError;
use super::translate::Flags;

/// The set of `\d`, `\D` and the like, in brackets.
pub(super) fn predefined(letter: char, unicode: bool) -> &'static str {
    match (letter, unicode) {
        ('d', false) => "[0-9]",
        ('D', false) => "[^0-9]",
        ('d', true) => r"[\p{Nd}]",
        ('D', true) => r"[\P{Nd}]",
        ('s', false) => r"[\x{20}\x{9}-\x{D}]",
        ('S', false) => r"[^\x{20}\x{9}-\x{D}]",
        ('s', true) => r"[\p{White_Space}]",
        ('S', true) => r"[\P{White_Space}]",
        ('w', false) => "[a-zA-Z_0-9]",
        ('W', false) => "[^a-zA-Z_0-9]",
        ('w', true) => r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]",
        ('W', true) => r"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]",
        ('h', _) => r"[\x{20}\x{9}\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]",
        ('H', _) => r"[^\x{20}\x{9}\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]",
        ('v', _) => r"[\x{A}-\x{D}\x{85}\x{2028}\x{2029}]",
        _ => r"[^\x{A}-\x{D}\x{85}\x{2028}\x{2029}]",
    }
}

/// `\b`, or `\B`.
pub(super) fn word_boundary(is_boundary: bool, unicode: bool) -> String {
    // as \w, since Java 19
    let word = predefined('w', unicode);
    match is_boundary {
        true => format!("(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"),
        false => format!("(?:(?<={word})(?={word})|(?<!{word})(?!{word}))"),
    }
}

/// The set of `\p{name}`, or what is not of it, in brackets.
pub(super) fn named(name: &str, complement: bool, flags: Flags) -> Result<String, PatternError> {
    let members = members(name, flags)?;
    Ok(match complement {
        true => format!("[^{members}]"),
        false => format!("[{members}]"),
    })
}

fn members(name: &str, flags: Flags) -> Result<String, PatternError> {
    let unsupported = || PatternError::new(format!(r"\p{{{name}}} is not supported"));
    if let Some((key, value)) = name.split_once('=') {
        return match key.to_ascii_lowercase().as_str() {
            "sc" | "script" => unicode("Script", value).ok_or_else(|| unknown("character script name", value)),
            "gc" | "general_category" => category(value, flags).ok_or_else(|| unknown("character property", name)),
            "blk" | "block" => Err(unsupported()),
            _ => Err(unknown("Unicode property", name)),
        };
    }
    if let Some(block) = name.strip_prefix("In") {
        return Err(PatternError::new(format!(
            r"\p{{In{block}}} (a block of Unicode) is not supported"
        )));
    }
    if let Some(rest) = name.strip_prefix("Is") {
        return binary(rest, flags.case_insensitive)
            .or_else(|| category(rest, flags))
            .or_else(|| unicode("Script", rest))
            .ok_or_else(|| unknown("character property name", rest));
    }
    if flags.unicode_classes
        && let Some(members) = posix_of_unicode(name, flags.case_insensitive)
    {
        return Ok(members.to_owned());
    }
    if let Some(members) = ascii(name, flags.case_insensitive) {
        return Ok(members.to_owned());
    }
    if let Some(method) = name.strip_prefix("java") {
        return java(method, flags.case_insensitive)
            .map(str::to_owned)
            .ok_or_else(unsupported);
    }
    category(name, flags).ok_or_else(|| unknown("character property name", name))
}

fn unknown(what: &str, name: &str) -> PatternError {
    PatternError::new(format!("Unknown {what} {{{name}}}"))
}

/// POSIX classes, which are ASCII's.
fn ascii(name: &str, any_case: bool) -> Option<&'static str> {
    Some(match name {
        "Lower" | "Upper" if any_case => "a-zA-Z",
        "Lower" => "a-z",
        "Upper" => "A-Z",
        "ASCII" => r"\x{0}-\x{7F}",
        "Alpha" => "a-zA-Z",
        "Digit" => "0-9",
        "Alnum" => "a-zA-Z0-9",
        "Punct" => r"\x{21}-\x{2F}\x{3A}-\x{40}\x{5B}-\x{60}\x{7B}-\x{7E}",
        "Graph" => r"\x{21}-\x{7E}",
        "Print" => r"\x{20}-\x{7E}",
        "Blank" => r"\x{20}\x{9}",
        "Cntrl" => r"\x{0}-\x{1F}\x{7F}",
        "XDigit" => "0-9a-fA-F",
        "Space" => r"\x{20}\x{9}-\x{D}",
        _ => return None,
    })
}

/// Letters that have a case: what a set of lower, upper or title case is where case does not matter.
const CASED: &str = r"\p{Lowercase}\p{Uppercase}\p{Lt}";

/// POSIX classes under `(?U)`; their names in any case.
fn posix_of_unicode(name: &str, any_case: bool) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "lower" | "upper" if any_case => CASED,
        "lower" => r"\p{Lowercase}",
        "upper" => r"\p{Uppercase}",
        "alpha" => r"\p{Alphabetic}",
        "digit" => r"\p{Nd}",
        "alnum" => r"\p{Alphabetic}\p{Nd}",
        "punct" => r"\p{P}",
        "graph" => r"[^\p{White_Space}\p{Cc}\p{Cs}\p{Cn}]",
        "print" => r"[[^\p{White_Space}\p{Cs}\p{Cn}]\p{Zs}&&[^\p{Cc}]]",
        "blank" => r"\p{Zs}\x{9}",
        "cntrl" => r"\p{Cc}",
        "xdigit" => r"\p{Nd}\p{Hex_Digit}",
        "space" => r"\p{White_Space}",
        _ => return None,
    })
}

/// Properties that `Is` names, in any case.
fn binary(name: &str, any_case: bool) -> Option<String> {
    let known = match name.to_ascii_uppercase().as_str() {
        "LOWERCASE" | "UPPERCASE" | "TITLECASE" if any_case => CASED,
        "ALPHABETIC" => r"\p{Alphabetic}",
        "IDEOGRAPHIC" => r"\p{Ideographic}",
        "LETTER" => r"\p{L}",
        "LOWERCASE" => r"\p{Lowercase}",
        "UPPERCASE" => r"\p{Uppercase}",
        "TITLECASE" => r"\p{Lt}",
        "WHITE_SPACE" | "WHITESPACE" => r"\p{White_Space}",
        "CONTROL" => r"\p{Cc}",
        "PUNCTUATION" => r"\p{P}",
        "HEX_DIGIT" | "HEXDIGIT" => r"\p{Nd}\p{Hex_Digit}",
        "ASSIGNED" => r"\P{Cn}",
        "NONCHARACTER_CODE_POINT" | "NONCHARACTERCODEPOINT" => r"\p{Noncharacter_Code_Point}",
        "DIGIT" => r"\p{Nd}",
        "ALNUM" => r"\p{Alphabetic}\p{Nd}",
        "JOIN_CONTROL" | "JOINCONTROL" => r"\p{Join_Control}",
        "WORD" => r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}",
        _ => return None,
    };
    Some(known.to_owned())
}

/// General categories, by their short names.
fn category(name: &str, flags: Flags) -> Option<String> {
    const CATEGORIES: [&str; 37] = [
        "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Me", "Mc", "Nd", "Nl", "No", "Zs", "Zl", "Zp", "Cc", "Cf", "Co",
        "Cs", "Pd", "Ps", "Pe", "Pc", "Po", "Sm", "Sc", "Sk", "So", "Pi", "Pf", "L", "M", "N", "Z", "C", "P", "S",
    ];
    match name {
        "LC" => Some(r"\p{Lu}\p{Ll}\p{Lt}".to_owned()),
        "LD" => Some(r"\p{L}\p{Nd}".to_owned()),
        "L1" => Some(r"\x{0}-\x{FF}".to_owned()),
        "all" => Some(r"\x{0}-\x{10FFFF}".to_owned()),
        "Lu" | "Ll" | "Lt" if flags.case_insensitive => Some(r"\p{Lu}\p{Ll}\p{Lt}".to_owned()),
        _ => CATEGORIES.contains(&name).then(|| format!(r"\p{{{name}}}")),
    }
}

/// Methods of `java.lang.Character` that are sets of Unicode by another name.
fn java(method: &str, any_case: bool) -> Option<&'static str> {
    Some(match method {
        "LowerCase" | "UpperCase" | "TitleCase" if any_case => CASED,
        "LowerCase" => r"\p{Lowercase}",
        "UpperCase" => r"\p{Uppercase}",
        "Alphabetic" => r"\p{Alphabetic}",
        "Ideographic" => r"\p{Ideographic}",
        "TitleCase" => r"\p{Lt}",
        "Digit" => r"\p{Nd}",
        "Defined" => r"\P{Cn}",
        "Letter" => r"\p{L}",
        "LetterOrDigit" => r"\p{L}\p{Nd}",
        "SpaceChar" => r"\p{Z}",
        "Whitespace" => r"[\p{Z}&&[^\x{A0}\x{2007}\x{202F}]]\x{9}-\x{D}\x{1C}-\x{1F}",
        "ISOControl" => r"\p{Cc}",
        _ => return None,
    })
}

/// A value of a property, if the expression engine knows it.
fn unicode(property: &str, value: &str) -> Option<String> {
    let plain = value
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || character == '_');
    let text = format!(r"\p{{{property}={value}}}");
    (plain && regex::Regex::new(&text).is_ok()).then_some(text)
}
