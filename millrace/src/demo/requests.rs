//! The REST calls of the demo: exactly what an operator would do, each printed as a `curl` line.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Posts the files below one directory to one worker.
pub struct Operator {
    http: reqwest::Client,
    worker: String,
    configs: PathBuf,
}

impl Operator {
    /// `worker` is the URL of the worker without trailing slash, `configs` the directory `configs/demo`.
    pub fn new(worker: impl Into<String>, configs: &Path) -> Self {
        Self {
            http: reqwest::Client::new(),
            worker: worker.into(),
            configs: configs.to_path_buf(),
        }
    }

    /// Creates or updates the connector of `connectors/NAME.json`, with some options changed.
    pub async fn put_connector(&self, name: &str, changes: &[(&str, String)]) -> Result<()> {
        let path = self.configs.join("connectors").join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let document: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let mut config = document
            .get("config")
            .cloned()
            .context("a connector file needs `config`")?;
        for (option, value) in changes {
            if let Some(options) = config.as_object_mut() {
                options.insert((*option).to_owned(), Value::String(value.clone()));
            }
        }
        let url = format!("{}/connectors/{name}/config", self.worker);
        let shown = match changes {
            [] => format!("-d \"$(jq .config {})\"", path.display()),
            _ => {
                let merged: Vec<String> = changes
                    .iter()
                    .map(|(option, value)| format!("\"{option}\":\"{value}\""))
                    .collect();
                format!("-d \"$(jq '.config + {{{}}}' {})\"", merged.join(","), path.display())
            }
        };
        println!(
            "  {}",
            format_args!("curl -X PUT -H 'Content-Type: application/json' {shown} {url}")
        );
        self.send(self.http.put(&url).json(&config), &path).await
    }

    /// Puts the documents of `inference/KIND/*.yaml`, in the order of their names.
    pub async fn put_documents(&self, kind: &str) -> Result<()> {
        for (path, text, document) in self.read_documents(kind)? {
            let field = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
            let name = match kind {
                "models" => format!("{}/{}", field("tenant"), field("name")),
                _ => field("name").to_owned(),
            };
            let url = format!("{}/inference/{kind}/{name}", self.worker);
            println!(
                "  {}",
                format_args!(
                    "curl -X PUT -H 'Content-Type: application/yaml' --data-binary @{} {url}",
                    path.display()
                )
            );
            self.send(
                self.http
                    .put(&url)
                    .header("content-type", "application/yaml")
                    .body(text),
                &path,
            )
            .await?;
        }
        Ok(())
    }

    /// The documents of `inference/KIND/*.yaml`, in the order of their names.
    pub fn documents(&self, kind: &str) -> Result<Vec<Value>> {
        Ok(self
            .read_documents(kind)?
            .into_iter()
            .map(|(_, _, document)| document)
            .collect())
    }

    fn read_documents(&self, kind: &str) -> Result<Vec<(PathBuf, String, Value)>> {
        let directory = self.configs.join("inference").join(kind);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let document = serde_norway::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
            Ok((path, text, document))
        };
        files.into_iter().map(read).collect()
    }

    /// The JSON at `path`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.worker);
        let response = self.http.get(&url).send().await.with_context(|| format!("GET {url}"))?;
        let status = response.status();
        if !status.is_success() {
            bail!(
                "GET {url} answered {status}: {}",
                response.text().await.unwrap_or_default()
            );
        }
        response.json().await.with_context(|| format!("GET {url}"))
    }

    async fn send(&self, request: reqwest::RequestBuilder, file: &Path) -> Result<()> {
        let response = request
            .send()
            .await
            .with_context(|| format!("posting {}", file.display()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        bail!(
            "{} was refused with {status}: {}",
            file.display(),
            response.text().await.unwrap_or_default()
        )
    }
}
