//! A consumer's queue, drained in batches: `rd_kafka_consume_batch_queue`.
//!
//! librdkafka waits until a batch is *full* or the timeout has passed. So whoever wants little latency asks twice: for what
//! is there (timeout 0), and, if that was nothing, for one message with a timeout.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rdkafka_sys as sys;

use super::client::{self, Client};
use super::message::{Message, Messages};
use super::native_error;
use crate::error::{ErrorCode, KafkaError};
use crate::topic_partition::TopicPartition;

/// Messages that one call takes at most, which bounds the pointers held between C and Rust.
const MAX_BATCH: usize = 65_536;

/// One thing that a queue yields.
pub(crate) enum Polled<'a> {
    /// The first message of a partition after others, or after nothing.
    Partition(&'a Message),
    /// All records below this offset, where the partition ends for now, have been yielded.
    EndOfPartition(TopicPartition, i64),
    Error(KafkaError),
}

/// The queue of a consumer: its messages and what librdkafka has to tell it.
pub(crate) struct BatchQueue {
    handle: Arc<QueueHandle>,
    /// Memory for the pointers of one batch, kept between calls.
    scratch: Mutex<Pointers>,
}

/// A reference to the queue, given back before its client is destroyed.
struct QueueHandle {
    queue: NonNull<sys::rd_kafka_queue_t>,
    client: Arc<Client>,
}

/// Ends a `take` from any thread, as long as the queue is there; keeps nothing alive.
#[derive(Clone)]
pub(crate) struct QueueWaker(Weak<QueueHandle>);

#[derive(Default)]
struct Pointers(Vec<*mut sys::rd_kafka_message_t>);
// SAFETY: empty between calls (the memory is kept, the pointers are not).
unsafe impl Send for Pointers {}

// SAFETY: librdkafka's queues are thread-safe, and so is the client.
unsafe impl Send for QueueHandle {}
// SAFETY: as above.
unsafe impl Sync for QueueHandle {}

impl BatchQueue {
    /// The queue of a consumer's client. Events of the client as a whole are forwarded to it as well.
    pub(crate) fn of_consumer(client: Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client is a consumer that is alive.
        let queue = unsafe {
            native_error::check(sys::rd_kafka_poll_set_consumer(client.as_ptr()) as i32, || {
                "redirect the main queue".to_owned()
            })?;
            sys::rd_kafka_queue_get_consumer(client.as_ptr())
        };
        let queue = NonNull::new(queue)
            .ok_or_else(|| KafkaError::new(ErrorCode::UnknownGroup, "the consumer has no group.id"))?;
        client.callbacks().yield_on_event(queue.as_ptr());
        Ok(Self {
            handle: Arc::new(QueueHandle { queue, client }),
            scratch: Mutex::default(),
        })
    }

    /// Waits until `max` things have come, the timeout has passed, or the queue is yielded. Messages go to `messages`, which has
    /// none of another queue; `tell` hears of everything else. Callbacks run inside.
    pub(crate) fn take(
        &self,
        max: usize,
        timeout_ms: i32,
        messages: &mut Messages,
        mut tell: impl FnMut(Polled<'_>),
    ) -> Result<usize, KafkaError> {
        let max = max.clamp(1, MAX_BATCH);
        let mut pointers = std::mem::take(&mut *self.scratch.lock());
        pointers.0.clear();
        pointers.0.reserve(max);
        // SAFETY: there is room for `max` pointers; librdkafka fills the first `count` of them with messages that are then
        // ours.
        let count = unsafe {
            let count = sys::rd_kafka_consume_batch_queue(self.as_ptr(), timeout_ms, pointers.0.as_mut_ptr(), max);
            usize::try_from(count).inspect(|count| pointers.0.set_len((*count).min(max)))
        };
        let result = count.map_err(|_| KafkaError::new(ErrorCode::Fail, "fetch a batch"));
        for raw in pointers.0.drain(..) {
            if let Some(raw) = NonNull::new(raw) {
                // SAFETY: yielded just now by our client's queue and handed over once.
                unsafe { self.own(raw, messages, &mut tell) };
            }
        }
        *self.scratch.lock() = pointers;
        result
    }

    /// # Safety
    /// `raw` was yielded by this queue and is handed over.
    unsafe fn own(
        &self,
        raw: NonNull<sys::rd_kafka_message_t>,
        messages: &mut Messages,
        tell: &mut impl FnMut(Polled<'_>),
    ) {
        // SAFETY: a yielded message is initialised; its code is read as an integer. An event of a whole client has no topic.
        unsafe {
            let number = native_error::read_code(&raw const (*raw.as_ptr()).err);
            if number == 0 {
                messages.push(raw, self.client());
                match messages.as_ref() {
                    [.., before, new] if before.same_partition(new) => {}
                    [.., new] => tell(Polled::Partition(new)),
                    [] => {}
                }
                return;
            }
            let event = OwnedEvent(raw);
            let message = event.0.as_ptr();
            let topic = (*message).rkt;
            let partition = (!topic.is_null()).then(|| {
                TopicPartition::new(
                    native_error::text(sys::rd_kafka_topic_name(topic)),
                    (*message).partition,
                )
            });
            tell(match (native_error::code(number), partition) {
                (ErrorCode::PartitionEOF, Some(partition)) => Polled::EndOfPartition(partition, (*message).offset),
                (_, partition) => {
                    let detail = native_error::text(sys::rd_kafka_message_errstr(message));
                    let place = partition.map(|p| format!("fetch from {p}: ")).unwrap_or_default();
                    let error = native_error::from_number(number, format!("{place}{detail}"));
                    Polled::Error(if error.is_fatal() {
                        self.client().fatal_error().unwrap_or(error)
                    } else {
                        error
                    })
                }
            });
        }
    }

    /// Ends a `take` in progress, or the next one, once nothing is left to take.
    pub(crate) fn waker(&self) -> QueueWaker {
        QueueWaker(Arc::downgrade(&self.handle))
    }

    /// Has `ready` called whenever the queue stops being empty, on a librdkafka thread. Once per queue.
    pub(crate) fn on_ready(&self, ready: Box<dyn Fn() + Send + Sync>) -> Result<(), KafkaError> {
        let callbacks = self.client().callbacks();
        callbacks
            .ready
            .set(ready)
            .map_err(|_| KafkaError::new(ErrorCode::State, "the consumer has a listener for arriving messages"))?;
        // SAFETY: the opaque pointer is the client's box, which outlives the queue; disabled again when the queue is dropped.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(
                self.as_ptr(),
                Some(client::on_ready),
                std::ptr::from_ref(callbacks).cast_mut().cast(),
            );
        }
        Ok(())
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.handle.client
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.handle.queue.as_ptr()
    }
}

impl QueueWaker {
    pub(crate) fn wake(&self) {
        if let Some(handle) = self.0.upgrade() {
            // SAFETY: the queue is alive and thread-safe.
            unsafe { sys::rd_kafka_queue_yield(handle.queue.as_ptr()) }
        }
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, before the client. Nobody polls any more, so no callback uses it afterwards.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, std::ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// A yielded message that carries an error or an event, freed after reading.
struct OwnedEvent(NonNull<sys::rd_kafka_message_t>);

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}
