//! Runs a plugin's code where it can do no harm: on a thread of its own, with a deadline, a panic being an error.

use connect_api::ConnectError;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Calls into connectors that run at the same time, as many as a Java worker's start and stop threads.
const CONCURRENT_CALLS: usize = 8;

static CALLS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(CONCURRENT_CALLS)));

/// Runs `work` on a blocking thread and waits for it, for at most `deadline` once it has begun. A call that outlasts its
/// deadline keeps its thread but nobody waits for it any more; it does not count against the limit of concurrent calls.
///
/// # Errors
/// `work`'s own; a panic; the deadline, naming `doing`.
pub(crate) async fn isolated<T, F>(
    doing: String,
    deadline: Duration,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, ConnectError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ConnectError>>,
{
    // the semaphore is never closed
    let _permit = CALLS.acquire().await.ok();
    let runtime = tokio::runtime::Handle::current();
    let call = tokio::task::spawn_blocking(move || runtime.block_on(work()));
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(join)) => {
            let reason = match join.try_into_panic() {
                Ok(panic) => panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "unknown reason".to_owned()),
                Err(_) => "the worker is stopping".to_owned(),
            };
            Err(ConnectError::fatal(format!("panic while {doing}: {reason}")))
        }
        Err(_) => Err(ConnectError::fatal(format!(
            "no answer within {} s while {doing}; it is left to itself",
            deadline.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_is_an_error_and_a_hanging_call_is_left() {
        let panicked = isolated::<(), _>("starting a".to_owned(), Duration::from_secs(60), || async {
            panic!("boom")
        })
        .await;
        assert_eq!(panicked.unwrap_err().message(), "panic while starting a: boom");
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hung = isolated::<(), _>("starting b".to_owned(), Duration::from_millis(10), move || async move {
            let _ = held.recv();
            Ok(())
        })
        .await;
        assert!(hung.unwrap_err().message().starts_with("no answer within"));
        drop(release);
    }
}
