//! Global stores of this worker: one for each declared, opened when it is first declared.

use feature_engine::resource::{Store, StoreKind};
use feature_engine::{CatalogRow, FieldSet};
use kafka_client::ClientConfig;
use parking_lot::Mutex;
use state_store::global::{Feeder, FeederConfig, Gate, GlobalSpec, GlobalStatus, GlobalStore};
use state_store::{Database, StateError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::registry::Resources;

/// Rows of a global store.
pub trait GlobalRows: Send + Sync {
    /// The row of a key.
    fn get(&self, key: &[u8]) -> Option<Arc<CatalogRow>>;
}

impl GlobalRows for GlobalStore<CatalogRow> {
    fn get(&self, key: &[u8]) -> Option<Arc<CatalogRow>> {
        GlobalStore::get(self, key)
    }
}

struct OpenStore {
    declared: Arc<Store>,
    store: Arc<GlobalStore<CatalogRow>>,
    /// reads the topic for as long as the store is declared
    _feeder: Feeder,
}

/// The global stores.
pub struct GlobalStores {
    config: ClientConfig,
    open: Mutex<BTreeMap<String, OpenStore>>,
    failed: Mutex<BTreeMap<String, String>>,
    /// stores in trouble that were asked about, and since when they have been
    troubles: Mutex<BTreeMap<String, Instant>>,
}

/// Whether lookups find in a store what was in its topic when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// they do
    Ready,
    /// it is being read: why not yet
    Reading(String),
    /// it cannot be read: why, and for how long as far as is known
    Trouble(String, Duration),
}

impl GlobalStores {
    /// None yet; they read with these client settings.
    pub fn new(config: ClientConfig) -> GlobalStores {
        GlobalStores {
            config,
            open: Mutex::new(BTreeMap::new()),
            failed: Mutex::new(BTreeMap::new()),
            troubles: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether a store can be looked up in.
    pub fn readiness(&self, name: &str) -> Readiness {
        let trouble = match self.store(name) {
            Some(store) if store.caught_up() => {
                self.troubles.lock().remove(name);
                return Readiness::Ready;
            }
            Some(store) => match store.status().trouble {
                Some(trouble) => format!("topic {}: {trouble}", store.spec().topic),
                None => {
                    let topic = &store.spec().topic;
                    return Readiness::Reading(format!("topic {topic} has not been read to its end yet"));
                }
            },
            None => match self.failure(name) {
                Some(failure) => failure,
                None => return Readiness::Reading("is not open yet".to_owned()),
            },
        };
        let since = *self.troubles.lock().entry(name.to_owned()).or_insert_with(Instant::now);
        Readiness::Trouble(trouble, since.elapsed())
    }

    /// Opens what is declared and not open, closes what is no longer declared.
    pub(super) fn follow(&self, resources: &Resources, database: impl Fn() -> Result<Database, StateError>) {
        let mut open = self.open.lock();
        open.retain(|name, store| resources.stores.get(name) == Some(&store.declared));
        let mut failed = self.failed.lock();
        failed.clear();
        for (name, declared) in resources.stores.iter().filter(|(_, store)| store.is_global()) {
            if open.contains_key(name) {
                continue;
            }
            match self.open_store(declared, &database) {
                Ok(store) => drop(open.insert(name.clone(), store)),
                Err(error) => {
                    tracing::error!(store = %name, error = %error, "global store cannot be opened");
                    failed.insert(name.clone(), error.to_string());
                }
            }
        }
    }

    fn open_store(
        &self,
        declared: &Arc<Store>,
        database: impl Fn() -> Result<Database, StateError>,
    ) -> Result<OpenStore, StateError> {
        let StoreKind::Global { global, gate } = &declared.kind else {
            return Err(StateError::Setting {
                store: declared.name.clone(),
                detail: "is not a global store".into(),
            });
        };
        let gate = gate.clone().unwrap_or_default();
        let spec = GlobalSpec {
            store: declared.name.clone(),
            topic: global.topic.clone(),
            gate: Gate {
                min_rows: gate.min_rows,
                max_shrink: gate.max_shrink,
                required: gate.required,
            },
        };
        let fields = FieldSet::all();
        let store = Arc::new(GlobalStore::open(&database()?, spec, move |_key, value| {
            CatalogRow::decode(value, &fields)
        })?);
        let feeder = Feeder::start(
            store.clone(),
            FeederConfig {
                client: self.config.clone(),
            },
        )?;
        Ok(OpenStore {
            declared: declared.clone(),
            store,
            _feeder: feeder,
        })
    }

    /// The rows of a store, if it is open.
    pub fn get(&self, name: &str) -> Option<Arc<dyn GlobalRows>> {
        self.store(name).map(|store| store as Arc<dyn GlobalRows>)
    }

    /// A store, if it is open.
    pub fn store(&self, name: &str) -> Option<Arc<GlobalStore<CatalogRow>>> {
        self.open.lock().get(name).map(|open| open.store.clone())
    }

    /// Where the open stores stand.
    pub fn status(&self) -> Vec<GlobalStatus> {
        let stores: Vec<_> = self.open.lock().values().map(|open| open.store.clone()).collect();
        stores.iter().map(|store| store.status()).collect()
    }

    /// Why a declared store is not open.
    pub fn failure(&self, name: &str) -> Option<String> {
        self.failed.lock().get(name).cloned()
    }

    /// Closes all.
    pub(super) fn stop(&self) {
        self.open.lock().clear();
    }
}
