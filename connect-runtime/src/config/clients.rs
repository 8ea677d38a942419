//! Settings of Kafka clients: framework defaults, then the worker's `producer.`, `consumer.` and `admin.` options, then
//! a connector's overrides as far as the policy allows them (contract 4.3).

use super::worker::WorkerConfig;
use connect_api::ConfigMap;
use connect_api::ConnectError;
use connect_api::config::{nearest, with_prefix};
use connect_api::partitioned::ClientSettings;
use indexmap::IndexMap;
use kafka_client::ClientConfig;

/// Kinds of clients that a connector may override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// reads topics of a sink
    Consumer,
    /// writes records of a source, or dead letters
    Producer,
    /// creates topics
    Admin,
}

impl ClientKind {
    /// All kinds, in the order in which validation reports them.
    pub const ALL: [ClientKind; 3] = [ClientKind::Producer, ClientKind::Consumer, ClientKind::Admin];

    /// `producer.`: prefix of the worker's options for this kind.
    pub fn worker_prefix(self) -> &'static str {
        match self {
            ClientKind::Consumer => "consumer.",
            ClientKind::Producer => "producer.",
            ClientKind::Admin => "admin.",
        }
    }

    /// `producer.override.`: prefix of a connector's options for this kind.
    pub fn override_prefix(self) -> &'static str {
        match self {
            ClientKind::Consumer => "consumer.override.",
            ClientKind::Producer => "producer.override.",
            ClientKind::Admin => "admin.override.",
        }
    }
}

impl ClientKind {
    /// Whether a client of this kind takes an option, given under its own name.
    ///
    /// # Errors
    /// Why it does not; the nearest option is named where there is one.
    pub fn check(self, option: &str, value: &str) -> Result<(), String> {
        let mut client = ClientConfig::default();
        client.set(option, value);
        let checked = match self {
            ClientKind::Consumer => client.check_consumer(),
            ClientKind::Producer => client.check_producer(),
            ClientKind::Admin => ClientConfig::from_java([(option.to_owned(), value.to_owned())]).map(drop),
        };
        checked.map_err(|error| match ClientConfig::is_known(option) {
            true => error.context,
            false => match nearest(option, ClientConfig::known()) {
                Some(nearest) => format!("{}; did you mean {nearest}?", error.context),
                None => error.context,
            },
        })
    }
}

/// Which client options connectors may override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverridePolicy {
    /// every one
    All,
    /// none
    None,
    /// those that say who the client is
    Principal,
    /// these
    Allowlist(Vec<String>),
}

impl OverridePolicy {
    /// The name that stands in refusals.
    pub fn name(&self) -> &'static str {
        match self {
            OverridePolicy::All => "All",
            OverridePolicy::None => "None",
            OverridePolicy::Principal => "Principal",
            OverridePolicy::Allowlist(_) => "Allowlist",
        }
    }

    /// Whether `option`, without its prefix, may be overridden; the error is upstream's text.
    pub fn check(&self, option: &str) -> Result<(), String> {
        let allowed = match self {
            OverridePolicy::All => true,
            OverridePolicy::None => false,
            OverridePolicy::Principal => ["sasl.jaas.config", "sasl.mechanism", "security.protocol"].contains(&option),
            OverridePolicy::Allowlist(names) => names.iter().any(|name| name == option),
        };
        match allowed {
            true => Ok(()),
            false => Err(format!(
                "The '{}' policy does not allow '{option}' to be overridden in the connector configuration.",
                self.name()
            )),
        }
    }
}

/// Options of the worker's own clients that also hold for admin clients of connectors.
const SHARED_OPTIONS: [&str; 17] = [
    "bootstrap.servers",
    "client.dns.lookup",
    "metadata.max.age.ms",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
    "send.buffer.bytes",
    "receive.buffer.bytes",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.connection.setup.timeout.max.ms",
    "request.timeout.ms",
    "connections.max.idle.ms",
    "security.protocol",
    "security.providers",
];

type Options = IndexMap<String, String>;

fn given(config: &ConfigMap) -> impl Iterator<Item = (String, String)> + '_ {
    config
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| (name.clone(), value.clone())))
}

fn options<const N: usize>(pairs: [(&str, &str); N]) -> Options {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl WorkerConfig {
    /// What the worker's properties say about its own clients: addresses, security, timeouts.
    fn own_options(&self) -> Options {
        given(&self.properties)
            .filter(|(name, _)| {
                SHARED_OPTIONS.contains(&name.as_str())
                    || name.starts_with("sasl.")
                    || (name.starts_with("ssl.") && name != "ssl.client.auth")
            })
            .collect()
    }

    /// Settings of the worker's own clients, on its own cluster: internal topics, group membership, extensions.
    pub fn own_clients(&self) -> ClientSettings {
        let with_defaults = |defaults: Options| {
            let mut all = defaults;
            all.extend(self.own_options());
            all.insert("client.id".to_owned(), self.own_client_id());
            all
        };
        ClientSettings {
            consumer: with_defaults(options([
                ("enable.auto.commit", "false"),
                ("auto.offset.reset", "earliest"),
                ("isolation.level", "read_uncommitted"),
            ])),
            producer: with_defaults(options([
                ("acks", "all"),
                ("enable.idempotence", "false"),
                ("max.in.flight.requests.per.connection", "1"),
                ("delivery.timeout.ms", "2147483647"),
                // internal topics are made by the worker itself, compacted, or by nobody
                ("allow.auto.create.topics", "false"),
            ])),
            admin: with_defaults(Options::new()),
        }
    }

    fn own_client_id(&self) -> String {
        match self.parsed.text("client.id") {
            Some(id) if !id.is_empty() => format!("{}-{id}", self.group_id),
            _ => self.group_id.to_string(),
        }
    }

    /// Settings of the clients of one task of a connector. `config` is the connector's, resolved.
    ///
    /// # Errors
    /// An override that the policy refuses, in upstream's words.
    pub fn task_clients(
        &self,
        connector: &str,
        task: usize,
        config: &ConfigMap,
    ) -> Result<ClientSettings, ConnectError> {
        let mut settings = self.connector_clients(connector, config)?;
        let mut name = |kind: ClientKind, client: &str| {
            if !config.contains_key(&format!("{}client.id", kind.override_prefix())) {
                options_of(&mut settings, kind)
                    .insert("client.id".to_owned(), format!("connector-{client}-{connector}-{task}"));
            }
        };
        name(ClientKind::Consumer, "consumer");
        name(ClientKind::Producer, "producer");
        name(ClientKind::Admin, "adminclient");
        Ok(settings)
    }

    /// Settings of clients that serve a connector as a whole, such as reading a sink's group offsets.
    ///
    /// # Errors
    /// An override that the policy refuses, in upstream's words.
    pub fn connector_clients(&self, connector: &str, config: &ConfigMap) -> Result<ClientSettings, ConnectError> {
        let bootstrap = options([("bootstrap.servers", self.bootstrap_servers().as_str())]);
        let mut consumer = bootstrap.clone();
        consumer.extend(options([
            ("group.id", format!("connect-{connector}").as_str()),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
        ]));
        let mut producer = bootstrap;
        producer.extend(options([
            ("acks", "all"),
            ("enable.idempotence", "false"),
            ("max.in.flight.requests.per.connection", "1"),
            ("delivery.timeout.ms", "2147483647"),
        ]));
        let mut settings = ClientSettings {
            consumer,
            producer,
            admin: self.own_options(),
        };
        for kind in ClientKind::ALL {
            let worker = with_prefix(&self.properties, kind.worker_prefix());
            let overrides = with_prefix(config, kind.override_prefix());
            for option in overrides.keys() {
                self.override_policy.check(option).map_err(ConnectError::config)?;
            }
            let target = options_of(&mut settings, kind);
            target.extend(given(&worker));
            target.extend(given(&overrides));
            target
                .entry("client.id".to_owned())
                .or_insert_with(|| format!("connector-worker-{connector}"));
        }
        Ok(settings)
    }
}

fn options_of(settings: &mut ClientSettings, kind: ClientKind) -> &mut Options {
    match kind {
        ClientKind::Consumer => &mut settings.consumer,
        ClientKind::Producer => &mut settings.producer,
        ClientKind::Admin => &mut settings.admin,
    }
}
