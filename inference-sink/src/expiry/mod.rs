//! Expired entries of keyed stores: invisible at once, then deleted, or archived first.
//!
//! ```text
//! due -> not archived: tombstones in the next commit
//!     -> archived:     intent in one commit -> Parquet object -> manifest and tombstones in another (archiver)
//!        an object that cannot be put: again after a while, status and metrics say why (waiting)
//! key as people write it -> the bytes it may stand for (keys) -> local copies, manifests and objects
//! ```

mod archiver;
mod keys;
mod waiting;

pub(crate) use archiver::Archiver;
pub(crate) use keys::{candidate_keys, shown_key};
pub(crate) use waiting::ArchiveWait;
