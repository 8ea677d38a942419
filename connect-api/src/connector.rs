//! The contract of connectors: what they are, how they are configured, which tasks they want.

use crate::config::{ConfigDef, ConfigMap, ConfigValue};
use crate::error::ConnectError;
use crate::partitioned::{PartitionedSinkTask, PartitionedTaskContext};
use crate::record::SourceMap;
use crate::sink::SinkTask;
use crate::source::SourceTask;
use async_trait::async_trait;
use std::sync::Arc;

/// Which way a connector moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectorKind {
    /// from a source into Kafka
    Source,
    /// from Kafka into a sink
    Sink,
}

impl ConnectorKind {
    /// `source` or `sink`, as in REST.
    pub fn name(self) -> &'static str {
        match self {
            ConnectorKind::Source => "source",
            ConnectorKind::Sink => "sink",
        }
    }
}

/// What a connector is given when it starts.
#[derive(Clone)]
pub struct ConnectorContext {
    /// connector name
    pub connector: Arc<str>,
    /// the connector's configuration, references to config providers resolved
    pub config: ConfigMap,
    /// asks the runtime to call `task_configs` again
    pub request_task_reconfiguration: Arc<dyn Fn() + Send + Sync>,
    /// tells the runtime that the connector has failed
    pub raise_error: Arc<dyn Fn(ConnectError) + Send + Sync>,
}

/// A running connector: it watches its source or sink and says which tasks it wants. It moves no data.
#[async_trait]
pub trait Connector: Send {
    /// Starts watching. At most some seconds; it is dropped when it takes longer than 5 s to stop.
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError>;

    /// The configurations of at most `max_tasks` tasks. The runtime adds `task.class` and, for sinks, the topics.
    fn task_configs(&self, max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError>;

    /// Stops watching.
    async fn stop(&mut self);
}

/// A task, not yet started.
pub enum Task {
    /// reads from a source
    Source(Box<dyn SourceTask>),
    /// writes to a sink
    Sink(Box<dyn SinkTask>),
    /// owns partitions with their state; made when its context is known
    Partitioned(Box<dyn FnOnce(PartitionedTaskContext) -> Result<Box<dyn PartitionedSinkTask>, ConnectError> + Send>),
}

/// A connector class: what REST lists under `/connector-plugins`.
#[async_trait]
pub trait ConnectorPlugin: Send + Sync {
    /// Fully qualified class name; the simple name and the name without `Connector` are accepted too.
    fn class(&self) -> &'static str;

    /// Fully qualified class name of the tasks.
    fn task_class(&self) -> &'static str;

    /// Version as shown in REST.
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Source or sink.
    fn kind(&self) -> ConnectorKind;

    /// The connector's own options; the framework's are added by the runtime.
    fn config_def(&self) -> ConfigDef;

    /// Checks that span several options or look outside (a database that must be reachable). `values` holds one entry
    /// for each option of `config_def`, already checked by itself; errors are added to the entries.
    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        let _ = (config, values);
    }

    /// A connector, not yet started.
    fn connector(&self) -> Box<dyn Connector>;

    /// A task, not yet started.
    fn task(&self) -> Task;

    /// Checks source offsets that a person wants to set (KIP-875), and may look at the source for it; true if the connector
    /// keeps no offsets elsewhere. `None` resets the partition.
    async fn alter_offsets(
        &self,
        config: &ConfigMap,
        offsets: &[(SourceMap, Option<SourceMap>)],
    ) -> Result<bool, ConnectError> {
        let _ = (config, offsets);
        Ok(false)
    }
}
