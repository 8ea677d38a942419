//! Debezium's options that are not supported: refused by name, unless they are set to what happens anyway. They are no part of
//! the definition, so that forms do not offer them. And names that its options had in earlier versions, which it ignores in
//! silence: refused with the names that they have now.

use connect_api::config::{ConfigDef, ConfigMap};

/// Options with the value that says what happens; an empty text: none.
const OPTIONS: &[(&str, &str)] = &[
    ("binary.handling.mode", "bytes"),
    ("column.propagate.source.type", ""),
    ("converters", ""),
    ("custom.metric.tags", ""),
    ("custom.sanitize.pattern", ""),
    ("database.initial.statements", ""),
    ("database.query.timeout.ms", "0"),
    ("database.sslcert", ""),
    ("database.sslfactory", ""),
    ("database.sslkey", ""),
    ("database.sslpassword", ""),
    ("database.sslrootcert", ""),
    ("datatype.propagate.source.type", ""),
    ("errors.max.retries", "-1"),
    ("event.converting.failure.handling.mode", "warn"),
    ("event.processing.failure.handling.mode", "fail"),
    ("executor.shutdown.timeout.ms", "4000"),
    ("extended.headers.enabled", "false"),
    ("flush.lsn.source", "true"),
    ("guardrail.collections.limit.action", "warn"),
    ("guardrail.collections.max", "0"),
    ("heartbeat.action.query", ""),
    ("hstore.handling.mode", "json"),
    ("include.schema.comments", "false"),
    ("incremental.snapshot.allow.schema.changes", "false"),
    ("incremental.snapshot.chunk.size", "1024"),
    ("incremental.snapshot.watermarking.strategy", "insert_insert"),
    ("interval.handling.mode", "numeric"),
    ("legacy.snapshot.max.threads", "false"),
    ("lsn.flush.mode", "connector"),
    ("lsn.flush.timeout.action", "fail"),
    ("lsn.flush.timeout.ms", "30000"),
    ("max.queue.size.in.bytes", "0"),
    ("message.key.columns", ""),
    ("money.fraction.digits", "2"),
    ("notification.enabled.channels", ""),
    ("notification.sink.topic.name", ""),
    ("openlineage.integration.enabled", "false"),
    ("poll.dispatch.interval.ms", "0"),
    ("post.processors", ""),
    ("provide.transaction.metadata", "false"),
    ("query.fetch.size", "0"),
    ("queue.provider.type", "memory"),
    ("read.only", "false"),
    ("replica.identity.autoset.values", ""),
    ("retriable.restart.connector.wait.ms", "10000"),
    ("schema.refresh.mode", "columns_diff"),
    ("signal.data.collection", ""),
    ("signal.enabled.channels", "source"),
    ("signal.kafka.topic", ""),
    ("signal.poll.interval.ms", "5000"),
    ("skip.messages.without.change", "false"),
    ("slot.failover", "false"),
    ("slot.stream.params", ""),
    ("snapshot.delay.ms", "0"),
    ("snapshot.include.collection.list", ""),
    ("snapshot.isolation.mode", "repeatable_read"),
    ("snapshot.lock.timeout.ms", "10000"),
    ("snapshot.locking.mode", "none"),
    ("snapshot.max.threads", "1"),
    ("snapshot.max.threads.multiplier", "1"),
    ("snapshot.mode.custom.name", ""),
    ("snapshot.query.mode", "select_all"),
    ("snapshot.query.mode.custom.name", ""),
    ("snapshot.select.statement.overrides", ""),
    ("snapshot.tables.order.by.row.count", "disabled"),
    (
        "sourceinfo.struct.maker",
        "io.debezium.connector.postgresql.PostgresSourceInfoStructMaker",
    ),
    ("statistics.metrics.enabled", "false"),
    ("streaming.delay.ms", "0"),
    ("table.ignore.builtin", "true"),
    ("topic.cache.size", "10000"),
    ("topic.delimiter", "."),
    ("topic.naming.strategy", "io.debezium.schema.SchemaTopicNamingStrategy"),
    ("topic.transaction", "transaction"),
    (
        "transaction.metadata.factory",
        "io.debezium.pipeline.txmetadata.DefaultTransactionMetadataFactory",
    ),
    ("xmin.fetch.interval.ms", "0"),
];

/// Beginnings of options that carry part of their meaning in their name.
const BEGINNINGS: &[&str] = &[
    "column.mask.hash.",
    "column.mask.with.",
    "column.truncate.to.",
    "snapshot.mode.configuration.based.",
    "snapshot.select.statement.overrides.",
    "openlineage.integration.",
    "signal.consumer.",
];

/// Names that options had in earlier versions of Debezium, with those that they have now.
const FORMER: &[(&str, &str)] = &[
    ("schema.whitelist", "schema.include.list"),
    ("schema.blacklist", "schema.exclude.list"),
    ("table.whitelist", "table.include.list"),
    ("table.blacklist", "table.exclude.list"),
    ("column.whitelist", "column.include.list"),
    ("column.blacklist", "column.exclude.list"),
    ("database.server.name", "topic.prefix"),
    ("heartbeat.topics.prefix", "topic.heartbeat.prefix"),
    ("transaction.topic", "topic.transaction"),
    ("rows.fetch.size", "snapshot.fetch.size"),
    ("slot.drop_on_stop", "slot.drop.on.stop"),
    ("slot.seek.to.known.offset.on.start", "offset.mismatch.strategy"),
    ("sanitize.field.names", "field.name.adjustment.mode"),
    ("toasted.value.placeholder", "unavailable.value.placeholder"),
    (
        "event.deserialization.failure.handling.mode",
        "event.processing.failure.handling.mode",
    ),
    ("snapshot.custom.class", "snapshot.mode.custom.name"),
    ("snapshot.custom_class", "snapshot.mode.custom.name"),
];

/// Options that earlier versions of Debezium had, with what to do instead.
const REMOVED: &[(&str, &str)] = &[
    (
        "source.struct.version",
        "leave it out, there is one form of the source block",
    ),
    (
        "truncate.handling.mode",
        "leave it out, truncates are named in skipped.operations",
    ),
    (
        "poll.interval.max.ms",
        "leave it out, changes are handed on when they arrive",
    ),
];

/// The definition with the names that are known beside its own.
pub(super) fn names(definition: ConfigDef) -> ConfigDef {
    let definition = OPTIONS
        .iter()
        .fold(definition, |definition, (name, _)| definition.understands(*name));
    let definition = BEGINNINGS
        .iter()
        .fold(definition, |definition, beginning| definition.reads_prefix(*beginning));
    let definition = FORMER.iter().fold(definition, |definition, (former, name)| {
        definition.renamed(*former, *name)
    });
    let removed = REMOVED.iter();
    removed.fold(definition, |definition, (former, advice)| {
        definition.removed(*former, *advice)
    })
}

/// Beginnings of names that belong to this connector alone: the framework has no options there.
const OWNED: &[&str] = &[
    "column.",
    "database.",
    "field.name.",
    "heartbeat.",
    "incremental.",
    "message.",
    "publication.",
    "publish.",
    "schema.",
    "signal.",
    "skipped.",
    "slot.",
    "snapshot.",
    "status.",
    "table.",
    "tombstones.",
    "unavailable.",
];

/// Names that were, or nearly are, options of this connector: where they can be no others, and all that its options had once.
/// The worker refuses these, and more; a connector that was created through a Java worker is not asked by it.
pub(super) fn misnamed(config: &ConfigMap) -> Vec<(String, String)> {
    let definition = super::config::definition();
    let unread = definition.unread(config).into_iter().filter(|unread| unread.refused);
    let former = |name: &str| FORMER.iter().chain(REMOVED).any(|(former, _)| *former == name);
    let owned = |name: &str| OWNED.iter().any(|owned| name.starts_with(owned));
    unread
        .filter(|unread| former(&unread.name) || owned(&unread.name))
        .map(|unread| (unread.name, unread.message))
        .collect()
}

/// Everything in `config` that is refused by its name or, if it is not supported, its value, each with what to tell the user.
pub(super) fn check(config: &ConfigMap) -> Vec<(String, String)> {
    let mut refused = unsupported(config);
    refused.extend(misnamed(config));
    refused
}

/// Options of Debezium that are set to what this connector does not do.
pub(super) fn unsupported(config: &ConfigMap) -> Vec<(String, String)> {
    config
        .iter()
        .filter_map(|(name, value)| {
            let value = value.as_deref().map(str::trim).unwrap_or_default();
            let known = OPTIONS.iter().find(|(option, _)| option == name);
            let refused = match known {
                Some((_, default)) => !value.is_empty() && !value.eq_ignore_ascii_case(default),
                None => !value.is_empty() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)),
            };
            let advice = match known {
                Some((_, default)) if !default.is_empty() => format!("; leave it out, or set it to {default}"),
                _ => "; leave it out".to_owned(),
            };
            refused.then(|| {
                (
                    name.clone(),
                    format!("Invalid value for configuration {name}: this option of Debezium is not supported{advice}"),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, value: &str) -> Option<String> {
        let config = [(name.to_owned(), Some(value.to_owned()))].into_iter().collect();
        check(&config).pop().map(|(_, message)| message)
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let message = refused("message.key.columns", "public.a:id").unwrap();
        assert!(message.contains("configuration message.key.columns: this option of Debezium is not supported"));
        assert!(refused("column.mask.with.10.chars", "a.b.c").is_some());
        assert!(
            refused("hstore.handling.mode", "map")
                .unwrap()
                .contains("set it to json")
        );
        // what Debezium does anyway, other options, and options of nobody pass
        assert_eq!(refused("hstore.handling.mode", "JSON"), None);
        assert_eq!(refused("signal.data.collection", ""), None);
        assert_eq!(refused("slot.name", "a"), None);
        assert_eq!(refused("my.own.option", "x"), None);
    }

    #[test]
    fn what_happens_anyway_may_be_said_and_nothing_else() {
        for (name, happens, other) in [
            ("extended.headers.enabled", "false", "true"),
            ("event.converting.failure.handling.mode", "warn", "fail"),
            ("snapshot.isolation.mode", "repeatable_read", "serializable"),
        ] {
            assert_eq!(refused(name, happens), None, "{name}");
            assert!(
                refused(name, other).unwrap().contains(&format!("set it to {happens}")),
                "{name}"
            );
        }
    }

    #[test]
    fn names_of_old_and_misspelt_ones_are_refused_with_the_right_one() {
        for (name, right) in [
            ("schema.whitelist", "schema.include.list"),
            ("table.whitelist", "table.include.list"),
            ("column.blacklist", "column.exclude.list"),
            ("schema.include", "schema.include.list"),
            ("table.inlcude.list", "table.include.list"),
            ("database.server.name", "topic.prefix"),
            ("database.hostnam", "database.hostname"),
            (
                "snapshot.select.statement.override",
                "snapshot.select.statement.overrides",
            ),
        ] {
            let message = refused(name, "x").unwrap_or_else(|| panic!("{name} passes"));
            assert!(message.contains(&format!("'{right}'")), "{name}: {message}");
        }
        // of the framework, of nobody, or nothing says that it is ours: the worker asks all definitions
        for name in [
            "tabel.include.list",
            "errors.tolerance",
            "topic.creation.default.partitions",
            "snapshot.of.the.day",
            "owner",
        ] {
            assert_eq!(refused(name, "x"), None, "{name}");
        }
    }

    #[test]
    fn no_option_is_both_supported_and_refused() {
        let definition = super::super::config::definition();
        for (name, _) in OPTIONS.iter().chain(FORMER).chain(REMOVED) {
            assert!(definition.key(name).is_none(), "{name}");
        }
        for (_, name) in FORMER {
            let known = definition.key(name).is_some() || OPTIONS.iter().any(|(option, _)| option == name);
            assert!(known, "{name}");
        }
    }
}
