use std::{future::Future, time::Duration};

/// How long a test waits for something that ought to happen soon, also on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`.
///
/// # Panics
///
/// With what was waited for, when [`PATIENCE`] is over.
#[expect(clippy::panic, reason = "a test that waits in vain fails")]
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        if let Ok(output) = tokio::time::timeout(PATIENCE, future).await {
            return output;
        }
        panic!("waited {PATIENCE:?} in vain for {what} ({caller})")
    }
}
