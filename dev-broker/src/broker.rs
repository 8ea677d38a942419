//! The broker's life: start on a thread of its own, stop, kill.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::config::{DevBrokerConfig, DevBrokerError};
use crate::connection;
use crate::faults::{Fault, Faults};
use crate::groups::coordinator::{GroupCoordinator, GroupLimits};
use crate::state::Broker;
use crate::storage::journal::Journal;
use crate::topics::Topics;
use crate::transactions::{TransactionCoordinator, Transactions};

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
        let broker = Arc::new(build(config, address));
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

fn build(config: DevBrokerConfig, address: SocketAddr) -> Broker {
    let advertised = config.advertised.unwrap_or(address);
    let limits = GroupLimits {
        min_session_timeout: config.group_min_session_timeout,
        max_session_timeout: config.group_max_session_timeout,
        initial_rebalance_delay: config.group_initial_rebalance_delay,
    };
    let journal = Journal::default();
    let topics = Arc::new(Topics::default());
    let groups = Arc::new(GroupCoordinator::new(limits, journal.clone()));
    let transactions = TransactionCoordinator::new(
        Transactions::default(),
        topics.clone(),
        groups.clone(),
        journal.clone(),
        config.transaction_max_timeout,
    );
    Broker {
        cluster_id: StrBytes::from_string(Uuid::new_v4().simple().to_string()),
        host: StrBytes::from_string(advertised.ip().to_string()),
        port: i32::from(advertised.port()),
        topics,
        groups,
        transactions,
        journal,
        faults: Faults::default(),
        config,
    }
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
