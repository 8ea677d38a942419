//! What a global store promises over any broker, as scenarios: the same for the development broker and for Apache Kafka.
//!
//! ```text
//!  tests/global_store_dev.rs   -> global_store_scenarios!(start a DevBroker)   --\
//!                                                                                 scenarios -> Feeder -> GlobalStore
//!  tests/global_store_kafka.rs -> global_store_scenarios!(start a KafkaBroker) --/
//! ```
//! A scenario gets a running broker and uses topics of its own; those under `outage` get a broker for themselves.

pub mod copy;
pub mod made_again;
pub mod outage;
pub mod transactions;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use connect_api::catalog_marker::{HEADER, KEY_TEXT, Marker};
use kafka_client::{Admin, ClientConfig, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord};
use state_store::{
    Database, Feeder, FeederConfig, Gate, GlobalSpec, GlobalStatus, GlobalStore, MemoryBudget, RowFormat,
};

/// Nothing that a scenario waits for takes longer than this, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A store that is fed from a topic.
pub struct Fed {
    /// The store.
    pub store: Arc<GlobalStore<String>>,
    feeder: Feeder,
}

impl Fed {
    /// Opens the local copy below `directory` and feeds it from `topic`.
    pub fn open(bootstrap: &str, directory: &Path, topic: &str, gate: Gate) -> Result<Fed> {
        let db = Database::open(directory, MemoryBudget::default())?;
        let spec = GlobalSpec {
            store: "products".into(),
            topic: topic.into(),
            format: RowFormat::AS_IT_IS,
            gate,
        };
        let decode = |_: &[u8], value: &[u8]| String::from_utf8(value.to_vec()).map_err(|error| error.to_string());
        let store = Arc::new(GlobalStore::open(&db, spec, decode)?);
        let config = FeederConfig {
            client: ClientConfig::new(bootstrap),
        };
        Ok(Fed {
            feeder: Feeder::start(store.clone(), config)?,
            store,
        })
    }

    /// Waits for a state of the store.
    pub async fn until(&self, what: &str, state: impl Fn(&GlobalStatus) -> bool + Send + 'static) -> Result<()> {
        let store = self.store.clone();
        let reached = tokio::task::spawn_blocking(move || store.wait_until(PATIENCE, state)).await?;
        ensure!(reached, "not within {PATIENCE:?}: {what}; {:?}", self.store.status());
        Ok(())
    }

    /// The row of a key.
    pub fn get(&self, key: &str) -> Option<String> {
        self.store.get(key.as_bytes()).map(|row| row.as_ref().clone())
    }

    /// Stops feeding and closes the copy.
    pub async fn close(self) -> Result<()> {
        tokio::task::spawn_blocking(move || {
            self.feeder.stop();
            drop(self.store);
        })
        .await?;
        Ok(())
    }
}

/// Nothing lags behind.
fn caught_up(status: &GlobalStatus) -> bool {
    status.ready && status.partitions.values().all(|partition| partition.lag == 0)
}

async fn create(bootstrap: &str, topic: &str, partitions: i32) -> Result<()> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let new = NewTopic::new(topic, partitions, 1).with("cleanup.policy", "compact");
    for (_, result) in admin.create_topics(&[new]).await? {
        result?;
    }
    Ok(())
}

struct Panicking;

impl Deliveries for Panicking {
    #[allow(clippy::panic)] // what is not delivered here ends the scenario
    fn delivered(&self, _: u64, result: Result<(i32, i64), KafkaError>) {
        if let Err(error) = result {
            panic!("a record of the scenario was not delivered: {error}");
        }
    }
}

struct Writer {
    producer: Producer,
    topic: String,
}

impl Writer {
    fn new(bootstrap: &str, topic: &str) -> Result<Writer> {
        Ok(Writer {
            producer: Producer::new(&ClientConfig::new(bootstrap), Arc::new(Panicking))?,
            topic: topic.to_owned(),
        })
    }

    fn row(&self, partition: i32, key: &str, value: Option<&str>) -> Result<()> {
        self.send(partition, key, value.map(str::as_bytes), &[])
    }

    fn marker(&self, partition: i32, version: u64, partitions: u32) -> Result<()> {
        let json = Marker::new(version, partitions).to_json();
        self.send(
            partition,
            KEY_TEXT,
            Some(b"not JSON"),
            &[(HEADER, Some(json.as_bytes()))],
        )
    }

    fn send(&self, partition: i32, key: &str, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> Result<()> {
        let record = ProducerRecord {
            topic: &self.topic,
            partition: Some(partition),
            key: Some(key.as_bytes()),
            value,
            timestamp_ms: None,
            headers,
        };
        self.producer.send_waiting(&record, 1, PATIENCE)?;
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.producer.flush(PATIENCE)?;
        Ok(())
    }
}

/// Makes a test of every scenario, on the broker that `$shared` (an async function) gives the address of; those that end it
/// get one of `$own`.
#[macro_export]
macro_rules! global_store_scenarios {
    (shared: $shared:path, own: $own:path) => {
        $crate::global_store_scenarios!(@shared $shared;
            copy::a_topic_is_copied_followed_and_taken_up_again,
            copy::a_version_over_two_partitions_serves_when_its_markers_have_come,
            copy::partitions_that_are_added_are_read,
            transactions::aborted_rows_never_serve,
            transactions::a_topic_that_ends_in_an_aborted_transaction_is_read_to_its_end,
            transactions::an_open_transaction_at_the_end_holds_nothing_up,
            made_again::while_the_store_is_closed,
            made_again::with_fewer_records_while_it_is_read,
            made_again::with_more_records_while_it_is_read,
        );
        $crate::global_store_scenarios!(@own $own;
            outage::an_outage_of_the_broker_is_survived,
        );
    };
    (@shared $shared:path; $($module:ident::$scenario:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() -> anyhow::Result<()> {
                let bootstrap = $shared().await?;
                $crate::global_store_scenarios::$module::$scenario(&bootstrap).await
            }
        )*
    };
    (@own $own:path; $($module:ident::$scenario:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() -> anyhow::Result<()> {
                let mut broker = $own().await?;
                $crate::global_store_scenarios::$module::$scenario(&mut broker).await
            }
        )*
    };
}
