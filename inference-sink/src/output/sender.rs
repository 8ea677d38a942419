//! Sends outputs at once (`processing.guarantee=at_least_once`): one idempotent writer and one thread per task, so that a
//! slow broker stops neither the executors nor the task. What is handed over while a write is under way goes with the next.

use super::{EncodedOutputs, tenant_at_fault};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use kafka_client::{ClientConfig, ErrorCode, KafkaError, RecordWriter, WriteError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time that the first look for a broker has.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
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
    Flush(Sender<Flushed>),
}

/// Tenants whose outputs were refused, or why others were lost.
type Flushed = Result<Vec<OutputFailure>, KafkaError>;

/// The sender of one task.
pub struct OutputSender {
    commands: Option<Sender<Command>>,
    waiting_bytes: Arc<AtomicUsize>,
    /// the answer to a flush that was not waited for to its end
    flushing: Mutex<Option<Receiver<Flushed>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OutputSender {
    /// Starts the writer and its thread.
    pub fn start(config: &ClientConfig, task: &str) -> Result<OutputSender, KafkaError> {
        let writer = RecordWriter::idempotent(config, INIT_TIMEOUT)?;
        let (commands, received) = unbounded();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let sending = Sending {
            writer,
            stopping: stopping.clone(),
            waiting_bytes: waiting_bytes.clone(),
            failed: BTreeMap::new(),
            lost: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("outputs {task}"))
            .spawn(move || sending.run(&received))
            .map_err(|error| KafkaError::new(ErrorCode::Fail, format!("start a thread: {error}")))?;
        Ok(OutputSender {
            commands: Some(commands),
            waiting_bytes,
            flushing: Mutex::new(None),
            stopping,
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

    /// Waits until everything handed over before is acknowledged or refused. Returns the tenants whose outputs were refused
    /// since the last answer. A flush that timed out is called again until it has an answer.
    ///
    /// # Errors
    /// A timeout ([`KafkaError::is_timeout`]); anything else says that outputs are lost, and must be made again.
    pub fn flush(&self, timeout: Duration) -> Flushed {
        let mut flushing = self.flushing.lock();
        let answer = flushing.take().unwrap_or_else(|| {
            let (reply, answer) = bounded(1);
            if let Some(commands) = &self.commands {
                let _ = commands.send(Command::Flush(reply));
            }
            answer
        });
        match answer.recv_timeout(timeout) {
            Ok(flushed) => flushed,
            Err(RecvTimeoutError::Timeout) => {
                *flushing = Some(answer);
                let waiting = "waiting for outputs to be acknowledged";
                Err(KafkaError::new(ErrorCode::OperationTimedOut, waiting))
            }
            Err(RecvTimeoutError::Disconnected) => Err(KafkaError::new(
                ErrorCode::Fail,
                "the thread that sends outputs has ended",
            )),
        }
    }
}

impl Drop for OutputSender {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Sending {
    writer: RecordWriter,
    /// a broker that does not answer is not waited for any more
    stopping: Arc<AtomicBool>,
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
                // Who asked has gone, and with it the task.
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
        let stopping = &self.stopping;
        match self.writer.write(&mut |_| !stopping.load(Ordering::Acquire)) {
            Ok(written) => written
                .refused
                .into_iter()
                .for_each(|error| self.refuse(outputs, error)),
            Err(error) => self.refuse(outputs, error),
        }
    }

    /// What one tenant's own topic refuses is that tenant's loss; any other error is everybody's.
    fn refuse(&mut self, outputs: &[EncodedOutputs], error: WriteError) {
        match tenant_at_fault(&error, outputs.iter().map(EncodedOutputs::owner)) {
            Some(tenant) => drop(self.failed.insert(tenant, error.error.to_string())),
            // Not as what may pass: the outputs are gone.
            None => {
                let lost = format!("outputs are lost: {}", error.error);
                self.lost = Some(KafkaError::new(ErrorCode::Fail, lost));
            }
        }
    }

    fn answer(&mut self) -> Flushed {
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
