//! Waiting for conditions, with deadlines.

use std::{
    fmt::Display,
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

/// How long a test waits for something that ought to happen soon, also on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How long a test waits for a broker to start.
pub const START_PATIENCE: Duration = Duration::from_mins(3);

const STEP: Duration = Duration::from_millis(15);

/// Looks again and again until there is something to see, and fails with what was waited for.
#[track_caller]
pub fn until<T, F: Future<Output = Option<T>>>(
    what: impl Display,
    look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    until_within(PATIENCE, what, look)
}

/// The same with a time of its own.
#[track_caller]
pub fn until_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: impl Display,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let begin = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                begin.elapsed() < patience,
                "waited {patience:?} in vain for {what} ({caller})"
            );
            tokio::time::sleep(STEP).await;
        }
    }
}

/// Watches that something stays as it is for a while; for what must *not* happen.
pub async fn stays(what: impl Display, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(400) {
        assert!(holds(), "it was to stay true that {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Waits until somebody listens on a port of 127.0.0.1; `check` fails when nobody ever will.
pub async fn until_open(patience: Duration, port: u16, mut check: impl FnMut()) {
    until_within(patience, format!("somebody to listen on port {port}"), || {
        check();
        async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }
    })
    .await;
}
