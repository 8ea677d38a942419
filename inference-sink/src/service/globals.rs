//! Global stores of this worker: one for each declared, opened when it is first declared.
//!
//! ```text
//! document           -> store (local copy, feeder) -> serves under its name (a handle that plans keep)
//! another gate       -> the same copy, judged anew
//! another topic, key -> a second copy, beside the one that serves; it takes over when it is ready
//! ```

use feature_engine::resource::{self, Store, StoreKind};
use feature_engine::{CatalogRow, FieldSet};
use kafka_client::ClientConfig;
use parking_lot::{Mutex, RwLock};
use state_store::global::{Feeder, FeederConfig, Gate, GlobalSpec, GlobalStatus, GlobalStore};
use state_store::{Database, KeyFormat, RowFormat, StateError, ValueFormat};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::registry::Resources;

/// Between two looks at a copy that is to take over; it is looked at whenever something happens to it, too.
const LOOK: Duration = Duration::from_secs(1);

/// Rows of a global store.
pub trait GlobalRows: Send + Sync {
    /// The row of a key.
    fn get(&self, key: &[u8]) -> Option<Arc<CatalogRow>>;
}

type Rows = GlobalStore<CatalogRow>;

/// What serves under a store's name: nothing until it has been opened. Plans keep it, and never see that the copy behind it is
/// another one.
#[derive(Default)]
struct Handle(RwLock<Option<Arc<Rows>>>);

impl GlobalRows for Handle {
    fn get(&self, key: &[u8]) -> Option<Arc<CatalogRow>> {
        self.0.read().as_ref()?.get(key)
    }
}

/// A local copy with what reads its topic.
struct Copy {
    declared: Arc<Store>,
    rows: Arc<Rows>,
    _feeder: Feeder,
}

/// The stores by name.
type Stores = Mutex<BTreeMap<String, Entry>>;

/// One name.
#[derive(Default)]
struct Entry {
    handle: Arc<Handle>,
    serving: Option<Copy>,
    /// takes over when it is ready
    next: Option<Copy>,
    /// why what is declared cannot be opened
    failed: Option<String>,
}

impl Entry {
    /// Has a copy serve. What there was before is retired.
    fn serve(&mut self, copy: Copy, retired: &mut Vec<Copy>) {
        *self.handle.0.write() = Some(copy.rows.clone());
        retired.extend(self.serving.replace(copy));
    }

    fn close(&mut self, retired: &mut Vec<Copy>) {
        *self.handle.0.write() = None;
        retired.extend(self.serving.take());
        retired.extend(self.next.take());
    }
}

/// Ends copies that serve no more, which waits for their threads: not under the lock of the stores. Then what they have left on
/// disk is deleted, of those whose place another one has taken.
fn end(retired: Vec<Copy>, served: &[Arc<Rows>]) {
    drop(retired);
    for rows in served {
        if let Err(error) = rows.forget_others() {
            let store = &rows.spec().store;
            tracing::warn!(store = %store, error = %error, "the former copy of a global store is left on disk");
        }
    }
}

/// The global stores.
pub struct GlobalStores {
    config: ClientConfig,
    stores: Arc<Stores>,
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

/// A store's status, and that of the copy that is to take over.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StoreStatus {
    /// what serves
    #[serde(flatten)]
    pub serving: GlobalStatus,
    /// the copy that takes over when it is ready: the document names another topic or key than before
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<GlobalStatus>,
}

impl GlobalStores {
    /// None yet; they read with these client settings.
    pub fn new(config: ClientConfig) -> GlobalStores {
        GlobalStores {
            config,
            stores: Arc::default(),
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

    /// Opens what is declared and not open, changes what is declared otherwise, closes what is no longer declared.
    pub(super) fn follow(&self, resources: &Resources, database: impl Fn() -> Result<Database, StateError>) {
        let (mut retired, mut served) = (Vec::new(), Vec::new());
        let mut stores = self.stores.lock();
        stores.retain(|name, entry| {
            let declared = resources.stores.get(name).is_some_and(|store| store.is_global());
            if !declared {
                entry.close(&mut retired);
            }
            declared
        });
        for (name, declared) in resources.stores.iter().filter(|(_, store)| store.is_global()) {
            let entry = stores.entry(name.clone()).or_default();
            let before = entry.serving.as_ref().map(|copy| Arc::as_ptr(&copy.rows));
            let followed = self.follow_one(entry, declared, &database, &mut retired);
            let serving = entry.serving.as_ref().map(|copy| &copy.rows);
            served.extend(serving.filter(|rows| before != Some(Arc::as_ptr(rows))).cloned());
            entry.failed = followed.err().map(|error| {
                tracing::error!(store = %name, error = %error, "global store cannot be opened");
                error.to_string()
            });
        }
        drop(stores);
        end(retired, &served);
    }

    fn follow_one(
        &self,
        entry: &mut Entry,
        declared: &Arc<Store>,
        database: impl Fn() -> Result<Database, StateError>,
        retired: &mut Vec<Copy>,
    ) -> Result<(), StateError> {
        if entry.next.as_ref().is_some_and(|next| next.declared == *declared) {
            return Ok(());
        }
        let spec = spec(declared)?;
        // At most one copy is on its way: the one before is given up.
        retired.extend(entry.next.take());
        if let Some(serving) = &mut entry.serving {
            let now = serving.rows.spec();
            if (&now.topic, &now.format) == (&spec.topic, &spec.format) {
                if serving.declared != *declared {
                    serving.rows.set_gate(spec.gate)?;
                    serving.declared = declared.clone();
                }
                return Ok(());
            }
        }
        let copy = self.open(declared, spec, &database()?)?;
        if entry.serving.as_ref().is_some_and(|serving| serving.rows.ready()) {
            self.take_over_when_ready(&copy)?;
            entry.next = Some(copy);
        } else {
            entry.serve(copy, retired);
        }
        Ok(())
    }

    fn open(&self, declared: &Arc<Store>, spec: GlobalSpec, database: &Database) -> Result<Copy, StateError> {
        let fields = FieldSet::all();
        let rows = GlobalStore::open(database, spec, move |_key, value| CatalogRow::decode(value, &fields))?;
        let rows = Arc::new(rows);
        let config = FeederConfig {
            client: self.config.clone(),
        };
        Ok(Copy {
            declared: declared.clone(),
            _feeder: Feeder::start(rows.clone(), config)?,
            rows,
        })
    }

    /// Watches over a copy until it serves, or is given up.
    fn take_over_when_ready(&self, copy: &Copy) -> Result<(), StateError> {
        let (stores, rows) = (Arc::downgrade(&self.stores), Arc::downgrade(&copy.rows));
        let name = copy.declared.name.clone();
        let spec = copy.rows.spec();
        let watching = std::thread::Builder::new().name(format!("next-{name}")).spawn(move || {
            while let Some(ready) = wait(&rows) {
                let Some(stores) = stores.upgrade() else { return };
                let mut stores = stores.lock();
                let Some(entry) = stores.get_mut(&name) else { return };
                let is_next = |next: &mut Copy| Weak::ptr_eq(&Arc::downgrade(&next.rows), &rows);
                if !ready {
                    if !entry.next.as_mut().is_some_and(is_next) {
                        return;
                    }
                    continue;
                }
                let Some(next) = entry.next.take_if(is_next) else { return };
                tracing::info!(store = %name, topic = %next.rows.spec().topic, "global store serves what is declared now");
                let (mut retired, served) = (Vec::new(), next.rows.clone());
                entry.serve(next, &mut retired);
                drop(stores);
                end(retired, &[served]);
                return;
            }
        });
        watching.map(drop).map_err(|error| StateError::Topic {
            store: spec.store.clone(),
            topic: spec.topic.clone(),
            detail: format!("no thread to watch over its copy: {error}"),
        })
    }

    /// The rows of a store, if it is declared: also those of a copy that takes over later.
    pub fn get(&self, name: &str) -> Option<Arc<dyn GlobalRows>> {
        let stores = self.stores.lock();
        stores
            .get(name)
            .map(|entry| entry.handle.clone() as Arc<dyn GlobalRows>)
    }

    /// What serves under a name, if it is open.
    pub fn store(&self, name: &str) -> Option<Arc<GlobalStore<CatalogRow>>> {
        self.stores
            .lock()
            .get(name)?
            .serving
            .as_ref()
            .map(|copy| copy.rows.clone())
    }

    /// Where the open stores stand.
    pub fn status(&self) -> Vec<GlobalStatus> {
        let stores = self.stores.lock();
        let open: Vec<_> = stores.values().filter_map(|entry| entry.serving.as_ref()).collect();
        open.iter().map(|copy| copy.rows.status()).collect()
    }

    /// Where one stands, if it is open.
    pub fn status_of(&self, name: &str) -> Option<StoreStatus> {
        let stores = self.stores.lock();
        let entry = stores.get(name)?;
        Some(StoreStatus {
            serving: entry.serving.as_ref()?.rows.status(),
            next: entry.next.as_ref().map(|copy| copy.rows.status()),
        })
    }

    /// Why what is declared is not open.
    pub fn failure(&self, name: &str) -> Option<String> {
        self.stores.lock().get(name)?.failed.clone()
    }

    /// Whether something declared could not be opened.
    pub(super) fn has_failed(&self) -> bool {
        self.stores.lock().values().any(|entry| entry.failed.is_some())
    }

    /// Closes all.
    pub(super) fn stop(&self) {
        let mut retired = Vec::new();
        let stores = std::mem::take(&mut *self.stores.lock());
        stores.into_values().for_each(|mut entry| entry.close(&mut retired));
        end(retired, &[]);
    }
}

/// Waits until something has happened to a copy, or for a while: whether it is ready. None: it has been given up.
fn wait(rows: &Weak<Rows>) -> Option<bool> {
    let rows = rows.upgrade()?;
    Some(rows.wait_until(LOOK, |status| status.ready))
}

fn spec(declared: &Store) -> Result<GlobalSpec, StateError> {
    let StoreKind::Global { global, key, gate } = &declared.kind else {
        return Err(StateError::Setting {
            store: declared.name.clone(),
            detail: "is not a global store".into(),
        });
    };
    let gate = gate.clone().unwrap_or_default();
    Ok(GlobalSpec {
        store: declared.name.clone(),
        topic: global.topic.clone(),
        format: RowFormat {
            key: key.as_ref().map_or(KeyFormat::Recognized, key_format),
            value: ValueFormat::Json,
        },
        gate: Gate {
            min_rows: gate.min_rows,
            max_shrink: gate.max_shrink,
            required: gate.required,
        },
    })
}

/// How the document's words are meant.
fn key_format(declared: &resource::KeyFormat) -> KeyFormat {
    match declared {
        resource::KeyFormat::String => KeyFormat::String,
        resource::KeyFormat::Json { fields, separator } => KeyFormat::Json {
            fields: fields.clone(),
            separator: separator.clone(),
        },
        resource::KeyFormat::Short => KeyFormat::Short,
        resource::KeyFormat::Integer => KeyFormat::Integer,
        resource::KeyFormat::Long => KeyFormat::Long,
    }
}
