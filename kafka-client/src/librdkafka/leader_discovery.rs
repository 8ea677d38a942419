//! Takes a fault of librdkafka (2.12.1, and 2.15.0 still) out of the way that ends the process.
//!
//! A broker that refuses a fetch may say beside it who leads the partition now (KIP-951). While a partition has no leader, as
//! just after its only replica was restarted, it says -1. librdkafka counts such partitions
//! (`rd_kafkap_Fetch_reply_tags_partition_parse`) but does not fill their places (`rd_kafka_handle_Fetch_metadata_update`), and
//! `rd_kafka_metadata_update_op` then uses whatever stood in that memory as the partition's number: an index far outside of its
//! array. Eight consumers beside a broker that is killed again and again do not live for a minute
//! (`tests/tests/client_restarts.rs`).
//!
//! What brokers say there only saves time: the same refusal has all known topics asked for anew. So nothing is made of it. The
//! linker puts this function in the place of the library's (`--wrap`); every program that has a consumer names it so in its
//! `build.rs`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

/// `rd_kafka_op_res_t`: the operation was handled. Its memory is freed by the caller.
const HANDLED: c_int = 1;

#[used]
static IN_ITS_PLACE: extern "C" fn(*mut c_void, *mut c_void) -> c_int = __wrap_rd_kafka_metadata_update_op;

// SAFETY: the name is the linker's own for a function that is wrapped, and is nobody else's. The signature is that of
// rdkafka_metadata.h: two pointers, neither of which is looked into, and an enum of C.
#[unsafe(no_mangle)]
extern "C" fn __wrap_rd_kafka_metadata_update_op(_client: *mut c_void, _metadata: *mut c_void) -> c_int {
    HANDLED
}
