//! Sends outputs at once (`processing.guarantee=at_least_once`): one idempotent writer and one thread per task, so that a
//! slow broker stops neither the executors nor the task. What is handed over while a write is under way goes with the next.

use super::EncodedOutputs;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use kafka_client::{ClientConfig, KafkaError, RecordWriter, WriteError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time that a write has, and the first look for a broker.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that go into one write.
const WRITE_BYTES: usize = 8 << 20;

/// Why a tenant's outputs could not be sent.
#[derive(Clone, Debug)]
pub struct OutputFailure {
    /// the tenant
    pub tenant: Arc<str>,
    /// the error
    pub error: String,
}

enum Command {
    Outputs(EncodedOutputs),
    Flush(Sender<Result<Vec<OutputFailure>, KafkaError>>),
}

/// The sender of one task.
pub struct OutputSender {
    commands: Option<Sender<Command>>,
    waiting_bytes: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl OutputSender {
    /// Starts the writer and its thread.
    pub fn start(config: &ClientConfig, task: &str) -> Result<OutputSender, KafkaError> {
        let writer = RecordWriter::idempotent(config, WRITE_TIMEOUT)?;
        let (commands, received) = unbounded();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let sending = Sending {
            writer,
            waiting_bytes: waiting_bytes.clone(),
            failed: BTreeMap::new(),
            lost: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("outputs {task}"))
            .spawn(move || sending.run(&received))
            .map_err(|error| KafkaError::new(kafka_client::ErrorCode::Fail, format!("start a thread: {error}")))?;
        Ok(OutputSender {
            commands: Some(commands),
            waiting_bytes,
            thread: Some(thread),
        })
    }

    /// Hands outputs over.
    pub fn send(&self, outputs: EncodedOutputs) {
        self.waiting_bytes.fetch_add(outputs.bytes(), Ordering::Relaxed);
        if let Some(commands) = &self.commands {
            // The thread ends only after this sender is dropped.
            let _ = commands.send(Command::Outputs(outputs));
        }
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over is acknowledged or refused. Returns the tenants whose outputs were refused since
    /// the last call.
    ///
    /// # Errors
    /// Outputs handed over since the last call are lost for another reason than their topic: they must be made again.
    pub fn flush(&self, timeout: Duration) -> Result<Vec<OutputFailure>, KafkaError> {
        let (reply, answer) = bounded(1);
        if let Some(commands) = &self.commands {
            let _ = commands.send(Command::Flush(reply));
        }
        let timed_out = || {
            KafkaError::new(
                kafka_client::ErrorCode::OperationTimedOut,
                "waiting for outputs to be acknowledged",
            )
        };
        answer
            .recv_timeout(timeout + Duration::from_secs(1))
            .map_err(|_| timed_out())?
    }
}

impl Drop for OutputSender {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Sending {
    writer: RecordWriter,
    waiting_bytes: Arc<AtomicUsize>,
    /// refused since the last flush, by tenant
    failed: BTreeMap<Arc<str>, String>,
    /// why others were lost since the last flush
    lost: Option<KafkaError>,
}

impl Sending {
    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut outputs = Vec::new();
            let (mut bytes, mut flushed) = (0, None);
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Outputs(more) => {
                        bytes += more.bytes();
                        outputs.push(more);
                    }
                    Command::Flush(reply) => flushed = Some(reply),
                }
                if bytes < WRITE_BYTES && flushed.is_none() {
                    next = commands.try_recv().ok();
                }
            }
            self.write(&outputs);
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(reply) = flushed {
                // A flush that nobody waits for any more has timed out.
                let _ = reply.send(self.answer());
            }
        }
    }

    fn write(&mut self, outputs: &[EncodedOutputs]) {
        for batch in outputs {
            let appended = batch.try_for_each(|record| self.writer.append(record).map(drop));
            if let Err(error) = appended {
                self.refuse(outputs, error);
            }
        }
        if outputs.is_empty() {
            return;
        }
        match self.writer.write(WRITE_TIMEOUT) {
            Ok(written) => written.refused.into_iter().for_each(|error| self.refuse(outputs, error)),
            Err(error) => self.refuse(outputs, error),
        }
    }

    /// A topic's failure is that of the tenant whose it is; any other is everybody's.
    fn refuse(&mut self, outputs: &[EncodedOutputs], WriteError { error, topic }: WriteError) {
        let model = topic.and_then(|topic| {
            let mut models = outputs.iter().map(|outputs| &outputs.model);
            models.find(|model| *model.output_topic == *topic)
        });
        match model {
            Some(model) => drop(self.failed.insert(model.document.tenant.as_str().into(), error.to_string())),
            None => self.lost = Some(error),
        }
    }

    fn answer(&mut self) -> Result<Vec<OutputFailure>, KafkaError> {
        let failed = std::mem::take(&mut self.failed);
        if let Some(error) = self.lost.take() {
            return Err(error);
        }
        let failures = failed.into_iter();
        Ok(failures
            .map(|(tenant, error)| OutputFailure { tenant, error })
            .collect())
    }
}
