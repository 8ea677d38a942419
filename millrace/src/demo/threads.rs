//! Blocking work beside the async threads, which can be told that nobody waits for it any more.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The threads that are at work.
#[derive(Default)]
pub struct Threads {
    given_up: Arc<AtomicBool>,
    running: JoinSet<()>,
}

impl Threads {
    /// Runs `work` on a thread. It looks at the flag that it is given now and then, and ends early where that is set; a
    /// dropped call does not end it.
    pub async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, outcome) = oneshot::channel();
        let given_up = Arc::clone(&self.given_up);
        self.running.spawn_blocking(move || {
            // nobody waits any more
            let _ = done.send(work(&given_up));
        });
        outcome.await.context("a thread of the demo panicked")?
    }

    /// Has everything end, and waits for that.
    pub async fn give_up(mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        while self.running.join_next().await.is_some() {}
    }
}
