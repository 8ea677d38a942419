//! The files of `configs/retail` and `configs/demo/inference` as their users have them; addresses and passwords alone are
//! replaced.

use anyhow::{Context, Result};
use connect_runtime::config::properties::parse_latin1;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the files say that passwords are.
const SECRETS: &str = "/etc/millrace";
/// Kinds of documents, in the order in which they are put.
const KINDS: [&str; 4] = ["stores", "feature-views", "tenants", "models"];

/// The root of the repository, which workers run in.
pub fn root() -> PathBuf {
    tests::process::workspace()
}

/// The text of a file below the root.
pub fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

/// The worker's properties, with passwords in `secrets` and these addresses.
pub fn worker_properties(secrets: &Path, addresses: &[(&str, String)]) -> Result<BTreeMap<String, String>> {
    let text = moved(&read("configs/retail/worker.properties")?, secrets);
    let mut properties: BTreeMap<String, String> = parse_latin1(text.as_bytes())
        .context("worker.properties")?
        .into_iter()
        .collect();
    for (name, value) in addresses {
        let known = properties.insert((*name).to_owned(), value.clone());
        known.with_context(|| format!("worker.properties has no {name}"))?;
    }
    Ok(properties)
}

/// A connector as it is posted, with passwords in `secrets` and these options replaced.
pub fn connector(name: &str, secrets: &Path, changes: &[(&str, String)]) -> Result<Value> {
    let text = moved(&read(&format!("configs/retail/{name}.json"))?, secrets);
    let mut connector: Value = serde_json::from_str(&text).with_context(|| format!("{name}.json"))?;
    let config = connector["config"]
        .as_object_mut()
        .context("a connector has a config")?;
    for (option, value) in changes {
        let known = config.insert((*option).to_owned(), Value::String(value.clone()));
        known.with_context(|| format!("{name}.json has no {option}"))?;
    }
    Ok(connector)
}

fn moved(text: &str, secrets: &Path) -> String {
    text.replace(SECRETS, &secrets.display().to_string())
}

/// The documents of stores, feature view, tenants and models, each with the path that it is put to.
pub fn documents() -> Result<Vec<(String, String)>> {
    let mut documents = Vec::new();
    for kind in KINDS {
        let folder = root().join("configs/demo/inference").join(kind);
        let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = if kind == "models" {
                stem.replacen('-', "/", 1)
            } else {
                stem
            };
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            documents.push((format!("/inference/{kind}/{name}"), text));
        }
    }
    Ok(documents)
}
