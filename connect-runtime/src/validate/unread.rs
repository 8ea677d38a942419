//! Options that nobody reads: misspelt, of an earlier version, or of nobody. Pure.
//!
//! A name that was or nearly is an option is an error; any other is worth a warning, in the answer and in the log.

use super::checks::has_client;
use super::enrich::{list, text};
use crate::config::ClientKind;
use connect_api::config::UnreadOption;
use connect_api::{ConfigDef, ConfigMap, ConnectorKind};
use kafka_client::ClientConfig;

/// What is to be said of each option of `config` that neither the framework (`framework`, with what the connector's
/// transformations, predicates and converters add) nor the connector (`own`) reads.
pub(super) fn options(
    config: &ConfigMap,
    kind: ConnectorKind,
    framework: &ConfigDef,
    own: &ConfigDef,
) -> Vec<UnreadOption> {
    let all = framework.clone().embed("", None, own.clone());
    let others = super::framework::definition(match kind {
        ConnectorKind::Sink => ConnectorKind::Source,
        ConnectorKind::Source => ConnectorKind::Sink,
    });
    let said = |name: &String| {
        let of_client = ClientKind::ALL
            .into_iter()
            .find_map(|client| name.strip_prefix(client.override_prefix()));
        if let Some(reason) = own.ignored(name).or_else(|| ClientConfig::without_effect(of_client?)) {
            return Some(UnreadOption::known(name, reason));
        }
        if let Some(key) = all.key(name) {
            return key.without_effect.map(|reason| UnreadOption::known(name, reason));
        }
        if own.reads_below(name) {
            return None;
        }
        if let Some(said) = below_a_prefix(name, config, kind, own, &all) {
            return said;
        }
        match others.key(name) {
            Some(_) => Some(UnreadOption::without_effect(
                name,
                match kind {
                    ConnectorKind::Sink => "it is an option of source connectors, and has no effect on a sink",
                    ConnectorKind::Source => "it is an option of sink connectors, and has no effect on a source",
                },
            )),
            None => all.unread_option(name),
        }
    };
    config.keys().filter_map(said).collect()
}

/// What is to be said of an option below a prefix that belongs to a part of the connector; the outer `None`: it is below
/// none of them.
fn below_a_prefix(
    name: &str,
    config: &ConfigMap,
    kind: ConnectorKind,
    own: &ConfigDef,
    all: &ConfigDef,
) -> Option<Option<UnreadOption>> {
    let warned = |reason: String| Some(Some(UnreadOption::without_effect(name, &reason)));
    for (prefix, listed_in) in [("transforms.", "transforms"), ("predicates.", "predicates")] {
        if let Some((alias, _)) = name.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) {
            if !list(config, listed_in).iter().any(|known| known == alias) {
                return warned(format!("it has no effect, because '{alias}' is not in '{listed_in}'"));
            }
            let is_built_in = all.key(&format!("{prefix}{alias}.negate")).is_some() || prefix == "predicates.";
            // the options of a class that is not there are as good as unknown
            return Some(all.unread_option(name).filter(|_| is_built_in));
        }
    }
    for converter in ["key.converter", "value.converter", "header.converter"] {
        if name.starts_with(&format!("{converter}.")) {
            return match text(config, converter) {
                None => warned(format!(
                    "it has no effect without '{converter}': the worker's converter keeps the worker's options"
                )),
                Some(_) => Some(all.unread_option(name)),
            };
        }
    }
    for client in ClientKind::ALL {
        if name.starts_with(client.override_prefix()) {
            return match has_client(client, kind, config) || own.reads_below(name) {
                true => Some(None),
                false => warned("it has no effect: this connector has no such client".to_owned()),
            };
        }
    }
    if let Some((group, _)) = name
        .strip_prefix("topic.creation.")
        .and_then(|rest| rest.split_once('.'))
    {
        return match kind {
            ConnectorKind::Sink => warned("it has no effect: a sink creates no topics".to_owned()),
            // any setting of a topic may stand there, and the broker refuses what is none
            ConnectorKind::Source if group == "default" => Some(None),
            ConnectorKind::Source if list(config, "topic.creation.groups").iter().any(|known| known == group) => {
                Some(None)
            }
            ConnectorKind::Source => warned(format!(
                "it has no effect, because '{group}' is not in 'topic.creation.groups'"
            )),
        };
    }
    None
}
