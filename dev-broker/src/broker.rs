//! The broker's life: start on a thread of its own, stop, kill.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::cleaner;
use crate::config::{DevBrokerConfig, DevBrokerError};
use crate::connection;
use crate::faults::{Fault, Faults};
use crate::groups::coordinator::{GroupCoordinator, GroupLimits};
use crate::restored::{Restored, RestoredTopic};
use crate::state::{Broker, open_partition};
use crate::storage::DataDirectory;
use crate::storage::journal::Journal;
use crate::topic_config::TopicConfig;
use crate::topics::{Topic, Topics};
use crate::transactions::TransactionCoordinator;

/// A running broker. It runs on a thread of its own and stops when this is dropped.
#[derive(Debug)]
pub struct DevBroker {
    address: SocketAddr,
    broker: Arc<Broker>,
    shutdown: watch::Sender<bool>,
    stopped: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DevBroker {
    /// Starts a broker, on its data directory if it has one. It takes requests when this returns.
    ///
    /// # Errors
    /// When it cannot listen, or cannot read its data directory.
    pub fn start(config: DevBrokerConfig) -> Result<DevBroker, DevBrokerError> {
        let listen = config.listen;
        let listen_error = |source| DevBrokerError::Listen { listen, source };
        let listener = StdListener::bind(listen).map_err(listen_error)?;
        listener.set_nonblocking(true).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let path = config.data_dir.clone().unwrap_or_default();
        let built = build(config, address);
        let broker = Arc::new(built.map_err(|source| DevBrokerError::DataDirectory { path, source })?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DevBrokerError::Thread)?;
        let (shutdown, is_shut_down) = watch::channel(false);
        let (has_stopped, stopped) = oneshot::channel();
        let served = broker.clone();
        let thread = std::thread::Builder::new()
            .name("dev-broker".to_owned())
            .spawn(move || {
                runtime.block_on(serve(served, listener, is_shut_down));
                // Connections are cut here, whatever they are waiting for.
                runtime.shutdown_timeout(Duration::from_secs(1));
                let _ = has_stopped.send(());
            })
            .map_err(DevBrokerError::Thread)?;
        tracing::info!(
            %address,
            data_dir = ?broker.config.data_dir,
            "development broker started: for demos and tests, one node, never for production"
        );
        let stopped = Some(stopped);
        Ok(DevBroker {
            address,
            broker,
            shutdown,
            stopped,
            thread: Some(thread),
        })
    }

    /// `HOST:PORT` for clients' `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let host = self.broker.host.as_str();
        let port = self.broker.port;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has requests fail from now on as `fault` says.
    pub fn inject(&self, fault: Fault) {
        self.broker.faults.inject(fault);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.broker.faults.clear();
    }

    /// Compacts a topic now. Blocking: meant for tests; the broker does it by itself too.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `POLICY_VIOLATION` when the topic's `cleanup.policy` is not
    /// `compact`, `CORRUPT_MESSAGE` when a batch cannot be read.
    pub fn compact(&self, topic: &str) -> Result<(), ResponseError> {
        cleaner::compact_topic(&self.broker, topic)
    }

    /// Stops it: no new requests, connections are closed. Everything is in its files by then.
    pub async fn stop(mut self) {
        self.shutdown.send_replace(true);
        if let Some(stopped) = self.stopped.take() {
            // An error is a thread that is gone already.
            let _ = stopped.await;
        }
        self.join();
        tracing::info!(address = %self.address, "development broker stopped");
    }

    /// Ends it at once, in the middle of whatever it does, as a crash would.
    pub fn kill(mut self) {
        self.shutdown.send_replace(true);
        self.join();
        tracing::info!(address = %self.address, "development broker killed");
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the development broker panicked");
        }
    }
}

impl Drop for DevBroker {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        self.join();
    }
}

fn build(config: DevBrokerConfig, address: SocketAddr) -> io::Result<Broker> {
    let data = config.data_dir.as_deref().map(DataDirectory::open).transpose()?;
    let mut restored = match &data {
        Some(data) => Restored::from_entries(Journal::read(data.path())?),
        None => Restored::default(),
    };
    let cluster_id = restored
        .cluster_id
        .get_or_insert_with(|| Uuid::new_v4().simple().to_string())
        .clone();
    let journal = match &data {
        Some(data) => {
            data.remove_unknown_topics(restored.topics.values().map(|topic| topic.id))?;
            Journal::rewrite(data.path(), &restored.entries())?
        }
        None => Journal::default(),
    };
    let topics = Arc::new(Topics::default());
    for (name, topic) in restored.topics {
        topics.insert(Arc::new(open_topic(data.as_ref(), name, topic)?));
    }
    let limits = GroupLimits {
        min_session_timeout: config.group_min_session_timeout,
        max_session_timeout: config.group_max_session_timeout,
        initial_rebalance_delay: config.group_initial_rebalance_delay,
    };
    let groups = Arc::new(GroupCoordinator::new(limits, journal.clone(), restored.groups));
    let transactions = TransactionCoordinator::new(
        restored.transactions,
        topics.clone(),
        groups.clone(),
        journal.clone(),
        config.transaction_max_timeout,
    );
    let advertised = config.advertised.unwrap_or(address);
    Ok(Broker {
        cluster_id: StrBytes::from_string(cluster_id),
        host: StrBytes::from_string(advertised.ip().to_string()),
        port: i32::from(advertised.port()),
        topics,
        groups,
        transactions,
        journal,
        data,
        faults: Faults::default(),
        config,
    })
}

fn open_topic(data: Option<&DataDirectory>, name: String, topic: RestoredTopic) -> io::Result<Topic> {
    let config =
        TopicConfig::new(topic.config).map_err(|message| io::Error::new(io::ErrorKind::InvalidData, message))?;
    let partitions = (0..topic.partitions).map(|index| {
        let log_start_offset = topic.log_starts.get(&index).copied().unwrap_or(0);
        let index = usize::try_from(index).unwrap_or(0);
        open_partition(data, topic.id, index, &config, log_start_offset)
    });
    let partitions = partitions.collect::<io::Result<Vec<_>>>()?;
    Ok(Topic::new(StrBytes::from_string(name), topic.id, partitions, config))
}

async fn serve(broker: Arc<Broker>, listener: StdListener, mut shutdown: watch::Receiver<bool>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the development broker cannot take connections");
            return;
        }
    };
    tokio::select! {
        () = accept(&broker, listener) => {}
        () = broker.groups.run_timers() => {}
        () = broker.transactions.run_timers() => {}
        () = cleaner::run(broker.clone(), broker.config.cleaner_interval) => {}
        _ = shutdown.wait_for(|shut_down| *shut_down) => {}
    }
}

async fn accept(broker: &Arc<Broker>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection::serve(broker.clone(), stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
