//! What a worker serves now: the registry's resources with the models that could be loaded.
//!
//! The loader thread follows the registry. A version whose artifact cannot be loaded leaves the one before it serving. Where
//! none does (the worker has just started) and the version has served before, it stands there without its artifact: rows are
//! made for it by its recorded inputs, and wait in the feature log. The status says why.

use super::fold::{Kind, ModelInputs, RecordKey, Resources};
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
    /// versions that run, or that rows are made for until they can, by `tenant/name`
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
    /// not go past it meanwhile, and nobody knows yet what its rows hold.
    pub fn awaited(&self, topics: &[Arc<str>]) -> Option<(&str, &str)> {
        self.unreachable.iter().find_map(|identity| {
            let model = self.resources.models.get(identity)?;
            let reads = |topic: &Arc<str>| model.subscribe.topics.iter().any(|subscribed| **subscribed == **topic);
            let awaited = !self.models.contains_key(identity) && topics.iter().any(reads);
            let (_, error) = self.failures.get(identity).filter(|_| awaited)?;
            Some((identity.as_str(), error.as_str()))
        })
    }

    /// Where no version of a model can run, one that has served before stands in without its artifact.
    fn stand_in(&mut self, document: &Arc<Model>, tenant: &Tenant) {
        let identity = document.identity();
        if self
            .models
            .get(&identity)
            .is_some_and(|served| served.engine().is_some() || served.document == *document)
        {
            return;
        }
        let recorded = self
            .resources
            .inputs
            .get(&identity)
            .filter(|inputs| inputs.are_of(document));
        let served = recorded.and_then(|recorded| ServedModel::without_artifact(document, tenant, &recorded.inputs));
        if let Some(served) = served {
            tracing::warn!(model = %served.lineage, "rows wait in the feature log until the model's artifact can be loaded");
            self.models.insert(identity, Arc::new(served));
        }
    }

    /// Records of the inputs of versions that run and have none in the registry yet.
    pub fn unrecorded_inputs(&self) -> Vec<(RecordKey, ModelInputs)> {
        let loaded = self
            .models
            .iter()
            .filter_map(|(identity, served)| Some((identity, served, served.engine()?)));
        let found = loaded.filter_map(|(identity, served, engine)| {
            let inputs = ModelInputs {
                version: served.document.version?,
                sha256: engine.sha256().to_owned(),
                inputs: served.signature.inputs().to_vec(),
            };
            let current = self
                .resources
                .models
                .get(identity)
                .is_some_and(|document| inputs.are_of(document));
            let known = self
                .resources
                .inputs
                .get(identity)
                .is_some_and(|known| **known == inputs);
            (current && !known).then(|| (RecordKey::new(Kind::ModelInputs, identity), inputs))
        });
        found.collect()
    }

    /// The state of a model that the registry has.
    pub fn state(&self, model: &str) -> Option<ModelState> {
        let document = self.resources.models.get(model)?;
        let served = self.models.get(model).filter(|served| served.engine().is_some());
        let failure = self.failures.get(model);
        let runtime = self.runtimes.get(model);
        let stopped = runtime.is_some_and(|runtime| runtime.is_suspended() || runtime.is_broken());
        let state = match (served, failure) {
            _ if self.resources.is_paused(model) => LifeCycle::Paused,
            (Some(_), _) if stopped => LifeCycle::Suspended,
            (_, Some(_)) => LifeCycle::Failed,
            (Some(served), None) if Some(served.version) == document.version => LifeCycle::Serving,
            _ => LifeCycle::Validating,
        };
        let (rows, rows_reason) = served.and_then(|served| served.rows()).unzip();
        Some(ModelState {
            rows,
            rows_reason: rows_reason.flatten(),
            state,
            version: served.map(|served| served.version),
            sha256: served
                .and_then(|served| served.engine())
                .map(|engine| engine.sha256().to_owned()),
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
    /// documents that could not be loaded, by `tenant/name`
    failed: Mutex<BTreeMap<String, FailedLoad>>,
    changed: Condvar,
    lock: Mutex<()>,
}

/// A document that could not be loaded: as long as it is the same, only time helps.
struct FailedLoad {
    document: Arc<Model>,
    tenant: Arc<Tenant>,
    attempts: u32,
    next: Instant,
}

/// Between the first attempt at a model that cannot be loaded and the second; then twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// What is loaded already does not wait longer for what is loaded with it.
const TOGETHER: Duration = Duration::from_millis(500);

impl Loader {
    /// Nothing loaded yet.
    pub fn new(prefixes: AllowedPrefixes) -> Loader {
        Loader {
            prefixes,
            current: RwLock::default(),
            generation: AtomicU64::new(0),
            failed: Mutex::default(),
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

    /// Brings what is served up to these resources. What is new is loaded; what could not be loaded before is left to
    /// [`Self::retry`]. Returns the new deployment.
    pub fn follow(&self, resources: &Arc<Resources>, records: u64) -> Arc<Deployment> {
        let before = self.current();
        let mut next = Deployment {
            // Not before everything is loaded.
            records: before.records,
            resources: resources.clone(),
            ..Deployment::default()
        };
        let mut failed = self.failed.lock();
        failed.retain(|identity, _| resources.models.contains_key(identity));
        let mut to_load = Vec::new();
        for (identity, document) in &resources.models {
            let Some(tenant) = resources.tenants.get(&document.tenant) else {
                let failure = (document.version.unwrap_or(0), "its tenant is gone".to_owned());
                next.failures.insert(identity.clone(), failure);
                continue;
            };
            let policy = BreakerPolicy::of(document.on_error);
            let runtime = before.runtimes.get(identity).cloned();
            let runtime = runtime.unwrap_or_else(|| Arc::new(ModelRuntime::new(identity, policy)));
            let resumed = |resources: &Resources| resources.controls.get(identity).map(|control| control.resumed);
            if resumed(&before.resources) != resumed(resources) {
                runtime.renew(policy);
            }
            next.runtimes.insert(identity.clone(), runtime);
            let old = before.models.get(identity);
            if let Some(old) = old {
                // Until another version is loaded, if there is one.
                next.models.insert(identity.clone(), old.clone());
            }
            if old.is_some_and(|old| old.document == *document && old.fits(tenant)) {
                failed.remove(identity);
                continue;
            }
            match failed.get(identity) {
                Some(load) if load.document == *document && load.tenant == *tenant => {
                    if let Some(failure) = before.failures.get(identity) {
                        next.failures.insert(identity.clone(), failure.clone());
                    }
                    if before.unreachable.contains(identity) {
                        next.unreachable.insert(identity.clone());
                    }
                    next.stand_in(document, tenant);
                }
                _ => to_load.push((document.clone(), tenant.clone())),
            }
        }
        let mut published = Instant::now();
        for (document, tenant) in by_turns(to_load) {
            if published.elapsed() > TOGETHER {
                self.publish(next.clone());
                published = Instant::now();
            }
            self.load_into(&mut next, &mut failed, &document, &tenant);
        }
        next.records = records;
        self.publish(next)
    }

    /// Tries the models again that could not be loaded and whose time has come, as long as `go_on` says. Returns when the
    /// next one is to be tried; none: there is none.
    pub fn retry(&self, now: Instant, go_on: impl Fn() -> bool) -> Option<Instant> {
        let mut failed = self.failed.lock();
        let due: Vec<_> = failed
            .values()
            .filter(|load| load.next <= now)
            .map(|load| (load.document.clone(), load.tenant.clone()))
            .collect();
        let mut next = Deployment::clone(&self.current());
        let (mut changed, mut published) = (false, Instant::now());
        for (document, tenant) in by_turns(due) {
            if !go_on() {
                break;
            }
            let identity = document.identity();
            let before = next.failures.get(&identity).cloned();
            self.load_into(&mut next, &mut failed, &document, &tenant);
            changed |= !failed.contains_key(&identity) || next.failures.get(&identity) != before.as_ref();
            // Tasks take each of them over with all models, and many may come back at once.
            if changed && published.elapsed() > TOGETHER {
                self.publish(next.clone());
                (changed, published) = (false, Instant::now());
            }
        }
        if changed {
            self.publish(next);
        }
        failed.values().map(|load| load.next).min()
    }

    fn load_into(
        &self,
        next: &mut Deployment,
        failed: &mut BTreeMap<String, FailedLoad>,
        document: &Arc<Model>,
        tenant: &Arc<Tenant>,
    ) {
        let identity = document.identity();
        match self.load_and_warm(document, tenant) {
            Ok(served) => {
                tracing::info!(model = %served.lineage, sha256 = document.sha256, "model serves");
                if let Some(runtime) = next.runtimes.get(&identity) {
                    runtime.renew(BreakerPolicy::of(document.on_error));
                }
                failed.remove(&identity);
                next.failures.remove(&identity);
                next.unreachable.remove(&identity);
                next.models.insert(identity, Arc::new(served));
            }
            Err((error, unreachable)) => {
                let load = failed.entry(identity.clone()).or_insert_with(|| FailedLoad {
                    document: document.clone(),
                    tenant: tenant.clone(),
                    attempts: 0,
                    next: Instant::now(),
                });
                if load.document != *document || load.tenant != *tenant {
                    (load.document, load.tenant, load.attempts) = (document.clone(), tenant.clone(), 0);
                }
                let wait = LONGEST_RETRY.min(FIRST_RETRY * 2u32.saturating_pow(load.attempts));
                load.attempts += 1;
                load.next = Instant::now() + wait;
                tracing::error!(
                    model = %identity, version = document.version, error = %error, again_in_s = wait.as_secs(),
                    "model cannot be served"
                );
                match unreachable {
                    true => next.unreachable.insert(identity.clone()),
                    false => next.unreachable.remove(&identity),
                };
                next.failures.insert(identity, (document.version.unwrap_or(0), error));
                next.stand_in(document, tenant);
            }
        }
    }

    fn publish(&self, next: Deployment) -> Arc<Deployment> {
        let next = Arc::new(Deployment {
            generation: self.generation() + 1,
            ..next
        });
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

/// One document of each tenant after the other, so that nobody's many wait for all of somebody else's.
fn by_turns(documents: Vec<(Arc<Model>, Arc<Tenant>)>) -> Vec<(Arc<Model>, Arc<Tenant>)> {
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    let mut with_turn: Vec<_> = documents
        .into_iter()
        .map(|document| {
            let turn = turns.entry(document.1.name.clone()).or_insert(0);
            *turn += 1;
            (*turn, document)
        })
        .collect();
    with_turn.sort_by_key(|(turn, _)| *turn);
    with_turn.into_iter().map(|(_, document)| document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::InputSpec;
    use crate::models::tests::{LINEAR, document};
    use crate::registry::ModelControl;
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

    #[test]
    fn a_model_that_cannot_be_loaded_is_tried_again_in_its_time_and_nothing_else_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("file://{}/{name}", directory.path().display());
        std::fs::write(directory.path().join("good.onnx"), LINEAR).unwrap();
        let loader = Loader::new(AllowedPrefixes::new(&[format!(
            "file://{}",
            directory.path().display()
        )]));
        let mut documents = Resources::clone(&resources(document(json!({ "artifact": url("good.onnx") }))));
        let missing = document(json!({ "name": "missing", "artifact": url("missing.onnx") }));
        documents.models.insert(missing.identity(), missing);
        let documents = Arc::new(documents);
        let first = loader.follow(&documents, 1);
        let state = |model: &str| loader.current().state(model).unwrap().state;
        assert_eq!(
            (state("ads/bid"), state("ads/missing")),
            (LifeCycle::Serving, LifeCycle::Failed)
        );

        // It is there now, but a document of somebody else is no reason to look.
        std::fs::write(directory.path().join("missing.onnx"), LINEAR).unwrap();
        let mut more = Resources::clone(&documents);
        more.tenants.insert("other".into(), Arc::new(Tenant::named("other")));
        let second = loader.follow(&Arc::new(more), 2);
        assert!(Arc::ptr_eq(&first.models["ads/bid"], &second.models["ads/bid"]));
        assert_eq!((state("ads/missing"), second.records), (LifeCycle::Failed, 2));
        let next = loader.retry(Instant::now(), || true).unwrap();
        assert_eq!(state("ads/missing"), LifeCycle::Failed);
        assert_eq!(loader.retry(next, || false), Some(next));
        assert_eq!(loader.retry(next, || true), None);
        assert_eq!(state("ads/missing"), LifeCycle::Serving);
    }

    /// The record that a worker which has served the version leaves in the registry.
    fn recorded(loader: &Loader) -> Arc<ModelInputs> {
        let unrecorded = loader.current().unrecorded_inputs();
        let [(key, inputs)] = unrecorded.as_slice() else {
            panic!("{unrecorded:?}")
        };
        assert_eq!((key.kind, key.name.as_str()), (Kind::ModelInputs, "ads/bid"));
        Arc::new(inputs.clone())
    }

    #[test]
    fn a_version_that_has_served_stands_in_without_its_artifact_until_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.onnx");
        let prefix = format!("file://{}", directory.path().display());
        let loader = || Loader::new(AllowedPrefixes::new(std::slice::from_ref(&prefix)));
        let model = document(json!({ "artifact": format!("{prefix}/model.onnx"), "sha256": sha256(LINEAR) }));
        std::fs::write(&path, LINEAR).unwrap();
        let before = loader();
        before.follow(&resources(model.clone()), 1);
        let inputs = recorded(&before);
        let mut documents = Resources::clone(&resources(model.clone()));
        documents.inputs.insert(model.identity(), inputs.clone());
        before.follow(&Arc::new(documents.clone()), 2);
        assert!(before.current().unrecorded_inputs().is_empty());

        // Another file, or none.
        for (spoil, reason) in [(Some(&b"another"[..]), "sha256"), (None, "No such file")] {
            match spoil {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let after = loader();
            let deployed = after.follow(&Arc::new(documents.clone()), 2);
            let served = &deployed.models["ads/bid"];
            assert!(served.engine().is_none() && served.version == 3);
            assert_eq!(served.signature, before.current().models["ads/bid"].signature);
            let state = deployed.state("ads/bid").unwrap();
            assert_eq!(
                (state.state, state.version, state.failed_version),
                (LifeCycle::Failed, None, Some(3))
            );
            assert!(state.error.as_ref().unwrap().contains(reason), "{state:?}");
            assert!(deployed.awaited(&["events".into()]).is_none() && deployed.unrecorded_inputs().is_empty());
            // What is put beside it changes nothing.
            let again = after.follow(&Arc::new(documents.clone()), 3);
            assert!(Arc::ptr_eq(&again.models["ads/bid"], served));
        }
        let after = loader();
        after.follow(&Arc::new(documents.clone()), 2);
        std::fs::write(&path, LINEAR).unwrap();
        let next = after.retry(Instant::now(), || true).unwrap();
        assert_eq!(after.retry(next, || true), None);
        let state = after.current().state("ads/bid").unwrap();
        assert_eq!((state.state, state.version), (LifeCycle::Serving, Some(3)));
        assert!(after.current().models["ads/bid"].engine().is_some());
    }

    #[test]
    fn inputs_of_another_version_or_artifact_are_no_stand_in() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = format!("file://{}", directory.path().display());
        let model = document(json!({ "artifact": format!("{prefix}/none.onnx"), "sha256": sha256(LINEAR) }));
        let own = InputSpec {
            tensor: "x".to_owned(),
            element: model_engine::ElementType::Float,
            features: ["a", "b", "c"].map(str::to_owned).to_vec(),
        };
        let right = ModelInputs {
            version: 3,
            sha256: sha256(LINEAR),
            inputs: vec![own.clone()],
        };
        let with = |inputs: ModelInputs| {
            let mut documents = Resources::clone(&resources(model.clone()));
            documents.inputs.insert(model.identity(), Arc::new(inputs));
            let loader = Loader::new(AllowedPrefixes::new(std::slice::from_ref(&prefix)));
            loader.follow(&Arc::new(documents), 1).models.contains_key("ads/bid")
        };
        assert!(with(right.clone()));
        assert!(!with(ModelInputs {
            version: 2,
            ..right.clone()
        }));
        assert!(!with(ModelInputs {
            sha256: sha256(b""),
            ..right.clone()
        }));
        let features = vec!["c".to_owned()];
        assert!(!with(ModelInputs {
            inputs: vec![InputSpec { features, ..own }],
            ..right
        }));
    }

    #[test]
    fn attempts_at_a_model_come_less_and_less_often() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = format!("file://{}", directory.path().display());
        let loader = Loader::new(AllowedPrefixes::new(std::slice::from_ref(&prefix)));
        loader.follow(
            &resources(document(json!({ "artifact": format!("{prefix}/none.onnx") }))),
            1,
        );
        let mut at = Instant::now() + FIRST_RETRY;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let before = Instant::now();
            let next = loader.retry(at, || true).unwrap();
            waits.push((next - before).as_secs_f64().round() as u64);
            at = next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn what_somebody_resumed_runs_again_on_every_worker() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = format!("file://{}", directory.path().display());
        std::fs::write(directory.path().join("good.onnx"), LINEAR).unwrap();
        let loader = Loader::new(AllowedPrefixes::new(std::slice::from_ref(&prefix)));
        let documents = resources(document(json!({ "artifact": format!("{prefix}/good.onnx") })));
        let runtime = loader.follow(&documents, 1).runtimes["ads/bid"].clone();
        runtime.suspend("it took too long".to_owned());
        let mut resumed = Resources::clone(&documents);
        resumed.controls.insert(
            "ads/bid".into(),
            ModelControl {
                paused: false,
                resumed: 1,
            },
        );
        loader.follow(&Arc::new(resumed.clone()), 2);
        assert!(!runtime.is_suspended());
        // Once.
        runtime.suspend("it took too long".to_owned());
        loader.follow(&Arc::new(resumed), 3);
        assert!(runtime.is_suspended());
    }
}
