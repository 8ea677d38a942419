//! Expired entries of keyed stores: invisible at once, then deleted, or archived first.
//!
//! ```text
//! due -> not archived: tombstones in the next commit
//!     -> archived:     intent in one commit -> Parquet object -> manifest and tombstones in another (archiver)
//! key as people write it -> the bytes it may stand for (keys) -> local copies, manifests and objects
//! ```

mod archiver;
mod keys;

pub(crate) use archiver::Archiver;
pub(crate) use keys::{candidate_keys, shown_key};
