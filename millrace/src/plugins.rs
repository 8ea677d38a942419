//! The plugins of this binary: the runtime's own, those that each crate lists in its `plugins()`, and the inference sink.

use connect_api::{ConnectorPlugin, WorkerExtension};
use connect_runtime::Plugins;
use inference_sink::{InferenceService, InferenceSink};
use std::sync::Arc;

/// All plugins of this binary. `inference` is what the inference sink and its REST resources share.
pub fn all(inference: &Arc<InferenceService>) -> Plugins {
    let mut plugins = Plugins::builtin();
    plugins.connectors.extend(connectors::plugins());
    plugins.connectors.extend(catalog_source::plugins());
    plugins
        .connectors
        .push(Arc::new(InferenceSink::new(Arc::clone(inference))) as Arc<dyn ConnectorPlugin>);
    plugins
        .extensions
        .push(Arc::clone(inference) as Arc<dyn WorkerExtension>);
    plugins
}
