//! Producers shared by source tasks with the same settings: a thousand small connectors need one client, not a thousand.
//!
//! ```text
//!   task A --route 1--.                        .--> delivered(token of A) -> A's inbox
//!   task B --route 2--+--> one Producer -------+--> delivered(token of B) -> B's inbox
//! ```
//! A token is the route in its upper 24 bits and the task's own ticket in its lower 40.

use crate::running::{client_config, kafka_error};
use connect_api::ConnectError;
use indexmap::IndexMap;
use kafka_client::{Deliveries, KafkaError, Producer, ProducerRecord, SendError};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use tokio::sync::Notify;

const TICKET_BITS: u32 = 40;
const TICKET_MASK: u64 = (1 << TICKET_BITS) - 1;

/// Delivery reports of one task: its ticket (lower 40 bits) and what became of it.
#[derive(Default)]
pub(super) struct Inbox {
    reports: Mutex<Vec<(u64, Result<(), KafkaError>)>>,
    arrived: Notify,
}

impl Inbox {
    /// What arrived since the last call.
    pub(super) fn take(&self) -> Vec<(u64, Result<(), KafkaError>)> {
        std::mem::take(&mut *self.reports.lock())
    }

    /// Waits until something arrives after the last `take`.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

#[derive(Default)]
struct Routes {
    inboxes: RwLock<FxHashMap<u64, Arc<Inbox>>>,
    next: AtomicU64,
}

impl Deliveries for Routes {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        let inbox = self.inboxes.read().get(&(token >> TICKET_BITS)).cloned();
        if let Some(inbox) = inbox {
            inbox.reports.lock().push((token & TICKET_MASK, result.map(drop)));
            inbox.arrived.notify_one();
        }
    }
}

struct SharedProducer {
    producer: Producer,
    routes: Arc<Routes>,
}

type Settings = Vec<(String, String)>;

static POOL: LazyLock<Mutex<FxHashMap<Settings, Weak<SharedProducer>>>> = LazyLock::new(Mutex::default);

/// A task's share of a producer.
pub(super) struct TaskProducer {
    shared: Arc<SharedProducer>,
    route: u64,
    pub(super) inbox: Arc<Inbox>,
}

impl TaskProducer {
    /// A share of the producer with `settings`, which is made if no task has one. The client id does not count: the
    /// producer has that of the task that came first.
    pub(super) fn open(settings: &IndexMap<String, String>) -> Result<Self, ConnectError> {
        let mut key: Settings = settings
            .iter()
            .filter(|(name, _)| *name != "client.id")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        key.sort_unstable();
        let mut pool = POOL.lock();
        let shared = match pool.get(&key).and_then(Weak::upgrade) {
            Some(shared) => shared,
            None => {
                let routes = Arc::new(Routes::default());
                let deliveries: Arc<dyn Deliveries> = Arc::clone(&routes) as Arc<dyn Deliveries>;
                let producer = Producer::new(&client_config(settings), deliveries).map_err(kafka_error)?;
                let shared = Arc::new(SharedProducer { producer, routes });
                pool.retain(|_, shared| shared.strong_count() > 0);
                pool.insert(key, Arc::downgrade(&shared));
                shared
            }
        };
        drop(pool);
        let route = shared.routes.next.fetch_add(1, Ordering::Relaxed);
        let inbox = Arc::new(Inbox::default());
        shared.routes.inboxes.write().insert(route, Arc::clone(&inbox));
        Ok(Self { shared, route, inbox })
    }

    /// Sends a record; what becomes of it arrives in the inbox under `ticket`.
    pub(super) fn send(&self, record: &ProducerRecord<'_>, ticket: u64) -> Result<(), SendError> {
        self.shared
            .producer
            .send(record, self.route << TICKET_BITS | (ticket & TICKET_MASK))
    }

    /// The ticket, where `report` is its lower 40 bits and `newest` the newest ticket there is.
    pub(super) fn ticket(report: u64, newest: u64) -> u64 {
        let upper = newest & !TICKET_MASK;
        match upper | report {
            ticket if ticket > newest => ticket.wrapping_sub(1 << TICKET_BITS),
            ticket => ticket,
        }
    }
}

impl Drop for TaskProducer {
    fn drop(&mut self) {
        self.shared.routes.inboxes.write().remove(&self.route);
    }
}
