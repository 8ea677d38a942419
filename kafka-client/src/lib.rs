//! The one place that touches librdkafka: batches in, records out, transactions, offsets, raw requests.
