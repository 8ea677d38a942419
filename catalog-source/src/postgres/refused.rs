//! Debezium's options that are not supported: refused by name, unless they are set to what Debezium does without them.
//! They are no part of the definition, so that forms do not offer them.

use connect_api::config::ConfigMap;

/// Options with the value that Debezium uses where they are not given; an empty text: none.
const OPTIONS: &[(&str, &str)] = &[
    ("binary.handling.mode", "bytes"),
    ("column.propagate.source.type", ""),
    ("converters", ""),
    ("custom.metric.tags", ""),
    ("database.initial.statements", ""),
    ("database.query.timeout.ms", "600000"),
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
    ("extended.headers.enabled", "true"),
    ("field.name.adjustment.mode", "none"),
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
    ("message.prefix.exclude.list", ""),
    ("message.prefix.include.list", ""),
    ("money.fraction.digits", "2"),
    ("notification.enabled.channels", ""),
    ("notification.sink.topic.name", ""),
    ("offset.mismatch.strategy", "no_validation"),
    ("openlineage.integration.enabled", "false"),
    ("poll.dispatch.interval.ms", "0"),
    ("post.processors", ""),
    ("provide.transaction.metadata", "false"),
    ("query.fetch.size", "0"),
    ("queue.provider.type", "memory"),
    ("read.only", "false"),
    ("replica.identity.autoset.values", ""),
    ("retriable.restart.connector.wait.ms", "10000"),
    ("schema.name.adjustment.mode", "none"),
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
    ("snapshot.isolation.mode", "serializable"),
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
    ("statistics.metrics.enabled", "true"),
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

/// The options of `config` that are refused, each with what to tell the user.
pub(super) fn check(config: &ConfigMap) -> Vec<(String, String)> {
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
    fn no_option_is_both_supported_and_refused() {
        let definition = super::super::config::definition();
        for (name, _) in OPTIONS {
            assert!(definition.key(name).is_none(), "{name}");
        }
    }
}
