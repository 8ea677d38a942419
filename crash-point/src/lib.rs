//! Places where a test kills the worker, by name.
//!
//! ```text
//! MILLRACE_CRASH_POINT=NAME[@N] -> read at the first pass of any place
//! reached("NAME") for the Nth time -> SIGKILL to the own process: no destructor, no flush, no goodbye
//! ```
//! The places are listed in [`ALL`], so that a test can visit every one of them and a misspelt one is refused. Without the
//! feature `armed` [`reached`] is an empty inline function and the variable means nothing; only the package `tests` turns
//! it on, and `tests/tests/architecture.rs` holds that the `millrace` binary on its own is built without it.

/// The variable that names the place where the process dies: `NAME`, or `NAME@N` for the Nth pass.
pub const VARIABLE: &str = "MILLRACE_CRASH_POINT";

/// Every place, in the order in which a record passes them.
pub const ALL: &[&str] = &[
    // a task takes its partitions
    "open.layout_agreed",
    "open.producer_initialised",
    "restore.fetched",
    "restore.partition_written",
    "open.restored",
    // records to predictions
    "sink.fetched",
    "sink.handed_over",
    "inference.predicted",
    "inference.gathered",
    // one transaction
    "commit.outputs_flushed",
    "commit.changelog_appended",
    "commit.all_appended",
    "commit.all_sent",
    "commit.refused",
    "commit.committed",
    "commit.some_stores_written",
    "commit.stores_written",
    // expired entries to the archive
    "archive.intent_committed",
    "archive.object_encoded",
    "archive.object_put",
    "archive.object_known",
    "archive.finish_proposed",
    "archive.finish_committed",
    // detached models
    "detached.rows_logged",
    "detached.rows_read",
    "detached.attached",
    // global stores
    "global.file_ingested",
];

/// The process passes a place.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub fn reached(_name: &'static str) {}

/// The process passes a place, and dies there if it was told to.
#[cfg(feature = "armed")]
pub fn reached(name: &'static str) {
    armed::reached(name);
}

#[cfg(feature = "armed")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Target {
        name: String,
        passes_left: AtomicU64,
    }

    static TARGET: OnceLock<Option<Target>> = OnceLock::new();

    pub(super) fn reached(name: &str) {
        let target = TARGET.get_or_init(|| target(&std::env::var(super::VARIABLE).ok()?));
        let Some(target) = target.as_ref().filter(|target| target.name == name) else {
            return;
        };
        if target.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // It cannot fail for the own process, and the call does not return.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is delivered before the call returns, to one of the threads: this one must not go on meanwhile.
            loop {
                std::thread::park();
            }
        }
    }

    /// `NAME` or `NAME@N`.
    #[allow(clippy::panic)] // a test that names no place would pass without having crashed anything
    fn target(text: &str) -> Option<Target> {
        let (name, pass) = text.split_once('@').unwrap_or((text, "1"));
        let pass = pass.parse().ok().filter(|pass| *pass > 0);
        match pass.filter(|_| super::ALL.contains(&name)) {
            Some(pass) => Some(Target {
                name: name.to_owned(),
                passes_left: AtomicU64::new(pass),
            }),
            None => panic!("{}={text}: there is no such crash point", super::VARIABLE),
        }
    }
}
