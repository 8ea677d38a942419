//! Heartbeats go on whatever a connector does: here one that blocks every thread that its worker has for tasks, REST and
//! the herder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use async_trait::async_trait;
use connect_api::{
    ConfigDef, ConfigMap, ConnectError, Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, SourceRecord,
    SourceTask, SourceTaskContext, Task,
};
use connect_runtime::logging::Loggers;
use connect_runtime::{Plugins, Worker};
use kafka_client::RawConnection;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;
use serde_json::json;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;

const PATIENCE: Duration = Duration::from_secs(60);
const SESSION: Duration = Duration::from_secs(6);
const THREADS: usize = 2;

/// Blocks threads until it is opened.
#[derive(Default)]
struct Gate {
    /// threads that are blocked, and whether any is to be
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn block(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn wait_for_blocked(&self, threads: usize) {
        let state = self.state.lock().unwrap();
        let (state, timed_out) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.0 < threads)
            .unwrap();
        assert!(!timed_out.timed_out(), "{} threads are blocked", state.0);
    }
}

struct Blocking(Arc<Gate>);

#[async_trait]
impl ConnectorPlugin for Blocking {
    fn class(&self) -> &'static str {
        "test.BlockingConnector"
    }

    fn task_class(&self) -> &'static str {
        "test.BlockingTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Source
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(OfTasks)
    }

    fn task(&self) -> Task {
        Task::Source(Box::new(BlockingTask(Arc::clone(&self.0))))
    }
}

struct OfTasks;

#[async_trait]
impl Connector for OfTasks {
    async fn start(&mut self, _context: ConnectorContext) -> Result<(), ConnectError> {
        Ok(())
    }

    fn task_configs(&self, max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        Ok(vec![ConfigMap::new(); max_tasks])
    }

    async fn stop(&mut self) {}
}

struct BlockingTask(Arc<Gate>);

#[async_trait]
impl SourceTask for BlockingTask {
    async fn start(&mut self, _context: SourceTaskContext) -> Result<(), ConnectError> {
        Ok(())
    }

    /// What no task should do: its thread is the runtime's.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>, ConnectError> {
        self.0.block();
        std::future::pending().await
    }

    async fn stop(&mut self) {}
}

fn properties(broker: &KafkaBroker) -> ConfigMap {
    let string = "org.apache.kafka.connect.storage.StringConverter";
    [
        ("bootstrap.servers", broker.bootstrap().as_str()),
        ("group.id", "liveness"),
        ("key.converter", string),
        ("value.converter", string),
        ("config.storage.topic", "liveness-configs"),
        ("offset.storage.topic", "liveness-offsets"),
        ("status.storage.topic", "liveness-status"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "500"),
        ("listeners", "http://127.0.0.1:0"),
    ]
    .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
    .into_iter()
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_threads_are_all_blocked_stays_a_member() {
    let broker = KafkaBroker::shared().await.unwrap();
    let gate = Arc::new(Gate::default());
    let mut plugins = Plugins::builtin();
    plugins.connectors.push(Arc::new(Blocking(Arc::clone(&gate))));
    let properties = properties(broker);
    // a runtime of the worker's own: its threads are going to be blocked
    let (started, worker) = tokio::sync::oneshot::channel();
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let starting = Worker::start(&properties, Arc::new(plugins), Loggers::detached())
                .await
                .unwrap();
            let worker = starting.finish().await.unwrap();
            started.send(worker.id().to_owned()).unwrap();
            let _ = stopping.await;
            worker.stop().await;
        });
    });
    let url = format!("http://{}", worker.await.unwrap());
    let http = reqwest::Client::new();
    let connector = json!({
        "name": "blocking", "config": { "connector.class": "test.BlockingConnector", "tasks.max": THREADS },
    });
    let created = http
        .post(format!("{url}/connectors"))
        .json(&connector)
        .send()
        .await
        .unwrap();
    assert_eq!(created.status().as_u16(), 201, "{}", created.text().await.unwrap());
    let blocked = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || blocked.wait_for_blocked(THREADS))
        .await
        .unwrap();

    let coordinator = RawConnection::connect(&broker.bootstrap()).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < SESSION * 2 {
        let request =
            DescribeGroupsRequest::default().with_groups(vec![GroupId(StrBytes::from_static_str("liveness"))]);
        let group = coordinator.call(&request, 5).await.unwrap().groups.remove(0);
        let members = (group.group_state.as_str(), group.members.len());
        assert_eq!(members, ("Stable", 1), "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gate.open();
    let status = http
        .get(format!("{url}/connectors/blocking/status"))
        .send()
        .await
        .unwrap();
    assert_eq!(status.status().as_u16(), 200);
    stop.send(()).unwrap();
    tokio::task::spawn_blocking(move || thread.join().unwrap())
        .await
        .unwrap();
}
