//! Link options of programs with a consumer.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // See kafka-client/src/librdkafka/leader_discovery.rs: a fault of librdkafka that ends the process.
    println!("cargo:rustc-link-arg=-Wl,--wrap=rd_kafka_metadata_update_op");
}
