//! `kind: tenant`: who shares the workers, and with which limits.

use serde::Serialize;

use super::fields::Fields;
use super::{ByteSize, TimeSpan};

/// A tenant: its share of CPU, its limits, where its outputs go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Share of inference CPU under contention, relative to the other tenants' weights. Default 1.
    pub weight: u32,
    /// Limit on events per second over the whole cluster; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Bound of queues and waiting feature vectors, per worker. Default 256MiB.
    pub memory: ByteSize,
    /// Hard ceiling of inference CPU, as a fraction of the worker's inference cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuLimit>,
    /// How much of the feature log detached models may use.
    pub feature_log: FeatureLogLimits,
    /// Topics of what leaves the tenant's models.
    pub outputs: TenantOutputs,
    /// Principals that may read and write the tenant's resources.
    pub access: Access,
}

/// Limit on a tenant's events, for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Events per second that are let through in the long run.
    pub events_per_second: f64,
    /// Events that may come at once. Default: one second's worth.
    pub burst: f64,
    /// What happens to events over the limit.
    pub over: OverLimit,
}

/// What happens to events over a tenant's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimit {
    /// They wait in the feature log (the default).
    Wait,
    /// A random share of them is let through, the rest is counted.
    Sample,
    /// They are dropped and counted, and sent to the `shed` topic where there is one.
    Shed,
}

/// A hard ceiling of CPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuLimit {
    /// Fraction of the worker's inference cores, above 0 and at most 1.
    pub max_share: f64,
}

/// Bounds of a tenant's part of the feature log; what falls out of it unread counts as shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureLogLimits {
    /// How long entries are kept. Default 7d.
    pub retention: TimeSpan,
    /// How many bytes may wait; no bound by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
}

/// A tenant's default topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantOutputs {
    /// Where predictions go that name no topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Where events go that were shed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shed: Option<String>,
    /// Where events go that a model failed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<String>,
}

/// Who may read and write a tenant's resources through REST; empty lists restrict nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Principals that may read.
    pub read: Vec<String>,
    /// Principals that may write.
    pub write: Vec<String>,
}

impl Tenant {
    /// A tenant with every default, as used where no document names it.
    pub fn named(name: impl Into<String>) -> Tenant {
        Tenant {
            name: name.into(),
            weight: 1,
            rate: None,
            memory: ByteSize::from_bytes(256 << 20),
            cpu: None,
            feature_log: FeatureLogLimits {
                retention: TimeSpan::from_millis(7 * 86_400_000),
                max_bytes: None,
            },
            outputs: TenantOutputs::default(),
            access: Access::default(),
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Tenant {
        let defaults = Tenant::named(fields.name("name"));
        Tenant {
            weight: fields
                .whole("weight", 1..=1000)
                .map_or(defaults.weight, |weight| weight as u32),
            rate: fields.object("rate", read_rate),
            memory: fields.size("memory").unwrap_or(defaults.memory),
            cpu: fields.object("cpu", read_cpu),
            feature_log: fields
                .object("feature_log", |log| {
                    let retention = log.positive_span("retention").unwrap_or(defaults.feature_log.retention);
                    Some(FeatureLogLimits {
                        retention,
                        max_bytes: log.size("max_bytes"),
                    })
                })
                .unwrap_or(defaults.feature_log),
            outputs: fields
                .object("outputs", |outputs| {
                    let (topic, shed) = (outputs.topic("topic"), outputs.topic("shed"));
                    Some(TenantOutputs {
                        topic,
                        shed,
                        errors: outputs.topic("errors"),
                    })
                })
                .unwrap_or_default(),
            access: fields
                .object("access", |access| {
                    Some(Access {
                        read: access.texts("read"),
                        write: access.texts("write"),
                    })
                })
                .unwrap_or_default(),
            name: defaults.name,
        }
    }
}

fn read_rate(rate: &mut Fields<'_>) -> Option<Rate> {
    rate.require("events_per_second");
    let over = rate.choice(
        "over",
        &[
            ("wait", OverLimit::Wait),
            ("sample", OverLimit::Sample),
            ("shed", OverLimit::Shed),
        ],
    );
    let burst = rate.positive("burst");
    let events_per_second = rate.positive("events_per_second")?;
    Some(Rate {
        events_per_second,
        burst: burst.unwrap_or(events_per_second),
        over: over.unwrap_or(OverLimit::Wait),
    })
}

fn read_cpu(cpu: &mut Fields<'_>) -> Option<CpuLimit> {
    cpu.require("max_share");
    let max_share = cpu.share("max_share")?;
    if max_share == 0.0 {
        cpu.error("max_share", "must be above 0");
    }
    Some(CpuLimit { max_share })
}
