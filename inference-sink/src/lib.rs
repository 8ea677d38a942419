//! Tenants' models on event streams: subscription, features, flows, fair scheduling, triggers, outputs.
