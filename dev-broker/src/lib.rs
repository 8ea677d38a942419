//! A one-node Kafka-compatible broker for demos and tests; never for production.
