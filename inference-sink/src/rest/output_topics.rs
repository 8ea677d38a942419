//! Whether the topics that a document sends outputs to are there: said when it is put, not at the first output.

use crate::output::{advice, missing};
use crate::service::Started;
use feature_engine::resource::{FieldError, Resource};
use std::collections::BTreeSet;
use std::time::Duration;

/// Brokers that do not answer by then are asked by the task later.
const ANSWER: Duration = Duration::from_secs(5);

/// What is wrong with the topics of a document, by field. Nothing, where the brokers do not say.
pub(super) async fn check(started: &Started, resource: &Resource) -> Vec<FieldError> {
    let resources = started.registry.resources();
    let named: Vec<(&str, &str)> = match resource {
        Resource::Tenant(tenant) => [
            ("outputs.topic", &tenant.outputs.topic),
            ("outputs.shed", &tenant.outputs.shed),
        ]
        .into_iter()
        .filter_map(|(field, topic)| Some((field, topic.as_deref()?)))
        .collect(),
        Resource::Model(model) => {
            let tenant = resources.tenants.get(&model.tenant);
            let fallback = || tenant.and_then(|tenant| tenant.outputs.topic.as_deref());
            let topic = model.output.topic.as_deref().or_else(fallback);
            topic.map(|topic| ("output.topic", topic)).into_iter().collect()
        }
        Resource::Store(_) | Resource::FeatureView(_) => Vec::new(),
    };
    if named.is_empty() {
        return Vec::new();
    }
    let topics: BTreeSet<String> = named.iter().map(|(_, topic)| (*topic).to_owned()).collect();
    let admin = started.registry.clients().admin().with_timeout(ANSWER);
    match missing(&admin, &topics).await {
        Ok(absent) => named
            .into_iter()
            .filter(|(_, topic)| absent.contains(*topic))
            .map(|(field, topic)| FieldError::new(field, advice(topic)))
            .collect(),
        Err(error) => {
            tracing::debug!(error = %error, "output topics could not be looked at");
            Vec::new()
        }
    }
}
