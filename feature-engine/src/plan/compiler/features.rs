//! Features one by one: lookups, expressions, defaults, and what a model's input can take.

use super::{Compiled, Compiler, ConstantKey};
use crate::expression::{Constant, Names, Syntax, ValueType};
use crate::plan::dependencies::{Needed, Parts};
use crate::plan::{Action, FeatureSlot, Wanted};
use crate::resource::Default;
use crate::slot::{Register, Slot};

impl Compiler<'_> {
    pub(super) fn compile_feature(&mut self, feature: &Needed, all: &[Needed]) {
        let name = &feature.name;
        let compiled = match &feature.parts {
            Parts::Lookup { store, key } => self.compile_lookup(name, store, key),
            Parts::Expression(syntax) => self
                .lower_value(&format!("features.{name}.expression"), syntax)
                .and_then(|(register, value_type)| self.with_default(name, register, value_type)),
            Parts::Aggregate { spec, by, .. } => {
                if !self.aggregates.contains_key(name) {
                    self.compile_group(feature, spec, by, all);
                }
                let register = self.aggregates.get(name).copied();
                register.and_then(|register| self.with_default(name, register, ValueType::Number))
            }
        };
        if let Some(compiled) = compiled {
            self.features.insert(name.clone(), compiled);
        }
    }

    fn compile_lookup(&mut self, name: &str, store: &str, key: &Syntax) -> Option<Compiled> {
        let field = format!("features.{name}.lookup.store");
        match self.catalog.store(store) {
            None => self.error(field, format!("there is no store `{store}`")),
            Some(found) if !found.is_global() => {
                self.error(
                    field,
                    format!("store `{store}` is keyed; a lookup reads a global store"),
                );
            }
            Some(_) => {}
        }
        let (key, _) = self.lower_value(&format!("features.{name}.lookup.key"), key)?;
        let index = self
            .global_stores
            .iter()
            .position(|known| known == store)
            .unwrap_or_else(|| {
                self.global_stores.push(store.to_owned());
                self.global_stores.len() - 1
            });
        let row = self.program.rows as u32;
        self.program.rows += 1;
        self.lookups.push((name.to_owned(), index as u32));
        let register = self.step(Action::Lookup {
            row,
            store: index as u32,
            key,
        });
        self.rows.insert(register, row);
        Some(Compiled {
            register,
            value_type: ValueType::Row,
        })
    }

    /// Ends a feature's computation: what is missing has the default, and for a model's input what is no number has it too.
    /// Expressions see the feature as it is, whatever models take it.
    fn with_default(&mut self, name: &str, register: Register, value_type: ValueType) -> Option<Compiled> {
        let declared = self
            .view
            .features
            .get(name)
            .and_then(|feature| feature.default.as_ref());
        let default = match self.default_constant(declared, value_type) {
            Ok(default) => default,
            Err(message) => {
                self.error(format!("features.{name}.default"), message);
                return None;
            }
        };
        let index = self.slots.len() as u32;
        let register = self.step(Action::Default {
            value: register,
            default,
            feature: index,
        });
        let is_input = self.numeric.iter().any(|input| input == name);
        let input = match is_input && value_type.is_dynamic() {
            true => self.step(Action::Number {
                value: register,
                default,
                feature: index,
            }),
            false => register,
        };
        let slot = FeatureSlot {
            register,
            input,
            default,
            index,
            is_double: value_type == ValueType::Number,
        };
        self.slots.insert(name.to_owned(), slot);
        Some(Compiled { register, value_type })
    }

    /// The register of a default, as a value of the feature's type.
    fn default_constant(&mut self, default: Option<&Default>, value_type: ValueType) -> Result<Register, String> {
        use ValueType::{Any, Bool, Integer, Json, Number, Text};
        let constant = match (default, value_type) {
            (None, _) => {
                return Ok(self.constant_register(ConstantKey::Missing, Slot::Missing));
            }
            (Some(Default::Signed(value)), Integer) => Constant::Integer(*value),
            (Some(Default::Signed(value)), Number | Json | Any) => return Ok(self.large_constant((*value).into())),
            (Some(Default::Unsigned(value)), Number | Json | Any) => return Ok(self.large_constant((*value).into())),
            (Some(Default::Number(value)), Number | Json | Any) => Constant::Number(*value),
            (Some(Default::Number(value)), Integer) if value.trunc() == *value => Constant::Integer(*value as i64),
            (Some(Default::Number(value)), Bool) if *value == 0.0 || *value == 1.0 => Constant::Bool(*value == 1.0),
            (Some(Default::Bool(value)), Bool | Json | Any) => Constant::Bool(*value),
            (Some(Default::Bool(value)), Number) => Constant::Number(f64::from(u8::from(*value))),
            (Some(Default::Text(value)), Text | Json | Any) => Constant::Text(value),
            (Some(_), other) => return Err(format!("the feature is {other}, its default is not")),
        };
        Ok(self.constant(constant))
    }

    /// The register of an integer beyond 2^53.
    fn large_constant(&mut self, value: i128) -> Register {
        self.constant_register(
            ConstantKey::Large(value),
            crate::number::Number::of_integer(value).into(),
        )
    }

    pub(super) fn check_inputs(&mut self, wanted: &Wanted) {
        for name in &wanted.inputs {
            let field = format!("features.{name}");
            if !self.view.features.contains_key(name) {
                self.error(field, format!("view `{}` has no feature `{name}`", self.view.name));
                continue;
            }
            let message = match self.features.get(name).map(|compiled| compiled.value_type) {
                Some(ValueType::Row) => {
                    "is a row, and a model's input takes numbers; make a feature of one of its fields"
                }
                Some(ValueType::Text) => "is a string, and a model's input takes numbers",
                Some(ValueType::Time) => {
                    "is a timestamp, and a model's input takes numbers; use int() or a part such as getHours()"
                }
                _ => continue,
            };
            self.error(field, message);
        }
    }
}
