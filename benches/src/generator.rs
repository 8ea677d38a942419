//! The program that events come from: what is handed over while a request is under way goes with the next one, all partitions
//! together, as a Java producer with `linger.ms=0` does it. (librdkafka sends a request for each partition, which would cost
//! the broker more than the worker does.)

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use kafka_client::{ClientConfig, ProducerRecord, RecordWriter};
use std::thread::JoinHandle;
use std::time::Duration;

/// What one request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends from a thread of its own.
pub struct Generator {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<Result<()>>>,
}

enum Command {
    Send(Event),
    Flush(Sender<()>),
}

/// One record.
pub struct Event {
    /// where it goes; the partition by the key, as Java has it
    pub topic: String,
    /// the key
    pub key: String,
    /// the value
    pub value: String,
}

impl Generator {
    /// Connects, and starts the thread.
    pub fn start(bootstrap: &str) -> Result<Generator> {
        let writer = RecordWriter::idempotent(&ClientConfig::new(bootstrap), PATIENCE)?;
        let (commands, received) = unbounded();
        let thread = std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || run(writer, &received))?;
        Ok(Generator {
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// Hands a record over.
    pub fn send(&self, event: Event) -> Result<()> {
        self.command(Command::Send(event))
    }

    /// Waits until everything handed over is there.
    pub fn flush(&self) -> Result<()> {
        let (reply, answer) = bounded(1);
        self.command(Command::Flush(reply))?;
        answer.recv().context("the generator has failed; see above")
    }

    fn command(&self, command: Command) -> Result<()> {
        let commands = self.commands.as_ref().context("the generator has ended")?;
        commands
            .send(command)
            .map_err(|_| anyhow!("the generator has failed; see above"))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut writer: RecordWriter, commands: &Receiver<Command>) -> Result<()> {
    let sent = (|| -> Result<()> {
        while let Ok(first) = commands.recv() {
            let mut flushed = Vec::new();
            for command in std::iter::once(first).chain(commands.try_iter()) {
                match command {
                    Command::Send(event) => {
                        let record = ProducerRecord {
                            topic: &event.topic,
                            key: Some(event.key.as_bytes()),
                            value: Some(event.value.as_bytes()),
                            ..ProducerRecord::default()
                        };
                        writer.append(&record)?;
                    }
                    Command::Flush(reply) => flushed.push(reply),
                }
            }
            let written = writer.write(&mut |_| true)?;
            if let Some(refused) = written.refused.into_iter().next() {
                return Err(refused.into());
            }
            for reply in flushed {
                let _ = reply.send(());
            }
        }
        Ok(())
    })();
    if let Err(error) = &sent {
        eprintln!("events could not be sent: {error:#}");
    }
    sent
}
