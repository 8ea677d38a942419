//! What a task computes per event, compiled from a deployment: plans by view, models by plan, stores by group.

use crate::models::{ModelRuntime, ServedModel};
use crate::registry::Deployment;
use crate::registry::check::{Stores, view_of, wanted};
use crate::service::{GlobalRows, GlobalStores};
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
    /// keyed stores
    pub stores: Vec<StoreSlot>,
    /// whether an expression reads headers
    pub reads_headers: bool,
    /// tenants of the models, each once; models name them by index
    pub tenants: Vec<Arc<str>>,
    /// models, each once; subscribers name them by index
    pub models: Vec<(Arc<ServedModel>, Arc<ModelRuntime>)>,
    /// global stores that the plans look things up in
    pub global_stores: BTreeSet<String>,
    /// models that somebody paused
    pub paused: BTreeSet<String>,
    /// topics of shed events, by tenant
    pub shed_topics: BTreeMap<String, Arc<str>>,
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
    /// its evaluator, with this task's scratch memory
    pub evaluator: Evaluator,
    /// store of each aggregate group: index into [`Topology::stores`]
    pub group_stores: Vec<usize>,
    /// global stores in the plan's order; none: it is not open on this worker yet
    pub globals: Vec<Option<Arc<dyn GlobalRows>>>,
    /// models
    pub models: Vec<Subscriber>,
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
    /// expressions of the key
    pub by: Vec<ExpressionId>,
    /// length in milliseconds
    pub length_ms: i64,
    /// grace in milliseconds
    pub grace_ms: i64,
    /// every event runs too
    pub updates: bool,
}

impl Topology {
    /// Compiles a deployment for these input topics. A model that does not fit any more (it did when it was put) is left
    /// out and logged.
    pub fn compile(deployment: &Deployment, topics: &[Arc<str>], globals: &GlobalStores) -> Topology {
        let mut topology = Topology {
            generation: deployment.generation,
            ..Topology::default()
        };
        for topic in topics {
            let plans = topology.compile_topic(deployment, topic, globals);
            topology.topics.push(plans);
        }
        let models = topology.models.iter().map(|(model, _)| model.identity.to_string());
        topology.paused = models.filter(|model| deployment.resources.is_paused(model)).collect();
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

    fn compile_topic(&mut self, deployment: &Deployment, topic: &str, globals: &GlobalStores) -> Vec<ViewPlan> {
        let resources = &deployment.resources;
        let mut by_view: BTreeMap<String, (Arc<FeatureView>, Vec<Arc<ServedModel>>)> = BTreeMap::new();
        for model in deployment.models.values() {
            let document = &model.document;
            if !document.subscribe.topics.iter().any(|subscribed| subscribed == topic) {
                continue;
            }
            let compiled = view_of(resources, document, topic).and_then(|view| {
                FeaturePlan::compile(view, &wanted(Wanted::new(), document), &Stores(resources))
                    .map(|_| view.clone())
                    .map_err(|errors| {
                        errors
                            .into_iter()
                            .next()
                            .unwrap_or_else(|| feature_engine::resource::FieldError::new("", "does not compile"))
                    })
            });
            match compiled {
                Ok(view) => by_view
                    .entry(view.name.clone())
                    .or_insert_with(|| (view, Vec::new()))
                    .1
                    .push(model.clone()),
                Err(error) => tracing::error!(model = %model.identity, topic, error = %error, "model is left out"),
            }
        }
        let mut plans = Vec::new();
        for (view, models) in by_view.into_values() {
            match self.compile_view(deployment, &view, &models, globals) {
                Ok(plan) => plans.push(plan),
                Err(error) => tracing::error!(view = %view.name, topic, error, "feature view is left out"),
            }
        }
        plans
    }

    fn compile_view(
        &mut self,
        deployment: &Deployment,
        view: &FeatureView,
        models: &[Arc<ServedModel>],
        globals: &GlobalStores,
    ) -> Result<ViewPlan, String> {
        let resources = &deployment.resources;
        let all = models
            .iter()
            .fold(Wanted::new(), |all, model| wanted(all, &model.document));
        let plan = FeaturePlan::compile(view, &all, &Stores(resources))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let plan = Arc::new(plan);
        self.global_stores.extend(plan.global_stores().iter().cloned());
        let text = |document: Option<serde_json::Value>| document.map(|d| d.to_string()).unwrap_or_default();
        self.reads_headers |= text(serde_json::to_value(view).ok()).contains("headers")
            || models
                .iter()
                .any(|model| text(serde_json::to_value(&*model.document).ok()).contains("headers"));
        let group_stores = plan
            .groups()
            .iter()
            .map(|group| self.store(deployment, &group.store, group.ttl))
            .collect();
        let mut subscribers = Vec::new();
        for model in models {
            let Some(runtime) = deployment.runtimes.get(&*model.identity) else {
                continue;
            };
            subscribers.push(self.subscriber(&plan, model, runtime));
        }
        Ok(ViewPlan {
            group_stores,
            globals: plan.global_stores().iter().map(|store| globals.get(store)).collect(),
            models: subscribers,
            evaluator: Evaluator::new(plan),
        })
    }

    fn subscriber(&mut self, plan: &FeaturePlan, model: &Arc<ServedModel>, runtime: &Arc<ModelRuntime>) -> Subscriber {
        let document = &model.document;
        let expression = |text: &Option<String>| text.as_ref().and_then(|text| plan.expression(text));
        let tenant = match self.tenants.iter().position(|tenant| **tenant == *document.tenant) {
            Some(index) => index,
            None => {
                self.tenants.push(document.tenant.as_str().into());
                self.tenants.len() - 1
            }
        };
        let index = match self.models.iter().position(|(known, _)| Arc::ptr_eq(known, model)) {
            Some(index) => index,
            None => {
                self.models.push((model.clone(), runtime.clone()));
                self.models.len() - 1
            }
        };
        let window = match &document.trigger {
            Trigger::Window {
                tumbling,
                grace,
                by,
                emit,
            } => Some(WindowPlan {
                by: by.iter().filter_map(|text| plan.expression(text)).collect(),
                length_ms: i64::try_from(tumbling.as_millis()).unwrap_or(i64::MAX),
                grace_ms: i64::try_from(grace.as_millis()).unwrap_or(i64::MAX),
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
                .iter()
                .map(|features| features.iter().filter_map(|feature| plan.slot(feature)).collect())
                .collect(),
            filter: expression(&document.subscribe.filter),
            event_type: expression(&document.subscribe.event_type).map(|id| (id, document.subscribe.events.clone())),
            key: expression(&document.output.key),
            window,
        }
    }

    /// The slot of a group's store, made if there is none.
    fn store(&mut self, deployment: &Deployment, name: &str, ttl: Option<feature_engine::resource::Ttl>) -> usize {
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
        match self.stores.iter().position(|known| *known == slot) {
            Some(index) => index,
            None => {
                self.stores.push(slot);
                self.stores.len() - 1
            }
        }
    }
}
