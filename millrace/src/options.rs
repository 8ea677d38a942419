//! `millrace options`: the pages of `docs/options/`, written from the declarations that validation and REST use.

use anyhow::{Context, Result, bail};
use connect_api::config::{ConfigDef, ConfigKey, Default};
use connect_runtime::Plugins;
use connect_runtime::plugins::simple_name;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Writes a page of options for the worker and for every plugin.
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
        worker.section(None, &extension.config_def());
    }
    pages.insert("worker.md".to_owned(), worker.0);
    for connector in &plugins.connectors {
        let mut page = Page::new(&format!("Options of {}", connector.class()));
        page.text("Beside those that every connector has.");
        page.section(None, &connector.config_def());
        pages.insert(format!("{}.md", file_name(connector.class())), page.0);
    }
    let mut transforms = Page::new("Options of transforms and predicates");
    for transform in &plugins.transformations {
        transforms.section(Some(transform.class()), &transform.config_def());
    }
    for predicate in &plugins.predicates {
        transforms.section(Some(predicate.class()), &predicate.config_def());
    }
    pages.insert("transforms.md".to_owned(), transforms.0);
    pages
}

fn file_name(class: &str) -> String {
    simple_name(class).to_lowercase()
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

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
