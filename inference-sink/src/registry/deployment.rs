//! What a worker serves now: the registry's resources with the models that could be loaded.
//!
//! The loader thread follows the registry. A model whose artifact cannot be loaded leaves the version before it serving;
//! its status says why.

use super::fold::Resources;
use crate::breaker::BreakerPolicy;
use crate::models::artifact::{AllowedPrefixes, ArtifactError, sha256};
use crate::models::{LifeCycle, ModelRuntime, ServedModel};
use feature_engine::resource::{FieldError, Model, Tenant};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is served, as a whole.
#[derive(Clone, Default)]
pub struct Deployment {
    /// counts changes
    pub generation: u64,
    /// registry records that went into it
    pub records: u64,
    /// the documents
    pub resources: Arc<Resources>,
    /// versions that run, by `tenant/name`
    pub models: BTreeMap<String, Arc<ServedModel>>,
    /// runtimes, by `tenant/name`
    pub runtimes: BTreeMap<String, Arc<ModelRuntime>>,
    /// versions that could not be loaded: version and why
    pub failures: BTreeMap<String, (u64, String)>,
    /// those of them whose artifact's store could not be reached: the loader tries again
    pub unreachable: BTreeSet<String>,
}

/// A model's state for status.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ModelState {
    /// where it is in its life
    pub state: LifeCycle,
    /// the version that serves
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// the hash of its artifact
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// how its rows are run: `batched` or `one by one`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<&'static str>,
    /// why they are run so, where there is something to say
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_reason: Option<String>,
    /// the version that was put last, where it is another
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_version: Option<u64>,
    /// why that one does not serve
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Deployment {
    /// A model of these topics that has no version to serve because its artifact could not be reached, and why. Events must
    /// not go past it meanwhile.
    pub fn awaited(&self, topics: &[Arc<str>]) -> Option<(&str, &str)> {
        self.unreachable.iter().find_map(|identity| {
            let model = self.resources.models.get(identity)?;
            let reads = |topic: &Arc<str>| model.subscribe.topics.iter().any(|subscribed| **subscribed == **topic);
            let awaited = !self.models.contains_key(identity) && topics.iter().any(reads);
            let (_, error) = self.failures.get(identity).filter(|_| awaited)?;
            Some((identity.as_str(), error.as_str()))
        })
    }

    /// The state of a model that the registry has.
    pub fn state(&self, model: &str) -> Option<ModelState> {
        let document = self.resources.models.get(model)?;
        let served = self.models.get(model);
        let failure = self.failures.get(model);
        let stopped = self.runtimes.get(model).is_some_and(|runtime| runtime.is_stopped());
        let state = match (served, failure) {
            _ if self.resources.is_paused(model) => LifeCycle::Paused,
            (Some(_), _) if stopped => LifeCycle::Suspended,
            (_, Some(_)) => LifeCycle::Failed,
            (Some(served), None) if Some(served.version) == document.version => LifeCycle::Serving,
            _ => LifeCycle::Validating,
        };
        let (rows, rows_reason) = served.map(|served| served.rows()).unzip();
        Some(ModelState {
            rows,
            rows_reason: rows_reason.flatten(),
            state,
            version: served.map(|served| served.version),
            sha256: served.map(|served| served.engine.sha256().to_owned()),
            failed_version: failure.map(|(version, _)| *version),
            error: failure.map(|(_, error)| error.clone()),
        })
    }
}

/// Loads what the registry says.
pub struct Loader {
    prefixes: AllowedPrefixes,
    current: RwLock<Arc<Deployment>>,
    generation: AtomicU64,
    changed: Condvar,
    lock: Mutex<()>,
}

impl Loader {
    /// Nothing loaded yet.
    pub fn new(prefixes: AllowedPrefixes) -> Loader {
        Loader {
            prefixes,
            current: RwLock::default(),
            generation: AtomicU64::new(0),
            changed: Condvar::new(),
            lock: Mutex::new(()),
        }
    }

    /// What is served now.
    pub fn current(&self) -> Arc<Deployment> {
        self.current.read().clone()
    }

    /// The number of what is served now; cheap.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Waits until so many registry records are in what is served.
    pub fn wait_for(&self, records: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut lock = self.lock.lock();
        while self.current().records < records {
            if self.changed.wait_until(&mut lock, deadline).timed_out() {
                return self.current().records >= records;
            }
        }
        true
    }

    /// Loads an artifact for a document, with its hash checked. Blocks on the disk and compiles.
    pub fn load(&self, model: &Arc<Model>, tenant: &Tenant) -> Result<ServedModel, Vec<FieldError>> {
        let bytes = self.read(model).map_err(|error| vec![error.error])?;
        Self::compile(model, tenant, &bytes)
    }

    fn read(&self, model: &Model) -> Result<Vec<u8>, ArtifactError> {
        self.prefixes.read(&model.artifact, model.sha256.as_deref())
    }

    fn compile(model: &Arc<Model>, tenant: &Tenant, bytes: &[u8]) -> Result<ServedModel, Vec<FieldError>> {
        let hash = sha256(bytes);
        if let Some(expected) = model.sha256.as_ref().filter(|expected| **expected != hash) {
            return Err(vec![FieldError::new(
                "sha256",
                format!("the artifact's is {hash}, not {expected}"),
            )]);
        }
        ServedModel::load(model, tenant, bytes)
    }

    /// Brings what is served up to these resources. Returns the new deployment.
    pub fn follow(&self, resources: &Arc<Resources>, records: u64) -> Arc<Deployment> {
        let before = self.current();
        let mut next = Deployment {
            generation: before.generation + 1,
            records,
            resources: resources.clone(),
            ..Deployment::default()
        };
        for (identity, document) in &resources.models {
            let Some(tenant) = resources.tenants.get(&document.tenant) else {
                next.failures.insert(
                    identity.clone(),
                    (document.version.unwrap_or(0), "its tenant is gone".to_owned()),
                );
                continue;
            };
            let old = before.models.get(identity);
            let policy = BreakerPolicy::of(document.on_error);
            let runtime = before.runtimes.get(identity).cloned();
            let runtime = runtime.unwrap_or_else(|| Arc::new(ModelRuntime::new(identity, policy)));
            let same_tenant = before.resources.tenants.get(&document.tenant) == Some(tenant);
            match old.filter(|old| old.document == *document && same_tenant) {
                Some(old) => {
                    next.models.insert(identity.clone(), old.clone());
                }
                None => match self.load_and_warm(document, tenant) {
                    Ok(served) => {
                        tracing::info!(model = %served.lineage, sha256 = %served.engine.sha256(), "model serves");
                        runtime.renew(policy);
                        next.models.insert(identity.clone(), Arc::new(served));
                    }
                    Err((error, unreachable)) => {
                        tracing::error!(model = %identity, version = document.version, error = %error, "model cannot be served");
                        next.failures
                            .insert(identity.clone(), (document.version.unwrap_or(0), error));
                        if unreachable {
                            next.unreachable.insert(identity.clone());
                        }
                        if let Some(old) = old {
                            next.models.insert(identity.clone(), old.clone());
                        }
                    }
                },
            }
            next.runtimes.insert(identity.clone(), runtime);
        }
        let next = Arc::new(next);
        *self.current.write() = next.clone();
        self.generation.store(next.generation, Ordering::Release);
        let _lock = self.lock.lock();
        self.changed.notify_all();
        next
    }

    /// Error: why, and whether another attempt may succeed.
    fn load_and_warm(&self, document: &Arc<Model>, tenant: &Tenant) -> Result<ServedModel, (String, bool)> {
        let join = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let read = self.read(document);
        let bytes = read.map_err(|error| (error.error.to_string(), error.unreachable))?;
        let served = Self::compile(document, tenant, &bytes).map_err(|errors| (join(errors), false))?;
        served.warm().map_err(|error| (format!("warming: {error}"), false))?;
        Ok(served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::tests::{LINEAR, document};
    use serde_json::json;

    fn resources(model: Arc<Model>) -> Arc<Resources> {
        let mut resources = Resources::default();
        resources.tenants.insert("ads".into(), Arc::new(Tenant::named("ads")));
        resources.models.insert(model.identity(), model);
        Arc::new(resources)
    }

    #[test]
    fn a_version_that_cannot_be_loaded_leaves_the_one_before_serving() {
        let directory = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("file://{}/{name}", directory.path().display());
        std::fs::write(directory.path().join("good.onnx"), LINEAR).unwrap();
        std::fs::write(directory.path().join("broken.onnx"), b"not a model").unwrap();
        let loader = Loader::new(AllowedPrefixes::new(&[format!(
            "file://{}",
            directory.path().display()
        )]));
        let good = document(json!({ "version": 1, "artifact": url("good.onnx"), "sha256": sha256(LINEAR) }));
        let deployed = loader.follow(&resources(good), 1);
        assert_eq!(deployed.state("ads/bid").unwrap().state, LifeCycle::Serving);
        for (change, reason) in [
            (json!({ "version": 2, "artifact": url("broken.onnx") }), "ONNX"),
            (json!({ "version": 2, "artifact": url("none.onnx") }), "No such file"),
            (
                json!({ "version": 2, "artifact": url("good.onnx"), "sha256": "0".repeat(64) }),
                "sha256",
            ),
            (
                json!({ "version": 2, "artifact": url("good.onnx"), "inputs": { "features": ["a"] } }),
                "3 features",
            ),
            (
                json!({ "version": 2, "artifact": url("good.onnx"), "output": { "topic": "o", "fields": { "x": "nothing" } } }),
                "nothing",
            ),
        ] {
            let deployed = loader.follow(&resources(document(change)), 2);
            let state = deployed.state("ads/bid").unwrap();
            assert_eq!(
                (state.state, state.version, state.failed_version),
                (LifeCycle::Failed, Some(1), Some(2))
            );
            assert!(state.error.as_ref().unwrap().contains(reason), "{state:?}");
        }
        let better = document(json!({ "version": 3, "artifact": url("good.onnx") }));
        let state = loader.follow(&resources(better), 3).state("ads/bid").unwrap();
        assert_eq!((state.state, state.version), (LifeCycle::Serving, Some(3)));
    }
}
