//! The tables of classes in `docs/COMPATIBILITY.md`: those that this binary has, and those that it knows and does not have.

use crate::markdown::{cell, file_name};
use anyhow::{Context, Result};
use connect_runtime::Plugins;
use connect_runtime::plugins::{KnownClass, PluginKind, alias, known_classes, simple_name};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Where the tables stand in the page.
const BUILT_IN: &str = "<!-- built in -->\n";
const NOT_BUILT_IN: &str = "<!-- not built in -->\n";
const END: &str = "<!-- end -->";

/// Writes the tables into the page, or compares them; false: they differ.
pub fn write(path: &Path, plugins: &Plugins, check: bool) -> Result<bool> {
    let page = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let written = replaced(
        &replaced(&page, BUILT_IN, &built_in(plugins))?,
        NOT_BUILT_IN,
        &not_built_in(),
    )?;
    if check {
        return Ok(written == page);
    }
    std::fs::write(path, written).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// The page with what stands between `beginning` and the next end replaced.
fn replaced(page: &str, beginning: &str, table: &str) -> Result<String> {
    let missing = || format!("the page has no {}", beginning.trim());
    let (before, rest) = page.split_once(beginning).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{beginning}{table}{END}{after}"))
}

/// Every class that can be named, with the other names that it has.
fn built_in(plugins: &Plugins) -> String {
    let mut table = "| Class | Also called | Options |\n|---|---|---|\n".to_owned();
    for (kind, title, page) in [
        (PluginKind::Connector, "Connectors", None),
        (
            PluginKind::Converter,
            "Converters of keys, values and headers",
            Some("converters.md"),
        ),
        (
            PluginKind::HeaderConverter,
            "Converters of headers alone",
            Some("converters.md"),
        ),
        (PluginKind::Transformation, "Transforms", Some("transforms.md")),
        (PluginKind::Predicate, "Predicates", Some("transforms.md")),
        (PluginKind::ConfigProvider, "Config providers", Some("providers.md")),
    ] {
        // Writing to a String does not fail.
        let _ = writeln!(table, "| **{title}** | | |");
        let mut classes = plugins.classes(kind);
        classes.sort_unstable();
        for class in classes {
            if kind == PluginKind::HeaderConverter && plugins.converter(class).is_some() {
                continue;
            }
            let mut names = vec![simple_name(class), alias(class, kind.word())];
            // a config provider has no alias, and some names fit more than one class
            names.retain(|name| *name != class && plugins.class_named(kind, name) == Some(class));
            names.dedup();
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let page = page.map_or_else(|| format!("{}.md", file_name(class)), str::to_owned);
            let _ = writeln!(table, "| `{class}` | {} | [page](options/{page}) |", names.join(", "));
        }
    }
    table
}

/// Classes that are refused as known and not built in, by project and kind.
fn not_built_in() -> String {
    let mut by_project: BTreeMap<&str, Vec<KnownClass>> = BTreeMap::new();
    for known in known_classes() {
        by_project.entry(known.project).or_default().push(known);
    }
    let mut table = "| Project | What | Classes |\n|---|---|---|\n".to_owned();
    for (project, known) in by_project {
        let mut kinds: Vec<PluginKind> = Vec::new();
        for class in &known {
            if !kinds.contains(&class.kind) {
                kinds.push(class.kind);
            }
        }
        for kind in kinds {
            let of_kind = known.iter().filter(|class| class.kind == kind);
            let classes: Vec<String> = of_kind.map(|class| format!("`{}`", class.class())).collect();
            let _ = writeln!(
                table,
                "| {} | {} | {} |",
                cell(project),
                kind.plural(),
                classes.join(", ")
            );
        }
    }
    table.push_str("\nWhat the refusal advises:\n\n");
    for kind in [
        PluginKind::Connector,
        PluginKind::Transformation,
        PluginKind::Predicate,
        PluginKind::Converter,
        PluginKind::ConfigProvider,
        PluginKind::RestExtension,
    ] {
        if let Some(known) = known_classes().find(|known| known.kind == kind) {
            let _ = writeln!(table, "- {}: {}", kind.plural(), known.advice());
        }
    }
    table
}
