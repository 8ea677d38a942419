//! Errors as librdkafka reports them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};

use rdkafka_sys as sys;

use crate::error::{ErrorCode, KafkaError};

// The bindings type these results as a Rust enum. A broker newer than the library can send codes that the enum lacks, and
// such a value would be undefined behaviour, so they are declared again with the integer that C returns.
unsafe extern "C" {
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> c_int;
}

/// The code with this number, `Unknown` if the library does not know it.
pub(crate) fn code(number: i32) -> ErrorCode {
    sys::rd_kafka_resp_err_t::try_from(number).map_or(ErrorCode::Unknown, ErrorCode::from)
}

/// Reads an error code out of a C struct without assuming that the enum knows it.
///
/// # Safety
/// `place` points to an initialised `rd_kafka_resp_err_t`, aligned, valid for reads.
pub(crate) unsafe fn read_code(place: *const sys::rd_kafka_resp_err_t) -> i32 {
    // SAFETY: the enum is repr(i32); the caller promises validity.
    unsafe { place.cast::<i32>().read() }
}

/// Success, or the error with this number.
pub(crate) fn check(number: i32, context: impl FnOnce() -> String) -> Result<(), KafkaError> {
    if number == 0 {
        Ok(())
    } else {
        Err(from_number(number, context()))
    }
}

/// The error with this number; a number that the library cannot name is shown as it is.
pub(crate) fn from_number(number: i32, context: impl Into<String>) -> KafkaError {
    let code = code(number);
    let mut context = context.into();
    if code == ErrorCode::Unknown && number != -1 {
        context.push_str(&format!(" (broker error {number})"));
        return KafkaError::classified(code, context, crate::error::is_retriable_number(number), false, false);
    }
    KafkaError::new(code, context)
}

/// Takes over an error object that a call returned; null is success.
///
/// # Safety
/// `error` is null or an error object that the caller owns.
pub(crate) unsafe fn take(
    error: *mut sys::rd_kafka_error_t,
    context: impl FnOnce() -> String,
) -> Result<(), KafkaError> {
    // SAFETY: as promised; it is destroyed once, after its last use.
    unsafe {
        let result = borrow(error, context);
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
        result
    }
}

/// Reads an error object that belongs to something else; null is success.
///
/// # Safety
/// `error` is null or points to an error object that lives during the call.
pub(crate) unsafe fn borrow(
    error: *const sys::rd_kafka_error_t,
    context: impl FnOnce() -> String,
) -> Result<(), KafkaError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: as promised by the caller; strings are copied before the error is given back.
    unsafe {
        let number = rd_kafka_error_code(error);
        if number == 0 {
            return Ok(());
        }
        let detail = text(sys::rd_kafka_error_string(error));
        let plain = from_number(number, format!("{}: {detail}", context()));
        let fatal = sys::rd_kafka_error_is_fatal(error) != 0 || plain.is_fatal();
        let requires_abort = sys::rd_kafka_error_txn_requires_abort(error) != 0;
        let retriable =
            !fatal && !requires_abort && (sys::rd_kafka_error_is_retriable(error) != 0 || plain.is_retriable());
        Err(KafkaError::classified(
            plain.code,
            plain.context,
            retriable,
            fatal,
            requires_abort,
        ))
    }
}

/// A C string as text; empty for null.
///
/// # Safety
/// `pointer` is null or a NUL-terminated string that lives during the call.
pub(crate) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// A name for C. Kafka's names and options hold no NUL byte.
pub(crate) fn c_string(value: &str) -> Result<CString, KafkaError> {
    CString::new(value).map_err(|_| {
        KafkaError::new(
            ErrorCode::InvalidArgument,
            format!("{value:?} contains a NUL character"),
        )
    })
}
