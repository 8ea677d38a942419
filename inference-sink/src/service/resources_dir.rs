//! Documents of `inference.resources.dir`, put into the registry when the worker starts.

use super::Started;
use crate::rest::resources::put;
use feature_engine::resource::{Resource, parse_all};
use std::path::Path;
use std::sync::Arc;

/// Puts every document of a directory, tenants and stores first. What is wrong is logged by file and field; the rest is
/// put all the same.
pub(super) async fn apply(started: &Arc<Started>, directory: &Path) {
    let mut resources = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(directory = %directory.display(), error = %error, "inference.resources.dir cannot be read");
            return;
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let known = file.extension().and_then(|extension| extension.to_str());
        if !matches!(known, Some("yaml" | "yml" | "json")) {
            continue;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => match parse_all(&text) {
                Ok(found) => resources.extend(found.into_iter().map(|resource| (file.clone(), resource))),
                Err(errors) => {
                    for error in errors {
                        tracing::error!(file = %file.display(), field = %error.field, error = %error.message, "document refused");
                    }
                }
            },
            Err(error) => tracing::error!(file = %file.display(), error = %error, "document cannot be read"),
        }
    }
    resources.sort_by_key(|(_, resource)| match resource {
        Resource::Tenant(_) => 0,
        Resource::Store(_) => 1,
        Resource::FeatureView(_) => 2,
        Resource::Model(_) => 3,
    });
    for (file, resource) in resources {
        let name = resource.identity();
        let answer = put(started, resource).await;
        if answer.status >= 400 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            tracing::error!(file = %file.display(), resource = %name, answer = %body, "document refused");
        }
    }
}
