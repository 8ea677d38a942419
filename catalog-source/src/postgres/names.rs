//! Names of topics, schemas and fields as Debezium makes them. Pure.
//!
//! ```text
//!   PREFIX.SCHEMA.TABLE --topic--> letters, digits, ., _ and -; anything else is _
//!   topic + .Key        --schema.name.adjustment.mode--> none: as it is; avro: what Avro forbids is _; avro_unicode: _uXXXX
//!   column              --field.name.adjustment.mode---> the same, where a point is forbidden too
//! ```

/// `schema.name.adjustment.mode` and `field.name.adjustment.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adjustment {
    None,
    /// what may not be in a name of Avro becomes an underscore
    Avro,
    /// ... becomes `_u` and its hexadecimal code; so does the underscore itself
    AvroUnicode,
}

impl Adjustment {
    /// The values of the options.
    pub(super) const NAMES: [&str; 3] = ["none", "avro", "avro_unicode"];

    /// Reads the option's value.
    pub(super) fn named(text: &str) -> Self {
        match text {
            "avro" => Adjustment::Avro,
            "avro_unicode" => Adjustment::AvroUnicode,
            _ => Adjustment::None,
        }
    }

    /// The name of a schema.
    pub(super) fn schema(self, name: &str) -> String {
        self.adjust(name, true)
    }

    /// The name of a field.
    pub(super) fn field(self, name: &str) -> String {
        self.adjust(name, false)
    }

    fn adjust(self, name: &str, points: bool) -> String {
        let mut adjusted = String::with_capacity(name.len());
        // Java's characters are UTF-16 code units
        for (at, unit) in name.encode_utf16().enumerate() {
            let character = char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
            let fits = character.is_ascii_alphabetic()
                || (at > 0 && character.is_ascii_digit())
                || (at > 0 && points && character == '.')
                || (character == '_' && self == Adjustment::Avro);
            match self {
                Adjustment::None => return name.to_owned(),
                _ if fits => adjusted.push(character),
                Adjustment::Avro => {
                    adjusted.push('_');
                    // so that names that differ in their first digit alone stay different
                    if at == 0 && character.is_ascii_digit() {
                        adjusted.push(character);
                    }
                }
                Adjustment::AvroUnicode => {
                    let code = format!("{unit:x}");
                    let zeros = if code.len() <= 2 { "00" } else { "" };
                    adjusted.push_str(&format!("_u{zeros}{code}"));
                }
            }
        }
        adjusted
    }
}

/// The topic of a table (or of what else belongs to the connector).
pub(super) fn topic(name: &str) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    // a code unit of UTF-16 each, as in Java
    name.encode_utf16()
        .map(|unit| match char::from_u32(u32::from(unit)) {
            Some(character) if fits(character) => character,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_adjusted_as_debezium_adjusts_them() {
        assert_eq!(topic("e3.we ird-é.ta.b le$é"), "e3.we_ird-_.ta.b_le__");
        let name = "1x.we_ird-é.Key";
        assert_eq!(Adjustment::None.schema(name), name);
        assert_eq!(Adjustment::Avro.schema(name), "_1x.we_ird__.Key");
        assert_eq!(
            Adjustment::AvroUnicode.schema(name),
            "_u0031x.we_u005fird_u002d_u00e9.Key"
        );
        assert_eq!(Adjustment::Avro.field("c o.l"), "c_o_l");
        assert_eq!(Adjustment::AvroUnicode.field("c o.l"), "c_u0020o_u002el");
    }

    proptest! {
        /// An adjusted name is one that Avro takes, and adjusting it again changes nothing (in mode avro).
        #[test]
        fn adjusted_names_fit(name in ".{1,12}") {
            for mode in [Adjustment::Avro, Adjustment::AvroUnicode] {
                for adjusted in [mode.schema(&name), mode.field(&name)] {
                    let mut characters = adjusted.chars();
                    let first = characters.next().unwrap();
                    prop_assert!(first.is_ascii_alphabetic() || first == '_', "{}", adjusted);
                    prop_assert!(characters.all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)), "{}", adjusted);
                }
                prop_assert!(!mode.field(&name).contains('.'));
            }
            let once = Adjustment::Avro.schema(&name);
            prop_assert_eq!(Adjustment::Avro.schema(&once), once);
        }
    }
}
