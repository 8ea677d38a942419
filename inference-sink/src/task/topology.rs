//! What a task computes per event, compiled from a deployment: plans by view, models by plan, stores by group.

use super::remakes::Remakes;
use crate::detach::Reason;
use crate::models::{ModelRuntime, ServedModel};
use crate::registry::Deployment;
use crate::registry::check::{Stores, wanted};
use crate::registry::model_views::view_of;
use crate::service::{GlobalRows, GlobalStores, Readiness};
use crate::trigger::WindowRule;
use feature_engine::resource::{Emit, FeatureView, Since, StoreKind, Trigger};
use feature_engine::{Evaluator, ExpressionId, FeaturePlan, FeatureSlot, Wanted};
use state_store::Ttl;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that a task computes.
#[derive(Default)]
pub struct Topology {
    /// the deployment's number
    pub generation: u64,
    /// plans by input topic, as the task numbers them
    pub topics: Vec<Vec<ViewPlan>>,
    /// views that are computed, each once; what is a view's own names it by index
    pub views: Vec<Arc<str>>,
    /// keyed stores
    pub stores: Vec<StoreSlot>,
    /// by keyed store: the views that write to it
    pub writers: Vec<BTreeSet<usize>>,
    /// whether an expression reads headers
    pub reads_headers: bool,
    /// tenants of the models, each once; models name them by index
    pub tenants: Vec<Arc<str>>,
    /// models, each once; subscribers name them by index
    pub models: Vec<ServingModel>,
    /// where a model is in `models`
    pub by_identity: BTreeMap<Arc<str>, usize>,
    /// global stores that the plans look things up in
    pub global_stores: BTreeSet<String>,
    /// models that may not run, and why
    pub held: BTreeMap<String, Reason>,
    /// topics of shed events, by tenant
    pub shed_topics: BTreeMap<String, Arc<str>>,
    /// how rows that other versions have made become rows of these
    pub remakes: Remakes,
}

/// A model that runs.
pub struct ServingModel {
    /// the version that runs
    pub served: Arc<ServedModel>,
    /// the model on this worker
    pub runtime: Arc<ModelRuntime>,
    /// views that it reads: one for each of its topics
    pub views: BTreeSet<usize>,
}

/// A keyed store that the plans use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSlot {
    /// name: that of the store, with the time to live where a feature has its own
    pub name: String,
    /// time to live
    pub ttl: Option<Ttl>,
    /// whether expired entries are archived
    pub archive: bool,
}

/// A compiled view with the models that use it.
pub struct ViewPlan {
    /// its name
    pub name: Arc<str>,
    /// index into [`Topology::views`]
    pub view: usize,
    /// its evaluator, with this task's scratch memory
    pub evaluator: Evaluator,
    /// store of each aggregate group: index into [`Topology::stores`]
    pub group_stores: Vec<usize>,
    /// global stores in the plan's order; none: it is not open on this worker yet
    pub globals: Vec<Option<Arc<dyn GlobalRows>>>,
    /// models
    pub models: Vec<Subscriber>,
    /// a global store that the view needs cannot be looked up in: which, and why
    pub held: Option<(String, String)>,
}

/// A model at a view.
pub struct Subscriber {
    /// the version that runs
    pub model: Arc<ServedModel>,
    /// the model on this worker
    pub runtime: Arc<ModelRuntime>,
    /// index into [`Topology::models`]
    pub index: usize,
    /// index into [`Topology::tenants`]
    pub tenant: usize,
    /// features by model input
    pub slots: Vec<Vec<FeatureSlot>>,
    /// must be true
    pub filter: Option<ExpressionId>,
    /// must be one of these
    pub event_type: Option<(ExpressionId, Vec<String>)>,
    /// output key
    pub key: Option<ExpressionId>,
    /// windows: what they are keyed by, and whether events run too
    pub window: Option<WindowPlan>,
}

/// The window trigger of a model.
#[derive(Clone, Debug)]
pub struct WindowPlan {
    /// expressions of the key, with their texts
    pub by: Vec<(String, ExpressionId)>,
    /// views whose events it has: they have its time
    pub views: BTreeSet<usize>,
    /// which windows it opens
    pub rule: WindowRule,
    /// every event runs too
    pub updates: bool,
}

impl Topology {
    /// Compiles a deployment for these input topics. A model that does not fit any more (it did when it was put) is left out,
    /// which its status says.
    pub fn compile(deployment: &Deployment, topics: &[Arc<str>], globals: &GlobalStores) -> Topology {
        let mut topology = Topology {
            generation: deployment.generation,
            ..Topology::default()
        };
        for topic in topics {
            let plans = topology.compile_topic(deployment, topic, globals);
            topology.topics.push(plans);
        }
        // Windows hold events of all topics of a model, so its time is that of all of its views.
        for subscriber in topology.topics.iter_mut().flatten().flat_map(|plan| &mut plan.models) {
            if let (Some(window), Some(serving)) = (&mut subscriber.window, topology.models.get(subscriber.index)) {
                window.views.clone_from(&serving.views);
            }
        }
        let models = topology.models.iter().map(|model| &model.served);
        let held = models.filter_map(|model| {
            let reason = match deployment.resources.is_paused(&model.identity) {
                true => Reason::Paused,
                false if model.engine().is_none() => Reason::Artifact,
                false => return None,
            };
            Some((model.identity.to_string(), reason))
        });
        topology.held = held.collect();
        for tenant in &topology.tenants {
            let shed = deployment
                .resources
                .tenants
                .get(&**tenant)
                .and_then(|tenant| tenant.outputs.shed.as_deref());
            if let Some(shed) = shed {
                topology.shed_topics.insert(tenant.to_string(), shed.into());
            }
        }
        topology
    }

    /// The window triggers, by model.
    pub fn windows(&self) -> impl Iterator<Item = (&Arc<ServedModel>, WindowRule)> {
        let subscribers = self.topics.iter().flatten().flat_map(|plan| &plan.models);
        subscribers.filter_map(|subscriber| Some((&subscriber.model, subscriber.window.as_ref()?.rule)))
    }

    /// Whether a global store has become ready that a view waits for.
    pub fn waits_for_ready_store(&self, globals: &GlobalStores) -> bool {
        let held = self.topics.iter().flatten().filter_map(|plan| plan.held.as_ref());
        let mut stores = held.map(|(store, _)| store);
        stores.any(|store| globals.readiness(store) == Readiness::Ready)
    }

    fn compile_topic(&mut self, deployment: &Deployment, topic: &str, globals: &GlobalStores) -> Vec<ViewPlan> {
        let resources = &deployment.resources;
        let mut by_view: BTreeMap<String, (Arc<FeatureView>, Vec<Arc<ServedModel>>)> = BTreeMap::new();
        for model in deployment.models.values() {
            let document = &model.document;
            if !document.subscribe.topics.iter().any(|subscribed| subscribed == topic) {
                continue;
            }
            match view_of(resources, document, topic) {
                Ok(view) => by_view
                    .entry(view.name.clone())
                    .or_insert_with(|| (view.clone(), Vec::new()))
                    .1
                    .push(model.clone()),
                Err(error) => leave_out(deployment, model, topic, &error.to_string()),
            }
        }
        let plans = by_view.into_values();
        plans
            .filter_map(|(view, models)| self.compile_view(deployment, topic, &view, models, globals))
            .collect()
    }

    /// Compiles a view for its models. One that does not fit is left out, and the others are not.
    fn compile_view(
        &mut self,
        deployment: &Deployment,
        topic: &str,
        view: &FeatureView,
        mut models: Vec<Arc<ServedModel>>,
        globals: &GlobalStores,
    ) -> Option<ViewPlan> {
        let stores = Stores(&deployment.resources);
        let compile = |wanted: &Wanted| {
            FeaturePlan::compile(view, wanted, &stores)
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        let state = Wanted::new().state(view);
        let of_models = |models: &[Arc<ServedModel>]| {
            models
                .iter()
                .fold(state.clone(), |all, model| wanted(all, &model.document))
        };
        let mut plan = compile(&of_models(&models));
        if plan.is_err() {
            models.retain(|model| match compile(&wanted(state.clone(), &model.document)) {
                Ok(_) => true,
                Err(error) => {
                    leave_out(deployment, model, topic, &error);
                    false
                }
            });
            plan = compile(&of_models(&models));
        }
        let plan = match plan {
            Ok(_) if models.is_empty() => return None,
            Ok(plan) => Arc::new(plan),
            Err(error) => {
                for model in &models {
                    leave_out(deployment, model, topic, &error);
                }
                return None;
            }
        };
        let number = self.views.iter().position(|known| **known == *view.name);
        let number = number.unwrap_or_else(|| {
            self.views.push(view.name.as_str().into());
            self.views.len() - 1
        });
        self.global_stores.extend(plan.global_stores().iter().cloned());
        self.reads_headers |= plan.reads_headers();
        let group_stores = plan
            .groups()
            .iter()
            .map(|group| self.store(deployment, &group.store, group.ttl, number))
            .collect();
        let mut subscribers = Vec::new();
        for model in &models {
            let Some(runtime) = deployment.runtimes.get(&*model.identity) else {
                continue;
            };
            subscribers.push(self.subscriber(&plan, number, model, runtime));
        }
        let held = plan
            .global_stores()
            .iter()
            .find_map(|store| match globals.readiness(store) {
                Readiness::Ready => None,
                Readiness::Reading(why) | Readiness::Trouble(why, _) => {
                    Some((store.clone(), format!("global store {store} is not ready: {why}")))
                }
            });
        if let Some((_, why)) = &held {
            tracing::warn!(view = %view.name, topic, "gets no events, {why}");
        }
        Some(ViewPlan {
            held,
            name: view.name.as_str().into(),
            view: number,
            group_stores,
            globals: plan.global_stores().iter().map(|store| globals.get(store)).collect(),
            models: subscribers,
            evaluator: Evaluator::new(plan),
        })
    }

    fn subscriber(
        &mut self,
        plan: &FeaturePlan,
        view: usize,
        model: &Arc<ServedModel>,
        runtime: &Arc<ModelRuntime>,
    ) -> Subscriber {
        let document = &model.document;
        let expression = |text: &Option<String>| text.as_ref().and_then(|text| plan.expression(text));
        let tenant = match self.tenants.iter().position(|tenant| **tenant == *document.tenant) {
            Some(index) => index,
            None => {
                self.tenants.push(document.tenant.as_str().into());
                self.tenants.len() - 1
            }
        };
        let index = self.by_identity.get(&model.identity).copied();
        let index = index.unwrap_or_else(|| {
            self.models.push(ServingModel {
                served: model.clone(),
                runtime: runtime.clone(),
                views: BTreeSet::new(),
            });
            self.by_identity.insert(model.identity.clone(), self.models.len() - 1);
            self.models.len() - 1
        });
        if let Some(serving) = self.models.get_mut(index) {
            serving.views.insert(view);
        }
        let window = match &document.trigger {
            Trigger::Window {
                tumbling,
                grace,
                by,
                emit,
            } => Some(WindowPlan {
                by: by
                    .iter()
                    .filter_map(|text| Some((text.clone(), plan.expression(text)?)))
                    .collect(),
                views: BTreeSet::from([view]),
                rule: WindowRule {
                    length_ms: i64::try_from(tumbling.as_millis()).unwrap_or(i64::MAX),
                    grace_ms: i64::try_from(grace.as_millis()).unwrap_or(i64::MAX),
                    by: crate::models::hash(by.iter()),
                },
                updates: *emit == Emit::Update,
            }),
            _ => None,
        };
        Subscriber {
            model: model.clone(),
            runtime: runtime.clone(),
            index,
            tenant,
            slots: model
                .features()
                .map(|features| features.iter().filter_map(|feature| plan.slot(feature)).collect())
                .collect(),
            filter: expression(&document.subscribe.filter),
            event_type: expression(&document.subscribe.event_type).map(|id| (id, document.subscribe.events.clone())),
            key: expression(&document.output.key),
            window,
        }
    }

    /// The slot of a group's store, made if there is none.
    fn store(
        &mut self,
        deployment: &Deployment,
        name: &str,
        ttl: Option<feature_engine::resource::Ttl>,
        view: usize,
    ) -> usize {
        let store = deployment.resources.stores.get(name);
        let own = ttl.filter(|ttl| store.and_then(|store| store.ttl()) != Some(*ttl));
        let archive =
            own.is_none() && store.is_some_and(|store| matches!(store.kind, StoreKind::Keyed { archive: true, .. }));
        let slot = StoreSlot {
            name: match own {
                Some(ttl) => format!("{name}.ttl-{}", ttl.after),
                None => name.to_owned(),
            },
            ttl: ttl.map(|ttl| Ttl {
                after_ms: i64::try_from(ttl.after.as_millis()).unwrap_or(i64::MAX),
                since: match ttl.since {
                    Since::Write => state_store::Since::Write,
                    Since::Access => state_store::Since::Access,
                },
            }),
            archive,
        };
        let index = self.stores.iter().position(|known| *known == slot);
        let index = index.unwrap_or_else(|| {
            self.stores.push(slot);
            self.writers.push(BTreeSet::new());
            self.stores.len() - 1
        });
        if let Some(writers) = self.writers.get_mut(index) {
            writers.insert(view);
        }
        index
    }
}

/// A model that fitted when it was put fits no more: somebody else's document was put at the same moment. Its status says so.
fn leave_out(deployment: &Deployment, model: &ServedModel, topic: &str, error: &str) {
    tracing::error!(model = %model.identity, topic, error = %error, "model is left out");
    if let Some(runtime) = deployment.runtimes.get(&*model.identity) {
        runtime.note(format!("gets no events of topic {topic}: {error}"));
    }
}
