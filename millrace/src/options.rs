//! `millrace options`: the pages of `docs/options/`, written from the declarations that validation and REST use, and the tables
//! of classes in `docs/COMPATIBILITY.md` ([`crate::compatibility`]).

use crate::markdown::{cell, file_name};
use anyhow::{Context, Result, bail};
use connect_api::config::{ConfigDef, ConfigKey, Default};
use connect_api::connector::ConnectorKind;
use connect_runtime::Plugins;
use connect_runtime::plugins::CONFIG_PROVIDERS;
use connect_runtime::validate::framework;
use kafka_client::ClientConfig;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Writes a page of options for the worker and for every plugin, and the tables of COMPATIBILITY.md beside the directory.
#[derive(Debug, clap::Args)]
pub struct OptionsArguments {
    /// Where the pages are
    #[arg(default_value = "docs/options")]
    directory: PathBuf,
    /// Writes nothing; fails if a page is not what it should be
    #[arg(long)]
    check: bool,
}

/// Writes the pages, or compares them.
pub fn run(arguments: &OptionsArguments, plugins: &Plugins) -> Result<()> {
    let pages = pages(plugins);
    let mut differing = Vec::new();
    for (name, page) in &pages {
        let path = arguments.directory.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == *page) {
            continue;
        }
        if arguments.check {
            differing.push(name.clone());
        } else {
            write(&path, page)?;
        }
    }
    for name in unknown_pages(&arguments.directory, &pages)? {
        if arguments.check {
            differing.push(name);
        } else {
            std::fs::remove_file(arguments.directory.join(name))?;
        }
    }
    if !crate::compatibility::write(
        &arguments.directory.join("../COMPATIBILITY.md"),
        plugins,
        arguments.check,
    )? {
        differing.push("COMPATIBILITY.md".to_owned());
    }
    if !differing.is_empty() {
        bail!(
            "{} differ from what the code declares: run `millrace options {}`",
            differing.join(", "),
            arguments.directory.display()
        );
    }
    Ok(())
}

fn write(path: &Path, page: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Pages of plugins that are no more.
fn unknown_pages(directory: &Path, pages: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(unknown);
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && !pages.contains_key(&name) {
            unknown.push(name);
        }
    }
    Ok(unknown)
}

/// Pages by file name.
fn pages(plugins: &Plugins) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut worker = Page::new("Options of the worker");
    worker.section(None, &connect_runtime::config::definition());
    for extension in &plugins.extensions {
        worker.section(
            Some(&format!("Of the extension {}", extension.name())),
            &extension.config_def(),
        );
    }
    pages.insert("worker.md".to_owned(), worker.0);
    for connector in &plugins.connectors {
        let mut page = Page::new(&format!("Options of {}", connector.class()));
        page.text(
            "Beside [those that every connector has](connectors.md), and [those of its clients](clients.md) with \
             `producer.override.`, `consumer.override.` and `admin.override.`.",
        );
        page.section(None, &connector.config_def());
        pages.insert(format!("{}.md", file_name(connector.class())), page.0);
    }
    pages.insert("connectors.md".to_owned(), of_every_connector());
    pages.insert("converters.md".to_owned(), of_converters(plugins));
    pages.insert("providers.md".to_owned(), of_providers());
    pages.insert("clients.md".to_owned(), of_clients());
    let mut transforms = Page::new("Options of transforms and predicates");
    for transform in &plugins.transformations {
        transforms.section(Some(transform.class()), &transform.config_def());
    }
    for predicate in &plugins.predicates {
        transforms.section(Some(predicate.class()), &predicate.config_def());
    }
    pages.insert("transforms.md".to_owned(), transforms.0);
    let index = index(&pages);
    pages.insert("README.md".to_owned(), index);
    pages
}

/// The options that the framework gives every connector.
fn of_every_connector() -> String {
    let mut page = Page::new("Options that every connector has");
    let [sources, sinks] = [ConnectorKind::Source, ConnectorKind::Sink].map(framework::definition);
    let only = |of: &ConfigDef, other: &ConfigDef, shared: bool| {
        let keys = of.keys().filter(|key| other.key(&key.name).is_some() == shared);
        keys.cloned().fold(ConfigDef::new(), ConfigDef::define)
    };
    page.section(Some("Sources and sinks"), &only(&sources, &sinks, true));
    page.section(Some("Sources, beside these"), &only(&sources, &sinks, false));
    page.section(Some("Sinks, beside these"), &only(&sinks, &sources, false));
    page.text(
        "## Options with an alias\n\n\
         | Option | What it does |\n|---|---|\n\
         | `transforms.ALIAS.type` | Class of the transform; its [own options](transforms.md) follow as `transforms.ALIAS.OPTION`. |\n\
         | `transforms.ALIAS.predicate`, `transforms.ALIAS.negate` | Alias of a predicate: the transform is applied to records for which it holds, or does not hold. |\n\
         | `transforms.ALIAS.plugin.version` | Version of the class, or a range; one that is not built in is refused. |\n\
         | `predicates.ALIAS.type`, `predicates.ALIAS.plugin.version` | Class of the predicate, its options and its version in the same way. |\n\
         | `key.converter.OPTION`, `value.converter.OPTION`, `header.converter.OPTION` | [Options of the converter](converters.md) that the connector names itself. |\n\
         | `topic.creation.default.partitions`, `.replication.factor` | For topics that a source creates; any setting of a topic may stand there too (`topic.creation.default.cleanup.policy`). |\n\
         | `topic.creation.GROUP.include`, `.exclude`, `.partitions`, `.replication.factor` | The same for topics whose names match; GROUP is in `topic.creation.groups`. |\n\
         | `producer.override.OPTION`, `consumer.override.OPTION`, `admin.override.OPTION` | [Options of Kafka clients](clients.md), where the worker's `connector.client.config.override.policy` allows them. |",
    );
    page.0
}

fn of_converters(plugins: &Plugins) -> String {
    let mut page = Page::new("Options of converters");
    page.text(
        "With the prefix `key.converter.`, `value.converter.` or `header.converter.`, in the worker's properties or a connector's. \
         `converter.type` (key, value or header) is set by the worker.",
    );
    for converter in &plugins.converters {
        page.section(Some(converter.class()), &converter.config_def());
    }
    page.text("The following is for headers alone. Each of the above can be used for headers too.");
    for converter in &plugins.header_converters {
        if plugins.converter(converter.class()).is_none() {
            page.section(Some(converter.class()), &converter.config_def());
        }
    }
    page.0
}

fn of_providers() -> String {
    let mut page = Page::new("Options of config providers");
    page.text(
        "`config.providers=NAME` and `config.providers.NAME.class=CLASS` in the worker's properties; the options with the prefix \
         `config.providers.NAME.param.`. A value `${NAME:PATH:KEY}` (`${NAME:KEY}` of the environment) in the worker's or a \
         connector's configuration is then read where it is used, and is never shown. A reference to a provider that is not \
         there, and a key or path that is not there or not allowed, stays as text, as in Kafka.",
    );
    for class in CONFIG_PROVIDERS {
        page.section(Some(class), &connect_runtime::config::provider_parameters(class));
    }
    page.0
}

fn of_clients() -> String {
    let mut page = Page::new("Options of Kafka clients");
    page.text(
        "In the worker's properties with the prefix `producer.`, `consumer.` or `admin.` for the clients of connectors, in a \
         connector's with `producer.override.` and so on. An option that is not listed is refused by name, and an option that is \
         accepted without effect is told of: in the log when the worker starts, in the `warnings` of a connector's validation.",
    );
    page.text("| Option | Clients | What becomes of it |\n|---|---|---|");
    for option in ClientConfig::described() {
        let _ = writeln!(
            page.0,
            "| `{}` | {} | {} |",
            option.name,
            option.clients,
            cell(&option.effect)
        );
    }
    page.text(
        "`security.protocol` may be PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL; `sasl.mechanism` PLAIN, SCRAM-SHA-256 and \
         SCRAM-SHA-512. Truststores are PEM, keystores PEM or PKCS12. What is not supported of `ssl.` and `sasl.` is refused by name. \
         The group of workers is reached over PLAINTEXT only (see `security.protocol` of [the worker](worker.md)).",
    );
    page.text("## The inference sink");
    page.text(
        "millrace.InferenceSink writes outputs and state by means of its own where there is no TLS, no SASL and no compression, and \
         through Kafka's client library otherwise. It does without these options, and says so when a connector sets them:",
    );
    for (always, when) in [(true, "always"), (false, "without TLS, SASL and compression")] {
        let unread = kafka_client::UNREAD_OPTIONS.into_iter();
        let names: Vec<String> = unread
            .filter(|(_, of_both)| *of_both == always)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        page.text(&format!("- {when}: {}", names.join(", ")));
    }
    page.text(
        "Without TLS, SASL and compression `linger.ms` and `batch.size` matter with `processing.guarantee=at_least_once` alone.",
    );
    page.0
}

/// The list of all pages.
fn index(pages: &BTreeMap<String, String>) -> String {
    let mut page = Page::new("Options");
    page.text("| Page | |\n|---|---|");
    for (name, content) in pages {
        let title = content.lines().next().unwrap_or_default().trim_start_matches("# ");
        let _ = writeln!(page.0, "| [{name}]({name}) | {title} |");
    }
    page.0
}

struct Page(String);

impl Page {
    fn new(title: &str) -> Page {
        Page(format!(
            "# {title}\n\nWritten by `millrace options`; not to be edited.\n"
        ))
    }

    fn text(&mut self, text: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "\n{text}");
    }

    fn section(&mut self, title: Option<&str>, definition: &ConfigDef) {
        if let Some(title) = title {
            let _ = writeln!(self.0, "\n## {title}");
        }
        if definition.keys().next().is_none() {
            self.text("No options.");
            return;
        }
        self.text("| Option | Type | Default | Valid values | Importance | What it does |\n|---|---|---|---|---|---|");
        self.0.truncate(self.0.trim_end().len());
        self.0.push('\n');
        for key in definition.keys() {
            let _ = writeln!(self.0, "{}", row(key));
        }
    }
}

fn row(key: &ConfigKey) -> String {
    let default = match &key.default {
        Default::Required => "required".to_owned(),
        Default::Null => "none".to_owned(),
        Default::Text(text) if text.is_empty() => "empty".to_owned(),
        Default::Text(text) => format!("`{}`", cell(text)),
    };
    let valid = key
        .validator
        .as_ref()
        .map(|validator| cell(&validator.describe()))
        .unwrap_or_default();
    format!(
        "| `{}` | {} | {default} | {valid} | {} | {} |",
        key.name,
        key.config_type.name().to_lowercase(),
        key.importance.name().to_lowercase(),
        cell(&key.documentation),
    )
}
