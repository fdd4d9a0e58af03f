//! The store of the gateway: the journal in the data directory.

use std::{error::Error as _, io, path::Path, sync::Arc};

use tracing::{error, info, warn};
use transload_adapter::store::{Depth, Leased, Position, Storage as Kept, Store, StoreError};
use transload_delivery::{
    JournalStore,
    journal::{Health, JournalSettings, OpenError, Statistics},
};
use transload_envelope::Text;

use crate::config::GatewaySettings;

/// The open store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Storage(Arc<JournalStore>);

impl Storage {
    /// Opens the store in the data directory, which may read much from the disk.
    pub(crate) async fn open(settings: &GatewaySettings) -> Result<Self, OpenError> {
        Self::open_as(&settings.data_dir, Self::journal_settings(settings)).await
    }

    /// The bounds of the journal.
    pub(crate) fn journal_settings(settings: &GatewaySettings) -> JournalSettings {
        JournalSettings { disk_bytes_max: settings.disk_bytes_max, ..JournalSettings::default() }
    }

    /// Opens the store with other settings.
    pub(crate) async fn open_as(
        directory: &Path,
        journal: JournalSettings,
    ) -> Result<Self, OpenError> {
        let directory = directory.to_owned();
        let opening =
            tokio::task::spawn_blocking(move || JournalStore::open(&directory, journal)).await;
        let store = match opening {
            Ok(opened) => opened?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let found = store.statistics();
        if found.cut_bytes > 0 {
            info!(
                bytes = found.cut_bytes,
                "The last run ended in the middle of a write, which was not acknowledged; it is cut off."
            );
        }
        if found.lost_messages > 0 {
            warn!(messages = found.lost_messages, "Messages were lost with damaged files.");
        }
        Ok(Self(Arc::new(store)))
    }

    /// The queues and tables.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    /// Whether messages can be stored.
    pub(crate) fn health(&self) -> Health {
        self.0.health()
    }

    /// Figures for people and for metrics.
    pub(crate) fn statistics(&self) -> Statistics {
        self.0.statistics()
    }

    /// Where each queue is and how much waits in it, in the order of their names.
    pub(crate) fn depths(&self) -> Vec<(Text, Kept, Depth)> {
        self.0.depths()
    }

    /// Reads messages of a queue on disk in order, without leasing them.
    pub(crate) async fn browse(
        &self,
        queue: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        self.0.browse(queue, after, limit).await
    }

    /// Takes messages out of a queue on disk that are not leased; returns how many there were.
    pub(crate) fn discard(&self, queue: &str, positions: &[Position]) -> u64 {
        self.0.discard(queue, positions)
    }

    /// Writes what is open and closes.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.0.close().await {
            error!(%error, "The data directory could not be closed in good order.");
        }
    }
}

/// Why the data directory cannot be used, with its cause and its cure.
pub(crate) fn explain(error: &OpenError) -> String {
    let mut text = error.to_string();
    if let Some(cause) = error.source() {
        text = format!("{text}: {cause}");
    }
    match error {
        OpenError::Locked(_) => {
            text.push_str("; stop the other gateway, or give this one its own `data_dir`");
        }
        OpenError::Damaged { .. } => text.push_str(
            "; nothing was changed: restore the file from a copy, or set aside what is damaged with \
             `transload repair --set-aside`, which says what that loses",
        ),
        OpenError::Version { .. } => {
            text.push_str("; it was written by a newer version: use that one");
        }
        OpenError::Io { source, .. } => text.push_str(cure(source.kind())),
        OpenError::Settings(_) => {}
    }
    text
}

/// What helps against an error of the system, where that is known.
fn cure(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::PermissionDenied {
        "; the user that the gateway runs as must be able to read and write there"
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        "; mount the file system so that it can be written to, or choose another `data_dir`"
    } else if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        "; make space, or choose another `data_dir`"
    } else {
        ""
    }
}
