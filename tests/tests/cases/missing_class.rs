//! A configuration with a class that this worker does not have, and the same with the class misspelt.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::KafkaBroker;
use tests::worker::WorkerProcess;

/// What becomes of a source with these options: the refusal of its creation, which must be one; and the errors that validation
/// has for `option`.
pub struct Refusals {
    pub refused: String,
    pub errors: Vec<String>,
}

/// A worker to ask.
pub struct Asked {
    worker: WorkerProcess,
}

impl Asked {
    pub async fn start(group: &str) -> Result<Asked> {
        let mut worker = WorkerProcess::new(&KafkaBroker::shared().await?.bootstrap(), group)?;
        worker.start().await?;
        Ok(Asked { worker })
    }

    /// The options of the case's input, beside those of a source.
    pub async fn refusals(&self, options: &Value, option: &str) -> Result<Refusals> {
        let mut config =
            json!({ "name": "source", "connector.class": "FileStreamSource", "topic": "lines", "file": "/tmp/in" });
        for (name, value) in options.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let path = "/connectors/source/config";
        let (status, refused) = self.worker.request("PUT", path, Some(&config)).await?;
        ensure!(status == 400, "{status} {refused}");
        let path = "/connector-plugins/FileStreamSource/config/validate";
        let validated = self.worker.success("PUT", path, Some(&config)).await?;
        let entries = validated["configs"].as_array().into_iter().flatten();
        let entry = entries
            .map(|entry| &entry["value"])
            .find(|value| value["name"] == option);
        let errors = entry.and_then(|value| value["errors"].as_array()).into_iter().flatten();
        Ok(Refusals {
            refused: refused["message"].as_str().unwrap_or_default().to_owned(),
            errors: errors.filter_map(|error| error.as_str().map(str::to_owned)).collect(),
        })
    }

    pub fn stop(mut self) -> Result<()> {
        self.worker.stop().map(|_| ())
    }
}

/// Holds that both say all of this.
pub fn ensure_says(refusals: &Refusals, words: &[&str]) -> Result<()> {
    let Refusals { refused, errors } = refusals;
    ensure!(errors.len() == 1, "{errors:?}");
    for words in words {
        ensure!(
            errors[0].contains(words) && refused.contains(words),
            "{words}: {refused}, {errors:?}"
        );
    }
    Ok(())
}

/// Holds that neither says this.
pub fn ensure_says_not(refusals: &Refusals, words: &str) -> Result<()> {
    let Refusals { refused, errors } = refusals;
    ensure!(
        !refused.contains(words) && !errors.concat().contains(words),
        "{words}: {refused}, {errors:?}"
    );
    Ok(())
}
