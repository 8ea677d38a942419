//! Client settings under their Java names.
//!
//! What has the same meaning in librdkafka is passed on ([`options`]), credentials and stores are rewritten
//! ([`security`]), what only concerns a JVM is accepted without effect, and everything else is refused by name.

mod options;
mod security;

pub use options::ClientOption;
#[cfg(test)]
pub(crate) use options::of_producers;

use std::fmt;

use indexmap::IndexMap;

use crate::error::KafkaError;

/// What a configuration is used for: each kind of client takes its own options and leaves the others' alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientKind {
    Consumer,
    Producer,
    Admin,
}

/// Settings of a client under their Java names (`bootstrap.servers`, `acks`, `auto.offset.reset`), translated to
/// librdkafka's when a client is built. Options that are unknown, or that librdkafka cannot honour, are refused by name.
///
/// Defaults are the Java client's where they decide about results: `isolation.level=read_uncommitted`,
/// `check.crcs=true`, `buffer.memory=33554432`, `exclude.internal.topics=true`, an idempotent producer unless `acks`,
/// `retries` or `max.in.flight.requests.per.connection` rule it out, and always Java's partitioning of keys. Offsets are
/// never committed on their own (`enable.auto.commit=false`).
///
/// `allow.auto.create.topics` differs from Java on purpose: a consumer never has brokers make what it reads (false), unless
/// it is told to; a producer does, as in Java (true), unless it is told not to, which Java's cannot be.
#[derive(Clone, Default)]
pub struct ClientConfig {
    options: IndexMap<String, String>,
    administers: bool,
}

impl ClientConfig {
    /// A configuration with `bootstrap.servers` set.
    pub fn new(bootstrap: &str) -> Self {
        let mut config = Self::default();
        config.set("bootstrap.servers", bootstrap);
        config
    }

    /// A configuration of Java client options.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the first option that is unknown or cannot be honoured by any kind of client.
    pub fn from_java(map: impl IntoIterator<Item = (String, String)>) -> Result<Self, KafkaError> {
        let config = Self {
            options: map.into_iter().collect(),
            ..Self::default()
        };
        for kind in [ClientKind::Consumer, ClientKind::Producer, ClientKind::Admin] {
            config.translated(kind)?;
        }
        Ok(config)
    }

    /// Whether a client knows the option at all, be it to refuse its value.
    pub fn is_known(option: &str) -> bool {
        options::known().any(|known| known == option) || security::owns(option)
    }

    /// Names of the options that clients know, those of `ssl.` and `sasl.` aside.
    pub fn known() -> impl Iterator<Item = &'static str> {
        options::known()
    }

    /// Every option that clients know, those of `ssl.` and `sasl.` aside, with what becomes of it.
    pub fn described() -> impl Iterator<Item = ClientOption> {
        options::described()
    }

    /// Why nothing comes of setting an option that clients accept; `None` for one that does something, or is refused.
    pub fn without_effect(option: &str) -> Option<&'static str> {
        options::without_effect(option).or_else(|| security::without_effect(option))
    }

    /// Sets an option, replacing its value. It is judged when a client is built.
    pub fn set(&mut self, java_name: &str, value: &str) -> &mut Self {
        self.options.insert(java_name.to_owned(), value.to_owned());
        self
    }

    /// Removes an option, so that its default applies.
    pub fn unset(&mut self, java_name: &str) -> &mut Self {
        self.options.shift_remove(java_name);
        self
    }

    /// The value an option was set to; `None` for a default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Every option that was set, in order. Secrets included: not for display.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses options that a consumer would refuse.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option.
    pub fn check_consumer(&self) -> Result<(), KafkaError> {
        self.translated(ClientKind::Consumer).map(drop)
    }

    /// Refuses options that a producer would refuse.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option.
    pub fn check_producer(&self) -> Result<(), KafkaError> {
        self.translated(ClientKind::Producer).map(drop)
    }

    /// The options of librdkafka for one kind of client.
    /// The client also serves for administration ([`crate::Consumer::admin`]): it stays connected to all brokers.
    ///
    /// librdkafka's own way, connections as they are needed, has a broker that is away connected to again the moment that it
    /// fails, without any backoff, for as long as a request waits for this very broker: two busy cores.
    pub fn administers(&mut self) -> &mut Self {
        self.administers = true;
        self
    }

    pub(crate) fn translated(&self, kind: ClientKind) -> Result<IndexMap<String, String>, KafkaError> {
        let mut native = IndexMap::new();
        options::translate(self, kind, &mut native)?;
        security::translate(self, &mut native)?;
        Ok(native)
    }
}

impl<'a> IntoIterator for &'a ClientConfig {
    type Item = (&'a String, &'a String);
    type IntoIter = indexmap::map::Iter<'a, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.options.iter()
    }
}

/// Hides the values of options that hold secrets.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.options
                    .iter()
                    .map(|(name, value)| (name, if is_secret(name) { "[hidden]" } else { value.as_str() })),
            )
            .finish()
    }
}

/// Java's options of type PASSWORD, and anything that looks like one.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "password",
        "jaas",
        "secret",
        "keystore.key",
        "certificate",
        "token",
        "credential",
        "passphrase",
    ]
    .iter()
    .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
