//! The one file that names every plugin.

use connect_runtime::Plugins;

/// All plugins of this binary.
pub fn all() -> Plugins {
    let mut plugins = Plugins::builtin();
    plugins.connectors.extend(connectors::plugins());
    plugins.connectors.extend(catalog_source::plugins());
    plugins
}
