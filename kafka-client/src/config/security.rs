//! Credentials and TLS: Java's `security.protocol`, `sasl.*` and `ssl.*` in librdkafka's terms.
//!
//! Values of these options never appear in an error.

use indexmap::IndexMap;

use super::ClientConfig;
use crate::error::KafkaError;

/// Options that only choose a provider inside a JVM.
const NO_EFFECT: &[&str] = &[
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
    "ssl.provider",
    "ssl.client.auth",
];

pub(super) fn without_effect(name: &str) -> Option<&'static str> {
    NO_EFFECT
        .contains(&name)
        .then_some("it chooses a part of a Java virtual machine, or concerns servers")
}

pub(super) fn owns(name: &str) -> bool {
    name == "security.protocol" || name.starts_with("sasl.") || name.starts_with("ssl.")
}

pub(super) fn translate(config: &ClientConfig, native: &mut IndexMap<String, String>) -> Result<(), KafkaError> {
    for (name, value) in config.iter().filter(|(name, _)| owns(name)) {
        option(config, name, value.trim(), native)?;
    }
    Ok(())
}

fn option(
    config: &ClientConfig,
    name: &str,
    value: &str,
    native: &mut IndexMap<String, String>,
) -> Result<(), KafkaError> {
    let mut set = |name: &str, value: &str| {
        native.insert(name.to_owned(), value.to_owned());
    };
    match name {
        "security.protocol" => match value.to_ascii_lowercase().as_str() {
            protocol @ ("plaintext" | "ssl" | "sasl_plaintext" | "sasl_ssl") => set(name, protocol),
            _ => {
                return Err(KafkaError::option(
                    name,
                    "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
                ));
            }
        },
        "sasl.mechanism" => match value {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => set(name, value),
            // Java's default, without meaning until the protocol uses SASL.
            "GSSAPI" if !uses_sasl(config) => {}
            _ => {
                return Err(KafkaError::option(
                    name,
                    format_args!("{value} is not supported; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
                ));
            }
        },
        "sasl.jaas.config" => {
            let (user, password) = jaas_credentials(value)?;
            set("sasl.username", &user);
            set("sasl.password", &password);
        }
        "ssl.endpoint.identification.algorithm" => match value.to_ascii_lowercase().as_str() {
            "" => set(name, "none"),
            "https" => set(name, "https"),
            _ => return Err(KafkaError::option(name, "must be https or empty")),
        },
        "ssl.enabled.protocols" | "ssl.protocol" => {
            if value
                .split(',')
                .any(|protocol| !matches!(protocol.trim(), "TLSv1.2" | "TLSv1.3" | "TLS"))
            {
                return Err(KafkaError::option(name, "only TLSv1.2 and TLSv1.3 are supported"));
            }
        }
        "ssl.truststore.type" => store_type(name, value, &["PEM"])?,
        "ssl.truststore.location" => match store(config, "ssl.truststore.type") {
            "PEM" => set("ssl.ca.location", value),
            other => {
                return Err(KafkaError::option(
                    "ssl.truststore.location",
                    convert_hint("truststore", other),
                ));
            }
        },
        "ssl.truststore.certificates" => set("ssl.ca.pem", value),
        // A PEM truststore has no password.
        "ssl.truststore.password" => {}
        "ssl.keystore.type" => store_type(name, value, &["PEM", "PKCS12"])?,
        "ssl.keystore.location" => match store(config, "ssl.keystore.type") {
            // One file with the key and its certificate chain, as Java expects it.
            "PEM" => {
                set("ssl.certificate.location", value);
                set("ssl.key.location", value);
            }
            "PKCS12" => set("ssl.keystore.location", value),
            other => {
                return Err(KafkaError::option(
                    "ssl.keystore.location",
                    convert_hint("keystore", other),
                ));
            }
        },
        "ssl.keystore.password" => {
            if store(config, "ssl.keystore.type") == "PKCS12" {
                set("ssl.keystore.password", value);
            }
        }
        "ssl.keystore.certificate.chain" => set("ssl.certificate.pem", value),
        "ssl.keystore.key" => set("ssl.key.pem", value),
        "ssl.key.password" => set("ssl.key.password", value),
        _ if NO_EFFECT.contains(&name) => {}
        _ => return Err(KafkaError::option(name, "not supported by this client; remove it")),
    }
    Ok(())
}

fn uses_sasl(config: &ClientConfig) -> bool {
    config
        .get("security.protocol")
        .is_some_and(|protocol| protocol.trim().to_ascii_uppercase().starts_with("SASL"))
}

/// The type of a store; Java's default is JKS.
fn store<'a>(config: &'a ClientConfig, name: &str) -> &'a str {
    config.get(name).map_or("JKS", str::trim)
}

/// Java's default type is harmless while no store is named; the location is what gets refused.
fn store_type(name: &str, value: &str, supported: &[&str]) -> Result<(), KafkaError> {
    if supported.contains(&value) || matches!(value, "JKS" | "PKCS12") {
        return Ok(());
    }
    Err(KafkaError::option(
        name,
        format_args!("{value} is not supported; use {}", supported.join(" or ")),
    ))
}

fn convert_hint(kind: &str, found: &str) -> String {
    let target = if kind == "keystore" { "PEM or PKCS12" } else { "PEM" };
    format!(
        "a {kind} of type {found} is not supported; convert it to {target} (keytool -importkeystore -deststoretype \
         PKCS12, then openssl pkcs12 -nodes for PEM) and set ssl.{kind}.type"
    )
}

/// User and password of a `sasl.jaas.config` line for PLAIN or SCRAM:
/// `org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="p";`.
fn jaas_credentials(text: &str) -> Result<(String, String), KafkaError> {
    const NAME: &str = "sasl.jaas.config";
    let refused = |reason: &str| KafkaError::option(NAME, reason);

    let tokens = jaas_tokens(text).ok_or_else(|| refused("a quoted value does not end"))?;
    let mut tokens = tokens.into_iter();
    let module = tokens.next().unwrap_or_default();
    if !matches!(
        module.as_str(),
        "org.apache.kafka.common.security.plain.PlainLoginModule"
            | "org.apache.kafka.common.security.scram.ScramLoginModule"
    ) {
        return Err(refused("only PlainLoginModule and ScramLoginModule are supported"));
    }
    if !tokens.next().is_some_and(|flag| flag.eq_ignore_ascii_case("required")) {
        return Err(refused("the login module must be followed by required"));
    }
    let (mut user, mut password, mut ended) = (None, None, false);
    while let Some(token) = tokens.next() {
        if token == ";" {
            ended = true;
            break;
        }
        if tokens.next().as_deref() != Some("=") {
            return Err(refused("options must be written name=\"value\""));
        }
        let value = tokens.next().unwrap_or_default();
        match token.as_str() {
            "username" => user = Some(value),
            "password" => password = Some(value),
            "serviceName" => {}
            _ => return Err(refused("only the options username and password are supported")),
        }
    }
    if !ended || tokens.next().is_some() {
        return Err(refused("must be one login module that ends with a semicolon"));
    }
    match (user, password) {
        (Some(user), Some(password)) => Ok((user, password)),
        _ => Err(refused("username and password are both needed")),
    }
}

/// Words, quoted strings (with backslash escapes), `=` and `;`. `None` where a quoted string does not end.
fn jaas_tokens(text: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            _ if c.is_whitespace() => {}
            '=' | ';' => tokens.push(c.to_string()),
            '"' | '\'' => {
                let mut value = String::new();
                loop {
                    match chars.next()? {
                        '\\' => value.push(chars.next()?),
                        end if end == c => break,
                        other => value.push(other),
                    }
                }
                tokens.push(value);
            }
            _ => {
                let mut word = String::from(c);
                while let Some(&next) = chars.peek() {
                    if next.is_whitespace() || matches!(next, '=' | ';' | '"') {
                        break;
                    }
                    word.push(next);
                    chars.next();
                }
                tokens.push(word);
            }
        }
    }
    Some(tokens)
}
