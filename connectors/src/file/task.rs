//! The tasks of the file connectors.

use super::config::{self, BATCH_SIZE, FILE, TOPIC};
use async_trait::async_trait;
use connect_api::record::SourceMap;
use connect_api::{
    Accepted, ConnectError, Datum, Durable, Schema, SchemaAndValue, SchemaType, SinkRecord, SinkTask, SinkTaskContext,
    SourceRecord, SourceTask, SourceTaskContext, Value, delivery::SinkOffsets,
};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at a file that has nothing new.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A line longer than this fails the task: it would not fit into memory many times over.
const LONGEST_LINE: usize = 64 << 20;

/// What the configuration says.
struct Settings {
    path: PathBuf,
    topic: Arc<str>,
    batch_size: usize,
}

/// An open file and what was read of it beyond the last line.
struct Reading {
    file: File,
    /// offset of the first byte of `rest`
    position: u64,
    rest: Vec<u8>,
    /// how far `rest` was searched for a line's end
    searched: usize,
}

/// Reads lines: ended by `\n`, `\r\n` or `\r`. The last line counts once it is ended.
#[derive(Default)]
pub(super) struct SourceFile {
    settings: Option<Arc<Settings>>,
    partition: Arc<SourceMap>,
    schema: Option<Arc<Schema>>,
    /// position to start at
    start_position: u64,
    reading: Option<Reading>,
}

#[async_trait]
impl SourceTask for SourceFile {
    async fn start(&mut self, context: SourceTaskContext) -> Result<(), ConnectError> {
        let parsed = config::source().parse(&context.config)?;
        let Some(path) = parsed.text(FILE).filter(|path| !path.is_empty()) else {
            return Err(ConnectError::config(
                "option file: standard input is not supported, give the path of a file",
            ));
        };
        let mut partition = SourceMap::new();
        partition.insert("filename".to_owned(), path.into());
        if let Some(offset) = context.offsets.offset(&partition).await?
            && let Some(position) = offset.get("position")
        {
            self.start_position = position.as_u64().ok_or_else(|| {
                ConnectError::fatal(format!(
                    "offset position of file {path} is {position}, not a position in a file"
                ))
            })?;
        }
        self.partition = Arc::new(partition);
        self.schema = Some(Arc::new(Schema::new(SchemaType::String)));
        self.settings = Some(Arc::new(Settings {
            path: path.into(),
            topic: parsed.text(TOPIC).unwrap_or_default().into(),
            batch_size: parsed
                .integer(BATCH_SIZE)
                .and_then(|size| usize::try_from(size).ok())
                .unwrap_or(2000)
                .max(1),
        }));
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, ConnectError> {
        let Some(settings) = self.settings.clone() else {
            return Err(ConnectError::fatal("the task was not started"));
        };
        loop {
            let lines = self.lines(&settings)?;
            if !lines.is_empty() {
                return Ok(lines
                    .into_iter()
                    .map(|(line, position)| self.record(&settings, line, position))
                    .collect());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn stop(&mut self) {
        self.reading = None;
    }
}

impl SourceFile {
    /// The next lines, each with the position behind it. A file that is not there yet has none.
    fn lines(&mut self, settings: &Settings) -> Result<Vec<(String, u64)>, ConnectError> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let mut file = match File::open(&settings.path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                    Err(error) => return Err(failed(settings, "open", &error)),
                };
                file.seek(SeekFrom::Start(self.start_position))
                    .map_err(|error| failed(settings, "seek in", &error))?;
                self.reading.insert(Reading {
                    file,
                    position: self.start_position,
                    rest: Vec::new(),
                    searched: 0,
                })
            }
        };
        let mut lines = Vec::new();
        loop {
            reading.cut(settings.batch_size, &mut lines);
            if lines.len() >= settings.batch_size {
                return Ok(lines);
            }
            let before = reading.rest.len();
            if before > LONGEST_LINE {
                return Err(ConnectError::data(format!(
                    "line at position {} of file {} is longer than {LONGEST_LINE} bytes",
                    reading.position,
                    settings.path.display()
                )));
            }
            reading.rest.resize(before + READ_BYTES, 0);
            let read = match reading.rest.get_mut(before..) {
                Some(room) => reading.file.read(room),
                None => Ok(0),
            };
            let read = read.map_err(|error| failed(settings, "read", &error))?;
            reading.rest.truncate(before + read);
            if read == 0 {
                return Ok(lines);
            }
        }
    }

    fn record(&self, settings: &Settings, line: String, position: u64) -> SourceRecord {
        let mut offset = SourceMap::new();
        offset.insert("position".to_owned(), position.into());
        SourceRecord {
            source_partition: Arc::clone(&self.partition),
            source_offset: Arc::new(offset),
            topic: Arc::clone(&settings.topic),
            partition: None,
            timestamp_ms: Some(now_ms()),
            key: Datum::null(),
            value: Datum::new(SchemaAndValue {
                schema: self.schema.clone(),
                value: Value::from(line),
            }),
            headers: Vec::new(),
        }
    }
}

impl Reading {
    /// Moves complete lines from the rest into `lines`, up to `limit` of them.
    fn cut(&mut self, limit: usize, lines: &mut Vec<(String, u64)>) {
        let mut from = 0;
        let mut at = self.searched;
        while lines.len() < limit {
            let Some(found) = self
                .rest
                .get(at..)
                .and_then(|rest| rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')))
            else {
                at = self.rest.len();
                break;
            };
            let end = at + found;
            let next = match (self.rest.get(end), self.rest.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => end + 2,
                (Some(b'\r'), None) => {
                    at = end; // the second half of the line's end may come with the next bytes
                    break;
                }
                _ => end + 1,
            };
            let line = String::from_utf8_lossy(self.rest.get(from..end).unwrap_or_default()).into_owned();
            lines.push((line, self.position + next as u64));
            from = next;
            at = next;
        }
        self.rest.drain(..from);
        self.position += from as u64;
        self.searched = at - from;
    }
}

fn failed(settings: &Settings, what: &str, error: &std::io::Error) -> ConnectError {
    ConnectError::fatal(format!("could not {what} file {}: {error}", settings.path.display()))
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Appends the text of each value and a newline; synced before offsets are committed.
#[derive(Default)]
pub(super) struct SinkFile {
    path: PathBuf,
    file: Option<File>,
}

#[async_trait]
impl SinkTask for SinkFile {
    async fn start(&mut self, context: SinkTaskContext) -> Result<(), ConnectError> {
        let parsed = config::sink().parse(&context.config)?;
        let Some(path) = parsed.text(FILE).filter(|path| !path.is_empty()) else {
            return Err(ConnectError::config(
                "option file: standard output is not supported, give the path of a file",
            ));
        };
        self.path = path.into();
        let file = File::options().create(true).append(true).open(&self.path);
        let file = file.map_err(|error| {
            ConnectError::fatal(format!(
                "Couldn't find or create file '{path}' for FileStreamSinkTask: {error}"
            ))
        })?;
        self.file = Some(file);
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<Accepted, ConnectError> {
        let mut text = String::with_capacity(records.len() * 64);
        for record in records {
            text.push_str(&record.value().get()?.value.to_string());
            text.push('\n');
        }
        self.file()?
            .write_all(text.as_bytes())
            .map_err(|error| self.failed(&error))?;
        Ok(Accepted { records: records.len() })
    }

    async fn pre_commit(&mut self, accepted: SinkOffsets) -> Result<Durable<SinkOffsets>, ConnectError> {
        let file = self.file()?.try_clone().map_err(|error| self.failed(&error))?;
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced
            .map_err(|error| ConnectError::fatal(format!("syncing file {} panicked: {error}", self.path.display())))?
            .map_err(|error| self.failed(&error))?;
        Ok(Durable::up_to(accepted))
    }

    async fn stop(&mut self) {
        self.file = None;
    }
}

impl SinkFile {
    fn file(&self) -> Result<&File, ConnectError> {
        self.file
            .as_ref()
            .ok_or_else(|| ConnectError::fatal("the task was not started"))
    }

    fn failed(&self, error: &std::io::Error) -> ConnectError {
        ConnectError::fatal(format!("could not write to file {}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Committed(Option<u64>);

    #[async_trait]
    impl connect_api::source::OffsetReader for Committed {
        async fn offset(&self, _: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
            Ok(self.0.map(|position| {
                let mut offset = SourceMap::new();
                offset.insert("position".into(), position.into());
                offset
            }))
        }
    }

    async fn started(path: &std::path::Path, position: Option<u64>) -> SourceFile {
        let mut task = SourceFile::default();
        let config = [(FILE, path.to_str().unwrap()), (TOPIC, "t"), (BATCH_SIZE, "3")];
        let config = config
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect();
        let context = connect_api::testing::source_context(config, Arc::new(Committed(position)));
        task.start(context).await.unwrap();
        task
    }

    fn texts(records: &[SourceRecord]) -> Vec<(String, u64)> {
        records
            .iter()
            .map(|record| {
                (
                    record.value.get().unwrap().value.to_string(),
                    record.source_offset["position"].as_u64().unwrap(),
                )
            })
            .collect()
    }

    #[tokio::test]
    async fn reads_on_from_the_committed_position_and_waits_for_the_end_of_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        std::fs::write(&path, "one\r\ntwo\nthr").unwrap();
        let mut task = started(&path, None).await;
        assert_eq!(
            texts(&task.poll().await.unwrap()),
            [("one".into(), 5), ("two".into(), 9)]
        );
        let waiting = tokio::time::timeout(Duration::from_millis(1), task.poll()).await;
        assert!(waiting.is_err());
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"ee\nfour\n")
            .unwrap();
        assert_eq!(
            texts(&task.poll().await.unwrap()),
            [("three".into(), 15), ("four".into(), 20)]
        );
        let mut again = started(&path, Some(9)).await;
        assert_eq!(
            texts(&again.poll().await.unwrap()),
            [("three".into(), 15), ("four".into(), 20)]
        );
    }

    proptest! {
        /// Wherever the bytes are cut, the same lines come out, each with the position behind it.
        #[test]
        fn cuts_do_not_matter(lines in proptest::collection::vec("[a-zé ]{0,8}", 0..20), pieces in proptest::collection::vec(1_usize..7, 1..40)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut reading = Reading { file: tempfile::tempfile().unwrap(), position: 0, rest: Vec::new(), searched: 0 };
            let mut found = Vec::new();
            let mut bytes = text.as_bytes();
            for piece in pieces.iter().cycle() {
                if bytes.is_empty() { break; }
                let (now, later) = bytes.split_at((*piece).min(bytes.len()));
                reading.rest.extend_from_slice(now);
                bytes = later;
                reading.cut(usize::MAX, &mut found);
            }
            prop_assert_eq!(found.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>(), lines);
            if let Some((_, position)) = found.last() {
                prop_assert_eq!(*position, text.len() as u64);
            }
        }
    }
}
