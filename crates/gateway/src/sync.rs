//! Locks that are only held for a few instructions.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; what a panic elsewhere left behind is still whole, since nothing is changed in steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
