//! Locks and wake-ups.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// Locks, also when another holder has panicked: no lock here is held over a call that can leave
/// its data half changed, and the journal notices a panic of its writer by other means.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a condition says when it is looked at.
pub(crate) enum Look<T> {
    /// It is met.
    Met(T),
    /// It is not met; look again when notified, or at the latest after this time.
    Wait(Option<Duration>),
}

/// Waits until `look` says that its condition is met. It is looked at after the waiter has been
/// enlisted, so a notification between the look and the wait is not lost.
pub(crate) async fn wait_until<T>(notify: &Notify, mut look: impl FnMut() -> Look<T> + Send) -> T {
    loop {
        let mut notified = pin!(notify.notified());
        notified.as_mut().enable();
        match look() {
            Look::Met(outcome) => return outcome,
            Look::Wait(None) => notified.await,
            // Whether it was the time or the notification, the condition is looked at again.
            Look::Wait(Some(most)) => drop(timeout(most, notified).await),
        }
    }
}
