//! The task of the file catalog.

use super::config::CatalogConfig;
use super::known::Encoded;
use super::known::Known;
use super::rows::{self, Catalog};
use super::watched::{self, Stamp, Watched};
use async_trait::async_trait;
use bytes::Bytes;
use connect_api::catalog_marker::Marker;
use connect_api::record::SourceMap;
use connect_api::source::TopicLayout;
use connect_api::{ConnectError, Converter, Datum, SchemaAndValue, SourceRecord, SourceTask, SourceTaskContext, Value};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often it is looked whether the topic is still the one that was read back.
const TOPIC_LOOK: Duration = Duration::from_secs(10);

/// Keeps a topic equal to a file.
#[derive(Default)]
pub(super) struct CatalogTask {
    running: Option<Running>,
}

struct Running {
    config: CatalogConfig,
    context: SourceTaskContext,
    partition: Arc<SourceMap>,
    known: Known,
    /// id of the topic that `known` is of
    topic_id: Option<String>,
    topic_seen: Option<Instant>,
    watched: Watched,
    /// changes of the version under way
    pending: VecDeque<Encoded>,
    /// the marker that follows them
    marker: Option<Marker>,
}

#[async_trait]
impl SourceTask for CatalogTask {
    async fn start(&mut self, context: SourceTaskContext) -> Result<(), ConnectError> {
        let config = CatalogConfig::new(&context.config)?;
        let mut partition = SourceMap::new();
        partition.insert("file".to_owned(), config.file.to_string_lossy().into_owned().into());
        let (known, topic_id) = match context.topics.layout(&config.topic).await? {
            None => (Known::default(), None),
            Some(layout) => {
                check_compacted(&config, &layout)?;
                (read_back(&config, &context).await?, layout.id)
            }
        };
        tracing::info!(topic = %config.topic, rows = known.len(), next_version = known.next_version(), "read catalog topic");
        self.running = Some(Running {
            config,
            context,
            partition: Arc::new(partition),
            known,
            topic_id,
            topic_seen: Some(Instant::now()),
            watched: Watched::default(),
            pending: VecDeque::new(),
            marker: None,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, ConnectError> {
        let Some(running) = &mut self.running else {
            return Err(ConnectError::fatal("the task was not started"));
        };
        loop {
            if !running.pending.is_empty() {
                return Ok(running.rows());
            }
            if running.marker.is_some() {
                return running.markers().await;
            }
            running.look_at_topic().await?;
            if !running.look().await? {
                tokio::time::sleep(running.config.poll_interval).await;
            }
        }
    }

    async fn stop(&mut self) {
        self.running = None;
    }
}

/// What a look has read.
enum Read {
    /// the file was changed meanwhile
    Changing,
    /// what is to be sent, if anything: what is known then, changes, digest, number of rows
    Whole(Option<(Known, Vec<Encoded>, String, u64)>),
}

fn compare(
    config: &CatalogConfig,
    stamp: Stamp,
    mut known: Known,
    keys: &Arc<dyn Converter>,
    values: &Arc<dyn Converter>,
) -> Result<Read, ConnectError> {
    let path = config.file.display();
    let content = watched::read_whole(&config.file, stamp)
        .map_err(|error| ConnectError::retriable(format!("could not read catalog file {path}: {error}")))?;
    let Some(content) = content else {
        return Ok(Read::Changing);
    };
    if content.is_empty() {
        tracing::warn!(
            file = %path,
            "the catalog file is empty, as if somebody had begun to write it: waiting (a catalog without rows has a header line, or \
             a blank one)"
        );
        return Ok(Read::Whole(None));
    }
    let Catalog { rows, digest } = rows::read(config, &content)?;
    let count = rows.len() as u64;
    if known.is_complete(&digest) && known.len() as u64 == count {
        return Ok(Read::Whole(None));
    }
    let mut encoded: Vec<(Bytes, Bytes)> = Vec::with_capacity(rows.len());
    for row in rows {
        let key = keys.from_connect_data(&config.topic, &SchemaAndValue::schemaless(Value::from(row.key)))?;
        let value = values.from_connect_data(&config.topic, &SchemaAndValue::schemaless(row.value))?;
        let (Some(key), Some(value)) = (key, value) else {
            return Err(ConnectError::data(
                "a converter made null of a row: use one that writes objects",
            ));
        };
        encoded.push((key, value));
    }
    let changes = known.replace(encoded);
    Ok(Read::Whole(Some((known, changes, digest, count))))
}

fn check_compacted(config: &CatalogConfig, layout: &TopicLayout) -> Result<(), ConnectError> {
    let policy = layout.config.get("cleanup.policy").map_or("delete", String::as_str);
    match policy.contains("compact") {
        true => Ok(()),
        false => Err(ConnectError::config(format!(
            "topic {} has cleanup.policy={policy}: a catalog needs compact, or its rows expire; alter the topic, or name \
             another one",
            config.topic
        ))),
    }
}

async fn read_back(config: &CatalogConfig, context: &SourceTaskContext) -> Result<Known, ConnectError> {
    let known = Arc::new(Mutex::new(Known::default()));
    let filling = Arc::clone(&known);
    let visit = Box::new(move |_partition: i32, key: Option<&[u8]>, value: Option<&[u8]>| {
        filling
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .observe(key, value);
    });
    context.topics.read(&config.topic, visit).await?;
    let known = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(known)
}

impl Running {
    /// A topic that was deleted and made again holds nothing of what was sent: it is read back, and what it lacks is sent.
    async fn look_at_topic(&mut self) -> Result<(), ConnectError> {
        if self.topic_seen.is_some_and(|seen| seen.elapsed() < TOPIC_LOOK) {
            return Ok(());
        }
        let Some(layout) = self.context.topics.layout(&self.config.topic).await? else {
            // The next record, or somebody, makes it again.
            self.topic_seen = Some(Instant::now());
            return Ok(());
        };
        if layout.id != self.topic_id {
            if self.topic_id.is_some() {
                check_compacted(&self.config, &layout)?;
                tracing::warn!(topic = %self.config.topic, "the catalog's topic was deleted and made again: the catalog is sent again");
                self.known = read_back(&self.config, &self.context).await?;
                self.watched.read_again();
            }
            self.topic_id = layout.id;
        }
        self.topic_seen = Some(Instant::now());
        Ok(())
    }

    /// Looks at the file; true if there is something to send.
    async fn look(&mut self) -> Result<bool, ConnectError> {
        let path = self.config.file.display();
        let stamp = Stamp::of(&self.config.file)
            .map_err(|error| ConnectError::retriable(format!("could not open catalog file {path}: {error}")))?;
        if !self.watched.is_due(stamp, SystemTime::now(), self.config.poll_interval) {
            return Ok(false);
        }
        let (config, known) = (self.config.clone(), self.known.clone());
        let (keys, values) = (
            Arc::clone(&self.context.key_converter),
            Arc::clone(&self.context.value_converter),
        );
        // dropped when the task is stopped or paused meanwhile: nothing of self has changed then
        let compared = tokio::task::spawn_blocking(move || compare(&config, stamp, known, &keys, &values));
        let compared = compared
            .await
            .map_err(|error| ConnectError::fatal(format!("reading the catalog file panicked: {error}")))??;
        let compared = match compared {
            Read::Changing => return Ok(false),
            Read::Whole(compared) => compared,
        };
        self.watched.was_read(stamp);
        let Some((known, changes, digest, rows)) = compared else {
            return Ok(false);
        };
        let version = known.next_version();
        let tombstones = changes.iter().filter(|(_, value)| value.is_none()).count();
        tracing::info!(
            topic = %self.config.topic, version, rows, changed = changes.len() - tombstones, removed = tombstones,
            "new version of the catalog"
        );
        self.known = known;
        self.pending = changes.into();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.marker = Some(Marker {
            version,
            rows: Some(rows),
            partitions: 0,
            digest,
            at: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        });
        Ok(true)
    }

    fn offset(&self, complete: bool) -> SourceMap {
        let version = self.marker.as_ref().map_or(0, |marker| marker.version);
        let mut offset = SourceMap::new();
        offset.insert("version".to_owned(), version.into());
        offset.insert("complete".to_owned(), complete.into());
        offset
    }

    fn record(&self, partition: Option<i32>, key: Datum, value: Datum, complete: bool) -> SourceRecord {
        SourceRecord {
            source_partition: Arc::clone(&self.partition),
            source_offset: Arc::new(self.offset(complete)),
            topic: Arc::clone(&self.config.topic),
            partition,
            timestamp_ms: None,
            key,
            value,
            headers: Vec::new(),
        }
    }

    /// The next rows and tombstones. Their bytes are written as they are.
    fn rows(&mut self) -> Vec<SourceRecord> {
        let count = self.pending.len().min(self.config.batch_size);
        let batch: Vec<Encoded> = self.pending.drain(..count).collect();
        let topic = &self.config.topic;
        let lazy = |bytes, converter: &Arc<_>| Datum::lazy(Arc::clone(topic), bytes, Arc::clone(converter));
        batch
            .into_iter()
            .map(|(key, value)| {
                let key = lazy(Some(key), &self.context.key_converter);
                self.record(None, key, lazy(value, &self.context.value_converter), false)
            })
            .collect()
    }

    /// The marker, once for each partition of the topic, which is there by now.
    async fn markers(&mut self) -> Result<Vec<SourceRecord>, ConnectError> {
        let partitions = match self.context.topics.layout(&self.config.topic).await? {
            None => 1,
            Some(layout) => {
                check_compacted(&self.config, &layout)?;
                layout.partitions
            }
        };
        let Some(mut marker) = self.marker.clone() else {
            return Ok(Vec::new());
        };
        marker.partitions = partitions.unsigned_abs();
        let records = (0..partitions)
            .map(|partition| {
                let (key, value) = (Datum::new(Marker::key()), Datum::new(marker.value()));
                let mut record = self.record(Some(partition), key, value, partition + 1 == partitions);
                record.headers.push(marker.header());
                record
            })
            .collect();
        self.marker = None;
        self.known.marked(marker);
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use connect_api::testing::{NoOffsets, TestTopic, source_context};
    use std::path::Path;

    fn config(file: &Path) -> connect_api::ConfigMap {
        [
            ("file", file.to_str().unwrap()),
            ("topic", "t"),
            ("key.field", "id"),
            ("poll.interval.ms", "10"),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
    }

    /// Sends what the task polls to the topic in memory, up to and with the markers; returns it as text.
    async fn next_version(task: &mut CatalogTask, topic: &TestTopic) -> Vec<String> {
        let mut sent = Vec::new();
        loop {
            for record in task.poll().await.unwrap() {
                let bytes = |datum: &Datum, converter: Arc<dyn connect_api::Converter>| {
                    datum.to_bytes("t", &converter).unwrap()
                };
                let running = task.running.as_ref().unwrap();
                let key = bytes(&record.key, Arc::clone(&running.context.key_converter));
                let mut value = bytes(&record.value, Arc::clone(&running.context.value_converter));
                let complete = record.source_offset["complete"] == true;
                if let Some(header) = record.headers.first() {
                    value = Some(Bytes::from(header.data.value.to_string()));
                    sent.push(format!("marker {}", record.source_offset["version"]));
                } else {
                    let text = |bytes: &Option<Bytes>| {
                        bytes
                            .as_ref()
                            .map_or("-".into(), |bytes| String::from_utf8(bytes.to_vec()).unwrap())
                    };
                    sent.push(format!("{} {}", text(&key), text(&value)));
                }
                topic
                    .records
                    .lock()
                    .unwrap()
                    .push((record.partition.unwrap_or(0), key, value));
                if complete {
                    return sent;
                }
            }
        }
    }

    async fn started(file: &Path, topic: &Arc<TestTopic>) -> Result<CatalogTask, ConnectError> {
        let mut task = CatalogTask::default();
        let mut context = source_context(config(file), Arc::new(NoOffsets));
        context.topics = Arc::clone(topic) as Arc<_>;
        task.start(context).await?;
        Ok(task)
    }

    fn layout(policy: &str) -> Option<TopicLayout> {
        Some(TopicLayout {
            id: Some("first".to_owned()),
            partitions: 2,
            config: [("cleanup.policy".to_owned(), policy.to_owned())].into_iter().collect(),
        })
    }

    #[tokio::test]
    async fn a_restart_loses_no_deletion_and_repeats_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.csv");
        let topic = Arc::new(TestTopic::default());
        *topic.layout.lock().unwrap() = layout("compact");
        std::fs::write(&file, "id,name\n1,a\n2,b\n3,c\n").unwrap();
        let mut task = started(&file, &topic).await.unwrap();
        let first = next_version(&mut task, &topic).await;
        assert_eq!(
            first,
            [
                "1 {id=1, name=a}",
                "2 {id=2, name=b}",
                "3 {id=3, name=c}",
                "marker 1",
                "marker 1"
            ]
        );
        std::fs::write(&file, "id,name\n1,a\n2,bb\n4,dd\n").unwrap();
        assert_eq!(
            next_version(&mut task, &topic).await,
            ["2 {id=2, name=bb}", "4 {id=4, name=dd}", "3 -", "marker 2", "marker 2"]
        );
        task.stop().await;
        std::fs::write(&file, "id,name\n1,a\n4,dd\n").unwrap();
        let mut task = started(&file, &topic).await.unwrap();
        assert_eq!(next_version(&mut task, &topic).await, ["2 -", "marker 3", "marker 3"]);
        // the same content again: nothing to send
        let mut task = started(&file, &topic).await.unwrap();
        assert!(!has_something_to_send(&mut task).await);
        // a version whose last marker is missing is marked again
        topic.records.lock().unwrap().pop();
        let mut task = started(&file, &topic).await.unwrap();
        assert_eq!(next_version(&mut task, &topic).await, ["marker 4", "marker 4"]);
    }

    /// Looks until the file as it is now has been read.
    async fn has_something_to_send(task: &mut CatalogTask) -> bool {
        let running = task.running.as_mut().unwrap();
        loop {
            if running.look().await.unwrap() {
                return true;
            }
            let stamp = Stamp::of(&running.config.file).unwrap();
            let mut watched = std::mem::take(&mut running.watched);
            let waits = watched.is_due(stamp, SystemTime::now(), Duration::ZERO);
            running.watched = watched;
            if !waits {
                return false;
            }
        }
    }

    /// Half a catalog would be tombstones for the other half.
    #[tokio::test]
    async fn a_file_that_is_being_written_is_not_half_a_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.csv");
        let topic = Arc::new(TestTopic::default());
        *topic.layout.lock().unwrap() = layout("compact");
        std::fs::write(&file, "id,name\n1,a\n2,b\n3,c\n").unwrap();
        let mut task = started(&file, &topic).await.unwrap();
        next_version(&mut task, &topic).await;
        // somebody writes line by line, slower than anybody looks
        std::fs::write(&file, "").unwrap();
        assert!(!has_something_to_send(&mut task).await, "an empty file is no catalog");
        let interval =
            |task: &mut CatalogTask, interval| task.running.as_mut().unwrap().config.poll_interval = interval;
        interval(&mut task, Duration::from_secs(3600));
        let mut written = String::from("id,name\n");
        for line in ["1,a\n", "2,b\n", "3,c\n", "4,d\n"] {
            std::fs::write(&file, &written).unwrap();
            assert!(!task.running.as_mut().unwrap().look().await.unwrap(), "{written:?}");
            written.push_str(line);
        }
        std::fs::write(&file, &written).unwrap();
        interval(&mut task, Duration::from_millis(10));
        assert_eq!(
            next_version(&mut task, &topic).await,
            ["4 {id=4, name=d}", "marker 2", "marker 2"]
        );
        // cut while it was read: nothing comes of it
        let running = task.running.as_ref().unwrap();
        let before = Stamp::of(&file).unwrap();
        std::fs::write(&file, "id,name\n1,a\n").unwrap();
        let (keys, values) = (&running.context.key_converter, &running.context.value_converter);
        let read = compare(&running.config, before, running.known.clone(), keys, values).unwrap();
        assert!(matches!(read, Read::Changing));
    }

    #[tokio::test]
    async fn a_topic_that_was_made_again_gets_the_whole_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.csv");
        let topic = Arc::new(TestTopic::default());
        *topic.layout.lock().unwrap() = layout("compact");
        std::fs::write(&file, "id,name\n1,a\n2,b\n").unwrap();
        let mut task = started(&file, &topic).await.unwrap();
        let first = next_version(&mut task, &topic).await;
        assert_eq!(first.len(), 4);
        let look_now = |task: &mut CatalogTask| task.running.as_mut().unwrap().topic_seen = None;
        // The same topic: there is nothing to send.
        look_now(&mut task);
        task.running.as_mut().unwrap().look_at_topic().await.unwrap();
        assert!(!task.running.as_mut().unwrap().look().await.unwrap());
        topic.records.lock().unwrap().clear();
        let again = TopicLayout {
            id: Some("second".to_owned()),
            ..layout("compact").unwrap()
        };
        *topic.layout.lock().unwrap() = Some(again);
        look_now(&mut task);
        assert_eq!(next_version(&mut task, &topic).await, first);
    }

    #[tokio::test]
    async fn a_topic_that_is_not_compacted_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.jsonl");
        std::fs::write(&file, "{\"id\":1}\n").unwrap();
        let topic = Arc::new(TestTopic::default());
        *topic.layout.lock().unwrap() = layout("delete");
        let error = started(&file, &topic).await.err().unwrap();
        assert!(error.message().contains("topic t has cleanup.policy=delete"), "{error}");
    }
}
