//! Validation and definitions as REST shows them (contract 4.6).

use super::{ValidatedOption, Validation};
use connect_api::config::{ConfigKey, ConfigType, Default, UnreadOption};
use serde_json::{Value, json};

impl Validation {
    /// The answer to `PUT /connector-plugins/{plugin}/config/validate`.
    pub fn to_json(&self) -> Value {
        let mut answer = json!({
            "name": self.name,
            "error_count": self.error_count(),
            "groups": self.groups,
            "configs": self.options.iter().map(option_json).collect::<Vec<_>>(),
        });
        // upstream has no such member: it is there only where there is something to say
        if !self.unread.is_empty() {
            let warning = |option: &UnreadOption| json!({ "name": option.name, "message": option.message });
            let warnings = self.unread.iter().map(warning).collect();
            if let Some(members) = answer.as_object_mut() {
                members.insert("warnings".to_owned(), warnings);
            }
        }
        answer
    }
}

fn option_json(option: &ValidatedOption) -> Value {
    let value = &option.value;
    json!({
        "definition": option.definition.as_ref().map(definition_json),
        "value": {
            "name": value.name,
            "value": value.value,
            "recommended_values": value.recommended_values,
            "errors": value.errors,
            "visible": value.visible,
        },
    })
}

/// A definition. Its place in its group goes by two names: `order` up to 4.1, `order_in_group` since 4.2; there are
/// clients for both.
pub fn definition_json(key: &ConfigKey) -> Value {
    let default = match (&key.default, key.config_type) {
        (Default::Required | Default::Null, _) => None,
        (Default::Text(_), ConfigType::Password) => Some("[hidden]".to_owned()),
        (Default::Text(text), _) => Some(text.clone()),
    };
    json!({
        "name": key.name,
        "type": key.config_type.name(),
        "required": key.default == Default::Required,
        "default_value": default,
        "importance": key.importance.name(),
        "documentation": key.documentation,
        "group": key.group,
        "order": key.order,
        "order_in_group": key.order,
        "width": key.width.name(),
        "display_name": key.display_name,
        "dependents": key.dependents,
    })
}
