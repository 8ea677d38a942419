use super::*;

fn native(kind: ClientKind, options: &[(&str, &str)]) -> IndexMap<String, String> {
    config(options).translated(kind).unwrap()
}

fn config(options: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new("localhost:9092");
    for (name, value) in options {
        config.set(name, value);
    }
    config
}

fn refused(kind: ClientKind, options: &[(&str, &str)]) -> String {
    config(options).translated(kind).unwrap_err().to_string()
}

#[test]
fn java_names_become_librdkafka_names() {
    let producer = native(
        ClientKind::Producer,
        &[
            ("acks", "all"),
            ("buffer.memory", "1048576"),
            ("max.request.size", "2000000"),
            ("delivery.timeout.ms", "2147483647"),
            ("fetch.max.wait.ms", "5"),
        ],
    );
    assert_eq!(producer["acks"], "all");
    assert_eq!(producer["queue.buffering.max.kbytes"], "1024");
    assert_eq!(producer["message.max.bytes"], "2000000");
    assert_eq!(producer["message.timeout.ms"], "2147483647");
    assert_eq!(producer["partitioner"], "murmur2_random");
    assert!(
        !producer.contains_key("fetch.wait.max.ms"),
        "options of consumers do not reach a producer"
    );

    let consumer = native(
        ClientKind::Consumer,
        &[
            ("fetch.max.wait.ms", "5"),
            ("auto.offset.reset", "none"),
            ("max.poll.interval.ms", "2147483647"),
            ("acks", "all"),
        ],
    );
    assert_eq!(consumer["fetch.wait.max.ms"], "5");
    assert_eq!(consumer["auto.offset.reset"], "error");
    assert_eq!(consumer["max.poll.interval.ms"], "86400000");
    assert_eq!(consumer["isolation.level"], "read_uncommitted");
    assert!(!consumer.contains_key("acks"));
}

#[test]
fn what_is_read_is_never_made_unless_that_is_asked_for() {
    let allowed = |kind, options: &[(&str, &str)]| native(kind, options)["allow.auto.create.topics"] == "true";
    assert!(!allowed(ClientKind::Consumer, &[]));
    assert!(!allowed(ClientKind::Admin, &[]));
    assert!(allowed(ClientKind::Producer, &[]), "as Java's producer");
    let told = [("allow.auto.create.topics", "true")];
    assert!(allowed(ClientKind::Consumer, &told));
    let told_not = [("allow.auto.create.topics", "false")];
    assert!(!allowed(ClientKind::Producer, &told_not));
}

#[test]
fn connect_framework_defaults_are_accepted() {
    let options = [
        ("acks", "all"),
        ("enable.idempotence", "false"),
        ("max.in.flight.requests.per.connection", "1"),
        ("delivery.timeout.ms", "2147483647"),
        ("max.block.ms", "9223372036854775807"),
        (
            "key.serializer",
            "org.apache.kafka.common.serialization.ByteArraySerializer",
        ),
        (
            "value.serializer",
            "org.apache.kafka.common.serialization.ByteArraySerializer",
        ),
        ("metrics.context.connect.kafka.cluster.id", "x"),
    ];
    let producer = native(ClientKind::Producer, &options);
    assert_eq!(producer["enable.idempotence"], "false");
    let options = [
        ("group.id", "connect-x"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        (
            "key.deserializer",
            "org.apache.kafka.common.serialization.ByteArrayDeserializer",
        ),
    ];
    assert_eq!(native(ClientKind::Consumer, &options)["group.id"], "connect-x");
}

#[test]
fn idempotence_follows_what_was_set() {
    assert_eq!(native(ClientKind::Producer, &[])["enable.idempotence"], "true");
    assert_eq!(
        native(ClientKind::Producer, &[("acks", "1")])["enable.idempotence"],
        "false"
    );
    assert_eq!(
        native(ClientKind::Producer, &[("retries", "0")])["enable.idempotence"],
        "false"
    );
    let in_flight = ("max.in.flight.requests.per.connection", "6");
    assert_eq!(
        native(ClientKind::Producer, &[in_flight])["enable.idempotence"],
        "false"
    );
}

#[test]
fn refusals_name_the_option() {
    assert!(refused(ClientKind::Producer, &[("no.such.option", "1")]).contains("no.such.option"));
    assert!(refused(ClientKind::Consumer, &[("debug", "all")]).contains("debug"));
    assert!(refused(ClientKind::Consumer, &[("enable.auto.commit", "true")]).contains("enable.auto.commit"));
    assert!(refused(ClientKind::Producer, &[("linger.ms", "soon")]).contains("linger.ms"));
    let string = (
        "value.serializer",
        "org.apache.kafka.common.serialization.StringSerializer",
    );
    assert!(refused(ClientKind::Producer, &[string]).contains("value.serializer"));
    let sticky = (
        "partition.assignment.strategy",
        "org.apache.kafka.clients.consumer.StickyAssignor",
    );
    assert!(refused(ClientKind::Consumer, &[sticky]).contains("StickyAssignor"));
    assert!(refused(ClientKind::Admin, &[("ssl.truststore.location", "/x.jks")]).contains("PEM"));
    assert!(refused(ClientKind::Admin, &[("sasl.kerberos.service.name", "kafka")]).contains("sasl.kerberos"));
    let all = [("partition.assignment.strategy".to_owned(), "Nope".to_owned())];
    assert!(ClientConfig::from_java(all).is_err());
}

#[test]
fn assignors_of_one_protocol_are_kept() {
    let strategy = |value| {
        native(ClientKind::Consumer, &[("partition.assignment.strategy", value)])["partition.assignment.strategy"]
            .clone()
    };
    let (range, cooperative) = (
        "org.apache.kafka.clients.consumer.RangeAssignor",
        "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
    );
    assert_eq!(strategy(cooperative), "cooperative-sticky");
    assert_eq!(strategy(&format!("{range}, {cooperative}")), "range");
}

#[test]
fn transactional_limits_fit_the_transaction() {
    let producer = native(
        ClientKind::Producer,
        &[
            ("transactional.id", "t"),
            ("transaction.timeout.ms", "10000"),
            ("delivery.timeout.ms", "2147483647"),
            ("request.timeout.ms", "40000"),
        ],
    );
    assert_eq!(producer["message.timeout.ms"], "10000");
    assert_eq!(producer["socket.timeout.ms"], "10000");
}

#[test]
fn jaas_line_becomes_user_and_password() {
    let options = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        (
            "sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required\n username=\"al;ice\" password='a\\'b';",
        ),
    ];
    let admin = native(ClientKind::Admin, &options);
    assert_eq!(admin["security.protocol"], "sasl_ssl");
    assert_eq!(
        (admin["sasl.username"].as_str(), admin["sasl.password"].as_str()),
        ("al;ice", "a'b")
    );
}

#[test]
fn secrets_are_never_shown() {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"hunter2";
    for jaas in [
        format!("{plain}\";"),
        format!("{plain}\""),
        format!("{plain} x"),
        format!("{plain}\" extra=1;"),
    ] {
        let config = config(&[("sasl.jaas.config", &jaas), ("ssl.key.password", "hunter2")]);
        assert!(!format!("{config:?}").contains("hunter2"));
        if let Err(error) = config.translated(ClientKind::Admin) {
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
