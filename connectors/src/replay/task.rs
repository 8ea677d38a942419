//! The task of the event replay.

use super::config::ReplayConfig;
use super::rows::Rows;
use async_trait::async_trait;
use connect_api::record::SourceMap;
use connect_api::{ConnectError, Datum, SourceRecord, SourceTask, SourceTaskContext};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait of a rate so low that an event is due less often.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Sends the rows of one file, then stays idle.
#[derive(Default)]
pub(super) struct ReplayTask {
    replay: Option<Replay>,
}

struct Replay {
    config: ReplayConfig,
    rows: Rows,
    partition: Arc<SourceMap>,
    /// when the first event of this run was due
    started: Instant,
    /// events of this run
    sent: u64,
    ended: bool,
}

/// Events that may have been sent `elapsed` after the first; without a limit any number.
fn due(elapsed: Duration, events_per_second: f64) -> u64 {
    match events_per_second > 0.0 {
        true => (elapsed.as_secs_f64() * events_per_second) as u64 + 1,
        false => u64::MAX,
    }
}

#[async_trait]
impl SourceTask for ReplayTask {
    async fn start(&mut self, context: SourceTaskContext) -> Result<(), ConnectError> {
        let config = ReplayConfig::new(&context.config)?;
        let mut partition = SourceMap::new();
        partition.insert("file".to_owned(), config.file.to_string_lossy().into_owned().into());
        let position = match context.offsets.offset(&partition).await? {
            None => 0,
            Some(offset) => offset
                .get("position")
                .and_then(serde_json::Value::as_u64)
                .ok_or_else(|| {
                    ConnectError::fatal(format!(
                        "the committed offset of file {} has no position: reset the connector's offsets",
                        config.file.display()
                    ))
                })?,
        };
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || -> Result<(Rows, bool), ConnectError> {
            let mut rows = Rows::open(&opening)?;
            let more = rows.skip_to(position)?;
            Ok((rows, more))
        });
        let (rows, more) = opened
            .await
            .map_err(|error| ConnectError::fatal(format!("opening the file panicked: {error}")))??;
        self.replay = Some(Replay {
            config,
            rows,
            partition: Arc::new(partition),
            started: Instant::now(),
            sent: 0,
            ended: !more,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, ConnectError> {
        let Some(replay) = &mut self.replay else {
            return Err(ConnectError::fatal("the task was not started"));
        };
        loop {
            if replay.ended || replay.rows.position >= replay.config.last_row {
                std::future::pending::<()>().await;
            }
            let rate = replay.config.events_per_second;
            let allowed = due(replay.started.elapsed(), rate).saturating_sub(replay.sent);
            if allowed == 0 {
                let next = replay.started + Duration::from_secs_f64(replay.sent as f64 / rate);
                let wait = next
                    .saturating_duration_since(Instant::now())
                    .clamp(Duration::from_millis(1), LONGEST_WAIT);
                tokio::time::sleep(wait).await;
                continue;
            }
            let records = replay.records(allowed)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    async fn stop(&mut self) {
        self.replay = None;
    }
}

impl Replay {
    fn records(&mut self, allowed: u64) -> Result<Vec<SourceRecord>, ConnectError> {
        let left = self.config.last_row.saturating_sub(self.rows.position);
        let limit = usize::try_from(allowed.min(left))
            .unwrap_or(usize::MAX)
            .min(self.config.batch_size);
        let mut records = Vec::with_capacity(limit);
        while records.len() < limit {
            let Some(event) = self.rows.next()? else {
                self.ended = true;
                tracing::info!(file = %self.config.file.display(), events = self.rows.position, "all events are sent");
                break;
            };
            let mut offset = SourceMap::new();
            offset.insert("position".to_owned(), self.rows.position.into());
            records.push(SourceRecord {
                source_partition: Arc::clone(&self.partition),
                source_offset: Arc::new(offset),
                topic: Arc::clone(&self.config.topic),
                partition: None,
                timestamp_ms: event.timestamp_ms,
                key: event.key.map_or_else(Datum::null, Datum::from),
                value: Datum::from(event.value),
                headers: Vec::new(),
            });
        }
        self.sent += records.len() as u64;
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    proptest! {
        #[test]
        fn the_rate_is_kept(millis in 0_u64..10_000_000, rate in 0.01_f64..1e6) {
            let events = due(Duration::from_millis(millis), rate) as f64;
            let exact = millis as f64 / 1000.0 * rate;
            prop_assert!(events >= exact && events <= exact + 1.0 + 1e-6 * exact);
        }
    }

    struct Offset(Option<u64>);

    #[async_trait]
    impl connect_api::source::OffsetReader for Offset {
        async fn offset(&self, _: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
            Ok(self
                .0
                .map(|position| [("position".to_owned(), position.into())].into_iter().collect()))
        }
    }

    async fn started(file: &std::path::Path, position: Option<u64>, more: &[(&str, &str)]) -> ReplayTask {
        let mut config: connect_api::ConfigMap = [
            ("file", file.to_str().unwrap()),
            ("topic", "t"),
            ("key.field", "id"),
            ("timestamp.field", "at"),
            ("fields.numeric", "amount"),
            ("batch.size", "2"),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect();
        config.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))),
        );
        let mut task = ReplayTask::default();
        let context = connect_api::testing::source_context(config, Arc::new(Offset(position)));
        task.start(context).await.unwrap();
        task
    }

    fn shown(records: &[SourceRecord]) -> Vec<String> {
        records
            .iter()
            .map(|record| {
                format!(
                    "{} {} {} {}",
                    record.key.get().unwrap().value,
                    record.value.get().unwrap().value,
                    record.timestamp_ms.unwrap(),
                    record.source_offset["position"]
                )
            })
            .collect()
    }

    #[tokio::test]
    async fn replays_goes_on_and_ends_idle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.csv.gz");
        let mut packed =
            flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(b"id,at,amount\na,1,2\nb,2,2.50\nc,3,\n").unwrap();
        packed.finish().unwrap();
        let mut task = started(&path, None, &[]).await;
        assert_eq!(
            shown(&task.poll().await.unwrap()),
            ["a {id=a, at=1, amount=2} 1 1", "b {id=b, at=2, amount=2.5} 2 2"]
        );
        assert_eq!(shown(&task.poll().await.unwrap()), ["c {id=c, at=3, amount=null} 3 3"]);
        assert!(futures_now(task.poll()).is_none());
        let mut again = started(&path, Some(2), &[("row.field", "row")]).await;
        assert_eq!(
            shown(&again.poll().await.unwrap()),
            ["c {id=c, at=3, amount=null, row=2} 3 3"]
        );
        let mut limited = started(&path, Some(1), &[("max.events", "1")]).await;
        assert!(futures_now(limited.poll()).is_none());
    }

    /// The outcome of a future that is ready now.
    fn futures_now<F: Future>(future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
