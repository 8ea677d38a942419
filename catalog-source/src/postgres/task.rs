//! The task of the Postgres connector: it starts the reader and passes on what the reader hands over.

use super::config::PostgresConfig;
use super::connection::{Connection, Purpose};
use super::handoff::{Durable, Handed, Handoff, SnapshotEnd};
use super::offset::{self, Resume};
use super::reader::Reader;
use super::server;
use async_trait::async_trait;
use connect_api::catalog_marker::Marker;
use connect_api::record::SourceMap;
use connect_api::source::SourcePositions;
use connect_api::{ConnectError, Datum, SourceRecord, SourceTask, SourceTaskContext};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long a stop waits for the reader to say goodbye.
const GOODBYE: Duration = Duration::from_secs(4);

/// Carries tables of PostgreSQL into topics.
#[derive(Default)]
pub(super) struct PostgresTask {
    running: Option<Running>,
}

struct Running {
    config: PostgresConfig,
    context: SourceTaskContext,
    partition: Arc<SourceMap>,
    receiver: mpsc::Receiver<Handed>,
    durable: Arc<Durable>,
    stop: watch::Sender<bool>,
    reader: JoinHandle<()>,
    /// markers still to be written, table by table
    markers: VecDeque<(Arc<str>, u64)>,
    snapshot: Option<SnapshotEnd>,
    /// come to without a record, and not asked for yet
    position: Option<Arc<SourceMap>>,
}

#[async_trait]
impl SourceTask for PostgresTask {
    async fn start(&mut self, context: SourceTaskContext) -> Result<(), ConnectError> {
        let config = PostgresConfig::new(&context.config)?;
        let partition = offset::partition(&config.prefix);
        let committed = context.offsets.offset(&partition).await?;
        let resume = Resume::read(committed.as_ref());
        let durable = Arc::new(Durable::default());
        let batches = (config.queue_size / config.batch_size).max(1);
        let (sender, receiver) = mpsc::channel(batches);
        let (stop, stopping) = watch::channel(false);
        let handoff = Handoff {
            sender,
            stop: stopping,
            durable: Arc::clone(&durable),
        };
        tracing::info!(
            connector = %context.connector, server = config.server.host, port = config.server.port,
            database = config.server.database, slot = config.slot, ?resume, "capturing"
        );
        if config.plain_text_unasked {
            tracing::warn!(
                connector = %context.connector, server = config.server.host,
                "the connection to PostgreSQL is in plain text, because this connector has no TLS yet: rows can be read on the \
                 way (a tunnel helps); set database.sslmode=disable if that is meant"
            );
        }
        let reader = tokio::spawn(Reader::new(config.clone(), handoff, resume).run());
        self.running = Some(Running {
            config,
            context,
            partition: Arc::new(partition),
            receiver,
            durable,
            stop,
            reader,
            markers: VecDeque::new(),
            snapshot: None,
            position: None,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, ConnectError> {
        let Some(running) = &mut self.running else {
            return Err(ConnectError::fatal("the task was not started"));
        };
        loop {
            if let Some((topic, rows)) = running.markers.front().cloned() {
                let records = running.marker(&topic, rows).await?;
                running.markers.pop_front();
                return Ok(records);
            }
            match running.receiver.recv().await {
                Some(Handed::Records(records)) => return Ok(records),
                Some(Handed::Position(offset)) => {
                    running.position = Some(offset);
                    return Ok(Vec::new());
                }
                Some(Handed::SnapshotEnd(end)) => running.begin_markers(end),
                Some(Handed::Failed(error)) => return Err(error),
                None => return Err(ConnectError::fatal("the reader of PostgreSQL ended without a reason")),
            }
        }
    }

    fn positions(&mut self) -> SourcePositions {
        let taken = self.running.as_mut().and_then(|running| {
            let offset = running.position.take()?;
            Some((Arc::clone(&running.partition), offset))
        });
        taken.into_iter().collect()
    }

    async fn commit(&mut self, durable: connect_api::Durable<SourcePositions>) -> Result<(), ConnectError> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        for (partition, offset) in durable.positions() {
            if **partition == *running.partition
                && let Resume::From(position) = Resume::read(Some(offset))
            {
                running.durable.advance(position.lsn);
            }
        }
        Ok(())
    }

    async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let _ = running.stop.send(true);
        running.receiver.close();
        if tokio::time::timeout(GOODBYE, &mut running.reader).await.is_err() {
            running.reader.abort();
        }
        if running.config.drop_slot_on_stop
            && let Err(error) = drop_slot(&running.config).await
        {
            tracing::warn!(
                slot = running.config.slot,
                "could not drop the replication slot: {error}"
            );
        }
    }
}

async fn drop_slot(config: &PostgresConfig) -> Result<(), String> {
    let mut connection = Connection::open(&config.server, Purpose::Queries)
        .await
        .map_err(|error| error.explain(config))?;
    // the server may need a moment to notice that the reader has gone
    for _ in 0..20 {
        match server::drop_slot(&mut connection, config).await {
            Ok(()) => break,
            Err(error) if error.code() == server::OBJECT_IN_USE => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error.explain(config)),
        }
    }
    connection.close().await;
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        // also where the task was dropped without a stop
        self.reader.abort();
    }
}

impl Running {
    fn begin_markers(&mut self, end: SnapshotEnd) {
        for (table, topic) in &self.config.markers {
            let rows = end.rows.iter().find(|(name, _)| name == table).map(|(_, rows)| *rows);
            match rows {
                Some(rows) => self.markers.push_back((Arc::clone(topic), rows)),
                None => tracing::warn!(table, "catalog.marker.topics names a table that is not captured"),
            }
        }
        self.snapshot = Some(end);
    }

    /// The marker of a topic, once for each of its partitions. The rows before it have been sent, so the topic is there.
    async fn marker(&self, topic: &Arc<str>, rows: u64) -> Result<Vec<SourceRecord>, ConnectError> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(Vec::new());
        };
        let partitions = self
            .context
            .topics
            .layout(topic)
            .await?
            .map_or(1, |layout| layout.partitions);
        let at = snapshot.micros / 1000;
        let marker = Marker {
            // grows from snapshot to snapshot
            version: at.unsigned_abs(),
            rows: Some(rows),
            partitions: partitions.unsigned_abs(),
            digest: String::new(),
            at,
        };
        Ok((0..partitions)
            .map(|partition| SourceRecord {
                source_partition: Arc::clone(&self.partition),
                source_offset: Arc::clone(&snapshot.offset),
                topic: Arc::clone(topic),
                partition: Some(partition),
                timestamp_ms: None,
                key: Datum::new(Marker::key()),
                value: Datum::new(marker.value()),
                headers: vec![marker.header()],
            })
            .collect())
    }
}
