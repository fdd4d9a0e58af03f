//! Notices when a file of the configuration has changed.
//!
//! The files are looked at from time to time: that costs a few system calls a second, and works the
//! same for editors that write a new file, for links that are swapped as a whole, and for network
//! file systems, none of which tell of every change.

use std::{mem, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::sleep};

use crate::config::{Snapshot, Watched};

/// How often the files are looked at. A change counts when the next look finds the same, so that
/// files which are written one after the other are read together.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The files of a configuration.
#[derive(Debug)]
pub(super) struct Watch {
    watched: Arc<Watched>,
    seen: Snapshot,
    /// What the last look found, where that was something else.
    changing: Option<Snapshot>,
}

impl Watch {
    /// Files that have just been read. Blocks.
    pub(super) fn new(watched: Watched) -> Self {
        let seen = watched.look(&Snapshot::default());
        Self { watched: Arc::new(watched), seen, changing: None }
    }

    /// Waits for a change. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let found = look(&self.watched, self.seen.clone()).await;
            if found == self.seen {
                self.changing = None;
            } else if self.changing.as_ref() == Some(&found) {
                return;
            } else {
                self.changing = Some(found);
            }
        }
    }

    /// Is called before the files are read.
    pub(super) async fn before(&mut self) {
        self.changing = None;
        self.seen = look(&self.watched, mem::take(&mut self.seen)).await;
    }

    /// Is called when they have been read. What changes while they are read is a change.
    pub(super) async fn after(&mut self, watched: Watched) {
        self.watched = Arc::new(watched);
        let found = look(&self.watched, self.seen.clone()).await;
        self.seen = found.as_before(&self.seen);
    }
}

async fn look(watched: &Arc<Watched>, before: Snapshot) -> Snapshot {
    let watched = Arc::clone(watched);
    let looking = spawn_blocking(move || watched.look(&before)).await;
    match looking {
        Ok(found) => found,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
