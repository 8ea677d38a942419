//! Sends outputs at once (`processing.guarantee=at_least_once`): one idempotent writer and one thread per task, so that a
//! slow broker stops neither the executors nor the task. What is handed over while a write is under way goes with the next,
//! and so does what comes within the producer's `linger.ms`.

use super::{EncodedOutputs, tenant_at_fault};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use kafka_client::{ClientConfig, ErrorCode, KafkaError, RecordWriter, WriteError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time that the first look for a broker has.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that go into one write.
const WRITE_BYTES: usize = 8 << 20;
/// `linger.ms` where it is not set: that of Kafka's producer since 4.0 (KIP-1030).
const LINGER: Duration = Duration::from_millis(5);
/// `batch.size` where it is not set: that of Kafka's producer.
const BATCH_SIZE: usize = 16_384;

/// Why a tenant's outputs could not be sent.
#[derive(Clone, Debug)]
pub struct OutputFailure {
    /// the tenant
    pub tenant: Arc<str>,
    /// the error
    pub error: String,
}

enum Command {
    /// and when they were handed over
    Outputs(EncodedOutputs, Instant),
    Flush(Sender<Flushed>),
}

/// How long outputs wait for others to go with them, as Kafka's producer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lingering {
    /// `linger.ms`
    time: Duration,
    /// `batch.size`: so many bytes wait no longer
    bytes: usize,
}

impl Lingering {
    fn of(config: &ClientConfig) -> Result<Lingering, KafkaError> {
        let number = |option: &str| {
            let text = config.get(option).map(str::trim);
            let wrong = |_| {
                KafkaError::new(
                    ErrorCode::InvalidConfig,
                    format!("option {option}: not a number from 0 on"),
                )
            };
            text.map(|text| text.parse::<u32>().map_err(wrong)).transpose()
        };
        let time = number("linger.ms")?.map(|millis| Duration::from_millis(millis.into()));
        Ok(Lingering {
            time: time.unwrap_or(LINGER),
            bytes: number("batch.size")?.map_or(BATCH_SIZE, |bytes| bytes as usize),
        })
    }
}

/// What goes into one write.
#[derive(Default)]
struct Gathered {
    outputs: Vec<EncodedOutputs>,
    bytes: usize,
    /// who waits for its end
    flush: Option<Sender<Flushed>>,
}

impl Gathered {
    /// Takes what is there, and what comes while the first may linger.
    fn gather(first: Command, commands: &Receiver<Command>, lingering: Lingering) -> Gathered {
        let mut gathered = Gathered::default();
        let mut until = None;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Outputs(outputs, handed_over) => {
                    until.get_or_insert(handed_over + lingering.time);
                    gathered.bytes += outputs.bytes();
                    gathered.outputs.push(outputs);
                }
                Command::Flush(reply) => gathered.flush = Some(reply),
            }
            next = match until {
                _ if gathered.flush.is_some() || gathered.bytes >= WRITE_BYTES => None,
                Some(until) if gathered.bytes < lingering.bytes => commands.recv_deadline(until).ok(),
                _ => commands.try_recv().ok(),
            };
        }
        gathered
    }
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
    /// Starts the writer and its thread. Outputs wait for others as the configuration's `linger.ms` and `batch.size` say.
    pub fn start(config: &ClientConfig, task: &str) -> Result<OutputSender, KafkaError> {
        let writer = RecordWriter::idempotent(config, INIT_TIMEOUT)?;
        let (commands, received) = unbounded();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let sending = Sending {
            writer,
            lingering: Lingering::of(config)?,
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
            let _ = commands.send(Command::Outputs(outputs, Instant::now()));
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
    lingering: Lingering,
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
            let gathered = Gathered::gather(first, commands, self.lingering);
            self.write(&gathered.outputs);
            self.waiting_bytes.fetch_sub(gathered.bytes, Ordering::Relaxed);
            if let Some(reply) = gathered.flush {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::tests::a_model;

    fn outputs(bytes: usize) -> Command {
        Command::Outputs(EncodedOutputs::of_size(a_model(), bytes), Instant::now())
    }

    /// Longer than a test may take.
    const LONG: Lingering = Lingering {
        time: Duration::from_secs(3_600),
        bytes: 1_000,
    };

    #[test]
    fn what_comes_while_the_first_lingers_goes_with_it_until_somebody_waits() {
        let (sender, commands) = unbounded();
        let gathering = std::thread::spawn(move || Gathered::gather(outputs(10), &commands, LONG));
        let (reply, _answer) = bounded(1);
        for command in [outputs(10), outputs(10), Command::Flush(reply), outputs(10)] {
            let _ = sender.send(command);
        }
        let gathered = gathering.join().unwrap();
        assert_eq!((gathered.outputs.len(), gathered.flush.is_some()), (3, true));
    }

    #[test]
    fn a_full_batch_waits_for_nothing_but_takes_what_is_there() {
        let (sender, commands) = unbounded();
        for _ in 0..3 {
            let _ = sender.send(outputs(10));
        }
        let gathered = Gathered::gather(outputs(2_000), &commands, LONG);
        assert_eq!((gathered.outputs.len(), commands.len()), (4, 0));
    }

    #[test]
    fn nothing_lingers_once_the_task_has_gone() {
        let (sender, commands) = unbounded();
        let _ = sender.send(outputs(10));
        drop(sender);
        let gathered = Gathered::gather(outputs(10), &commands, LONG);
        assert_eq!(gathered.outputs.len(), 2);
    }

    #[test]
    fn the_options_are_those_of_kafkas_producer() {
        let mut config = ClientConfig::new("localhost:9092");
        let of = |config: &ClientConfig| Lingering::of(config).map(|l| (l.time.as_millis(), l.bytes));
        assert_eq!(of(&config).unwrap(), (5, 16_384));
        config.set("linger.ms", "0").set("batch.size", "100");
        assert_eq!(of(&config).unwrap(), (0, 100));
        config.set("linger.ms", "soon");
        let error = of(&config).unwrap_err().to_string();
        assert!(error.contains("linger.ms"), "{error}");
    }
}
