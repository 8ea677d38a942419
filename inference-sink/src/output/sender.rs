//! Sends outputs at once (`processing.guarantee=at_least_once`): one idempotent writer and one thread per task, so that a
//! slow broker stops neither the executors nor the task. What is handed over while a write is under way goes with the next,
//! and so does what comes within the producer's `linger.ms`. Handing over does not wake the thread: an executor tells it when
//! it has nothing else to do at once, so that what several models make of one event goes together.

use super::{EncodedOutputs, RefusedTopic, topic_at_fault};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use kafka_client::{ClientConfig, ErrorCode, KafkaError, RecordWriter, Remedy, WriteError};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// What was handed over and not taken yet.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// not written yet, of outputs
    bytes: AtomicUsize,
}

#[derive(Default)]
struct QueueState {
    commands: VecDeque<Command>,
    /// that something is there
    told: bool,
    closed: bool,
}

/// What goes into one write.
#[derive(Default)]
struct Gathered {
    outputs: Vec<EncodedOutputs>,
    bytes: usize,
    /// who waits for its end
    flush: Option<Sender<Flushed>>,
}

impl Queue {
    fn push(&self, command: Command) {
        self.state.lock().commands.push_back(command);
    }

    fn tell(&self) {
        self.state.lock().told = true;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits for something to write, and takes with it what comes while the first may linger. None: it is closed and empty.
    fn gather(&self, lingering: Lingering) -> Option<Gathered> {
        let mut state = self.state.lock();
        while !(state.told || state.closed) {
            self.changed.wait(&mut state);
        }
        state.told = false;
        if state.closed && state.commands.is_empty() {
            return None;
        }
        let mut gathered = Gathered::default();
        let mut until = None;
        while gathered.flush.is_none() && gathered.bytes < WRITE_BYTES {
            match state.commands.pop_front() {
                Some(Command::Outputs(outputs, handed_over)) => {
                    until.get_or_insert(handed_over + lingering.time);
                    gathered.bytes += outputs.bytes();
                    gathered.outputs.push(outputs);
                }
                Some(Command::Flush(reply)) => gathered.flush = Some(reply),
                None => {
                    let lingers = until.filter(|until| gathered.bytes < lingering.bytes && Instant::now() < *until);
                    match lingers {
                        Some(until) if !state.closed => drop(self.changed.wait_until(&mut state, until)),
                        _ => break,
                    }
                }
            }
        }
        // What is left for the next write need not be told of again.
        state.told |= !state.commands.is_empty();
        Some(gathered)
    }
}

/// Topics that have refused outputs, or why others were lost.
type Flushed = Result<Vec<RefusedTopic>, KafkaError>;

/// The sender of one task.
pub struct OutputSender {
    queue: Arc<Queue>,
    /// the answer to a flush that was not waited for to its end
    flushing: Mutex<Option<Receiver<Flushed>>>,
    thread: Option<JoinHandle<()>>,
}

impl OutputSender {
    /// Starts the writer and its thread. Outputs wait for others as the configuration's `linger.ms` and `batch.size` say.
    pub fn start(config: &ClientConfig, task: &str) -> Result<OutputSender, KafkaError> {
        let writer = RecordWriter::idempotent(config, INIT_TIMEOUT)?;
        let queue = Arc::new(Queue::default());
        let sending = Sending {
            writer,
            lingering: Lingering::of(config)?,
            queue: queue.clone(),
            failed: BTreeMap::new(),
            lost: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("outputs {task}"))
            .spawn(move || sending.run())
            .map_err(|error| KafkaError::new(ErrorCode::Fail, format!("start a thread: {error}")))?;
        Ok(OutputSender {
            queue,
            flushing: Mutex::new(None),
            thread: Some(thread),
        })
    }

    /// Hands outputs over; [`Self::tell`] before waiting for anything.
    pub fn send(&self, outputs: EncodedOutputs) {
        self.queue.bytes.fetch_add(outputs.bytes(), Ordering::Relaxed);
        self.queue.push(Command::Outputs(outputs, Instant::now()));
    }

    /// Tells the thread that outputs were handed over.
    pub fn tell(&self) {
        self.queue.tell();
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.queue.bytes.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over before is acknowledged or refused. Returns the topics that have refused outputs
    /// since the last answer. A flush that timed out is called again until it has an answer.
    ///
    /// # Errors
    /// A timeout ([`KafkaError::is_timeout`]); anything else says that outputs are lost, and must be made again.
    pub fn flush(&self, timeout: Duration) -> Flushed {
        let mut flushing = self.flushing.lock();
        let answer = flushing.take().unwrap_or_else(|| {
            let (reply, answer) = bounded(1);
            self.queue.push(Command::Flush(reply));
            self.queue.tell();
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
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Sending {
    writer: RecordWriter,
    lingering: Lingering,
    /// once it is closed, a broker that does not answer is not waited for any more
    queue: Arc<Queue>,
    /// topics that have refused outputs since the last flush
    failed: BTreeMap<Arc<str>, RefusedTopic>,
    /// why others were lost since the last flush
    lost: Option<KafkaError>,
}

impl Sending {
    fn run(mut self) {
        while let Some(gathered) = self.queue.gather(self.lingering) {
            self.write(&gathered.outputs);
            self.queue.bytes.fetch_sub(gathered.bytes, Ordering::Relaxed);
            if let Some(reply) = gathered.flush {
                // Who asked has gone, and with it the task.
                let _ = reply.send(self.answer());
            }
        }
    }

    fn write(&mut self, outputs: &[EncodedOutputs]) {
        let mut refused: Vec<Arc<str>> = Vec::new();
        for batch in outputs {
            // What is not there is not asked for again and again.
            if refused.iter().any(|topic| **topic == *batch.topic()) {
                continue;
            }
            let appended = batch.try_for_each(|record| self.writer.append(record).map(drop));
            if let Err(error) = appended {
                refused.extend(error.topic.clone());
                self.refuse(outputs, error);
            }
        }
        if outputs.is_empty() {
            return;
        }
        let queue = &self.queue;
        match self.writer.write(&mut |_| !queue.is_closed()) {
            Ok(written) => written
                .refused
                .into_iter()
                .for_each(|error| self.refuse(outputs, error)),
            Err(error) => self.refuse(outputs, error),
        }
    }

    /// What one topic refuses is the trouble of those who write to it; any other error is everybody's.
    fn refuse(&mut self, outputs: &[EncodedOutputs], error: WriteError) {
        match topic_at_fault(&error, outputs.iter().map(EncodedOutputs::topic)) {
            Some(refused) => drop(self.failed.insert(refused.topic.clone(), refused)),
            // As it is: written again they would be refused again.
            None if matches!(error.error.remedy(), Remedy::Mend | Remedy::GiveWay) => {
                self.lost = Some(error.error.while_doing("outputs are refused"));
            }
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
        Ok(failed.into_values().collect())
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
        let queue = Arc::new(Queue::default());
        let gathering = std::thread::spawn({
            let queue = queue.clone();
            move || queue.gather(LONG).unwrap()
        });
        let (reply, _answer) = bounded(1);
        for command in [
            outputs(10),
            outputs(10),
            outputs(10),
            Command::Flush(reply),
            outputs(10),
        ] {
            queue.push(command);
            queue.tell();
        }
        let gathered = gathering.join().unwrap();
        assert_eq!((gathered.outputs.len(), gathered.flush.is_some()), (3, true));
    }

    #[test]
    fn a_full_batch_waits_for_nothing_but_takes_what_is_there() {
        let queue = Queue::default();
        for bytes in [2_000, 10, 10, 10] {
            queue.push(outputs(bytes));
        }
        queue.tell();
        assert_eq!(queue.gather(LONG).unwrap().outputs.len(), 4);
        assert!(queue.state.lock().commands.is_empty());
    }

    #[test]
    fn what_is_left_behind_a_flush_is_not_waited_for() {
        let queue = Queue::default();
        let (reply, _answer) = bounded(1);
        for command in [outputs(2_000), Command::Flush(reply), outputs(2_000)] {
            queue.push(command);
        }
        queue.tell();
        assert_eq!(queue.gather(LONG).unwrap().outputs.len(), 1);
        assert_eq!(queue.gather(LONG).unwrap().outputs.len(), 1);
    }

    #[test]
    fn nothing_lingers_once_the_task_has_gone() {
        let queue = Queue::default();
        queue.push(outputs(10));
        queue.push(outputs(10));
        queue.close();
        assert_eq!(queue.gather(LONG).unwrap().outputs.len(), 2);
        assert!(queue.gather(LONG).is_none());
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
