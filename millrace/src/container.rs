//! `millrace container` and `millrace healthcheck`: what an image runs.

use crate::environment::Settings;
use crate::worker::{self, Properties};
use anyhow::{Context, bail};
use connect_api::ConfigMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;

/// Where properties are mounted, where nothing else is said: ours, and Strimzi's place.
const MOUNTED: [&str; 2] = [
    "/etc/millrace/worker.properties",
    "/opt/kafka/custom-config/kafka-connect.properties",
];
/// The volume of the image.
const STATE: &str = "/var/lib/millrace/state";
/// The port of Connect's REST interface.
const PORT: u16 = 8083;
/// A worker that does not answer within this time is not healthy.
const ANSWER: Duration = Duration::from_secs(4);

#[derive(clap::Args)]
pub struct ContainerArguments {
    /// Properties under those of the environment; without it /etc/millrace/worker.properties, if that is there.
    #[arg(env = "MILLRACE_PROPERTIES")]
    properties: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct HealthcheckArguments {
    /// Where the worker's REST interface is; without it as the environment and the mounted file say.
    #[arg(long)]
    url: Option<String>,
}

/// A worker as the environment describes it.
pub struct Container {
    /// the worker's properties, and where they stand
    pub properties: Properties,
    /// variables that have no effect
    without_effect: Vec<String>,
    /// the log's level
    pub level: LevelFilter,
}

impl Container {
    /// Reads the environment and the mounted file.
    ///
    /// # Errors
    /// A file that cannot be read; a level that there is none of.
    pub fn of_environment(arguments: &ContainerArguments) -> anyhow::Result<Container> {
        let mounted = || MOUNTED.iter().map(PathBuf::from).find(|path| path.exists());
        let file = arguments.properties.clone().or_else(mounted);
        let (map, source) = match &file {
            Some(path) => (
                worker::read_properties(path)?,
                format!("the environment and {}", path.display()),
            ),
            None => (ConfigMap::new(), "the environment".to_owned()),
        };
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // Others say nothing to a worker.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut settings = Settings::new(map, variables)?;
        if Path::new(STATE).parent().is_some_and(Path::exists) {
            settings
                .properties
                .entry("state.dir".to_owned())
                .or_insert_with(|| Some(STATE.to_owned()));
        }
        let level = match settings.log_level.as_deref() {
            None => LevelFilter::INFO,
            Some(text) => level(text).with_context(|| format!("LOG_LEVEL: there is no level {text:?}"))?,
        };
        Ok(Container {
            properties: Properties {
                map: settings.properties,
                source,
            },
            without_effect: settings.without_effect,
            level,
        })
    }

    /// Says what of the environment has no effect.
    pub fn tell(&self) {
        if !self.without_effect.is_empty() {
            tracing::info!(
                variables = self.without_effect.join(" "),
                "these variables are of a Java machine and have no effect here"
            );
        }
    }
}

/// Log4j's levels.
fn level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_uppercase().as_str() {
        "ALL" | "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "INFO" => LevelFilter::INFO,
        "WARN" | "WARNING" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        "OFF" => LevelFilter::OFF,
        _ => return None,
    })
}

/// Asks the worker of this container how it is.
///
/// # Errors
/// It does not answer, or not that it is well.
pub fn healthcheck(arguments: &HealthcheckArguments) -> anyhow::Result<()> {
    let address = match &arguments.url {
        Some(url) => address_of(url)?,
        None => {
            let container = Container::of_environment(&ContainerArguments {
                properties: std::env::var_os("MILLRACE_PROPERTIES").map(PathBuf::from),
            })?;
            let listeners = container.properties.map.get("listeners").cloned().flatten();
            address_of(listeners.as_deref().unwrap_or_default())?
        }
    };
    let answer = ask(&address).with_context(|| format!("the worker at {address}"))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        bail!("{status} {body}");
    }
    Ok(())
}

/// `HOST:PORT` to ask of the first of the listeners.
fn address_of(listeners: &str) -> anyhow::Result<String> {
    let first = listeners.split(',').next().unwrap_or_default().trim();
    if first.is_empty() {
        return Ok(format!("127.0.0.1:{PORT}"));
    }
    let lower = first.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("http://") else {
        bail!("{first} cannot be asked: it is not http://HOST:PORT");
    };
    let rest = rest.split('/').next().unwrap_or_default();
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let port = match port {
        "" => PORT,
        port => port.parse().with_context(|| format!("the port of {first}"))?,
    };
    // Every address is this machine's too.
    let host = match host {
        "" | "0.0.0.0" | "[::]" => "127.0.0.1",
        host => host,
    };
    Ok(format!("{host}:{port}"))
}

fn ask(address: &str) -> anyhow::Result<String> {
    let found = address.to_socket_addrs()?.next().context("has no address")?;
    let mut stream = TcpStream::connect_timeout(&found, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_first_listener_is_asked() {
        for (listeners, expected) in [
            ("", "127.0.0.1:8083"),
            ("http://:28083", "127.0.0.1:28083"),
            ("HTTP://0.0.0.0:80,https://:81", "127.0.0.1:80"),
            ("http://worker", "worker:8083"),
            ("http://[::]:1/", "127.0.0.1:1"),
        ] {
            assert_eq!(address_of(listeners).unwrap(), expected, "{listeners}");
        }
        assert!(address_of("https://:8443").is_err());
        assert!(address_of("http://:port").is_err());
    }

    #[test]
    fn only_200_is_healthy() {
        for (answer, healthy) in [
            ("HTTP/1.0 200 OK\r\n\r\n{}", true),
            (
                "HTTP/1.0 503 Service Unavailable\r\n\r\n{\"status\":\"starting\"}",
                false,
            ),
            ("", false),
        ] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /health "));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let outcome = healthcheck(&HealthcheckArguments { url: Some(url) });
            server.join().unwrap();
            assert_eq!(outcome.is_ok(), healthy, "{outcome:?}");
        }
    }
}
