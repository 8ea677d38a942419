//! Sends outputs at once (`processing.guarantee=at_least_once`): one idempotent producer and one thread per task, so that
//! a full buffer or a slow broker stops neither the executors nor the task.

use super::EncodedOutputs;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use kafka_client::{ClientConfig, Deliveries, KafkaError, Producer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

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
    Flush(Duration, Sender<Result<(), KafkaError>>),
}

/// The sender of one task.
pub struct OutputSender {
    commands: Option<Sender<Command>>,
    failures: Arc<Failures>,
    waiting_bytes: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Failures by token; a token stands for a tenant.
#[derive(Default)]
struct Failures {
    tokens: Mutex<Vec<Arc<str>>>,
    failed: Mutex<BTreeMap<Arc<str>, String>>,
}

impl Failures {
    /// Token 0 is nobody's, so tenants count from 1.
    fn token(&self, tenant: &str) -> u64 {
        let mut tokens = self.tokens.lock();
        let index = match tokens.iter().position(|known| &**known == tenant) {
            Some(index) => index,
            None => {
                tokens.push(tenant.into());
                tokens.len() - 1
            }
        };
        index as u64 + 1
    }
}

impl Deliveries for Failures {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        if let Err(error) = result {
            let index = usize::try_from(token).ok().and_then(|token| token.checked_sub(1));
            let tenant = index.and_then(|index| self.tokens.lock().get(index).cloned());
            if let Some(tenant) = tenant {
                self.failed.lock().insert(tenant, error.to_string());
            }
        }
    }
}

impl OutputSender {
    /// Starts the producer and its thread.
    pub fn start(config: &ClientConfig, task: &str) -> Result<OutputSender, KafkaError> {
        let failures = Arc::new(Failures::default());
        let producer = Producer::new(config, failures.clone())?;
        let (commands, received) = unbounded();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let (thread_failures, thread_bytes) = (failures.clone(), waiting_bytes.clone());
        let thread = std::thread::Builder::new()
            .name(format!("outputs {task}"))
            .spawn(move || send_all(&producer, &received, &thread_failures, &thread_bytes))
            .map_err(|error| KafkaError::new(kafka_client::ErrorCode::Fail, format!("start a thread: {error}")))?;
        Ok(OutputSender {
            commands: Some(commands),
            failures,
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

    /// Bytes that wait for the producer.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over is acknowledged or has failed. Returns the tenants that had failures since the
    /// last call.
    pub fn flush(&self, timeout: Duration) -> Result<Vec<OutputFailure>, KafkaError> {
        let (reply, answer) = bounded(1);
        if let Some(commands) = &self.commands {
            let _ = commands.send(Command::Flush(timeout, reply));
        }
        let timed_out = || {
            KafkaError::new(
                kafka_client::ErrorCode::OperationTimedOut,
                "waiting for outputs to be acknowledged",
            )
        };
        answer
            .recv_timeout(timeout + Duration::from_secs(1))
            .map_err(|_| timed_out())??;
        let failed = std::mem::take(&mut *self.failures.failed.lock());
        Ok(failed
            .into_iter()
            .map(|(tenant, error)| OutputFailure { tenant, error })
            .collect())
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

fn send_all(producer: &Producer, commands: &Receiver<Command>, failures: &Failures, waiting_bytes: &AtomicUsize) {
    for command in commands {
        match command {
            Command::Outputs(outputs) => {
                let tenant = outputs.model.document.tenant.as_str();
                let token = failures.token(tenant);
                let sent = outputs.try_for_each(|record| producer.send_waiting(record, token, Duration::from_secs(60)));
                waiting_bytes.fetch_sub(outputs.bytes(), Ordering::Relaxed);
                if let Err(error) = sent {
                    failures.failed.lock().insert(tenant.into(), error.to_string());
                }
            }
            Command::Flush(timeout, reply) => {
                let _ = reply.send(producer.flush(timeout));
            }
        }
    }
    if let Err(error) = producer.flush(Duration::from_secs(5)) {
        tracing::warn!(error = %error, "outputs were not acknowledged before the task closed; they are made again");
    }
}
