//! Files that are damaged: found, and set aside when somebody says so.
//!
//! Invariant: nothing is ever deleted; what is cut off stays beside the files, as `*.damaged`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use transload_delivery::journal::{JournalSettings, OnDamage, OpenError};

use crate::{
    config::Configuration,
    offline::OfflineError,
    storage::{Storage, explain},
};

/// What was found in a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Copies of damaged files that were made now, and their sizes in bytes.
    pub set_aside: Vec<(PathBuf, u64)>,
    /// Messages that were known to wait in what was damaged, and are lost to their queues.
    pub lost_messages: u64,
    /// Bytes at the end of the log that a crash had left incomplete, and that nobody had been
    /// promised.
    pub cut_bytes: u64,
    /// Messages that wait, dead letters among them.
    pub waiting: u64,
}

/// Reads everything in the data directory of a stopped gateway and checks it. Damage is an error,
/// unless it is to be set aside.
pub async fn repair(
    configuration: &Configuration,
    set_aside: bool,
) -> Result<Repaired, OfflineError> {
    let settings = &configuration.gateway;
    let directory = &settings.data_dir;
    if !directory.exists() {
        return Err(OfflineError::Missing(directory.clone()));
    }
    let before = copies(directory).unwrap_or_default();
    let journal = JournalSettings {
        verify: true,
        on_damage: if set_aside { OnDamage::SetAside } else { OnDamage::Stop },
        ..Storage::journal_settings(settings)
    };
    let storage = Storage::open_as(directory, journal).await.map_err(|error| match error {
        OpenError::Locked(_) => OfflineError::Running,
        OpenError::Damaged { .. }
        | OpenError::Version { .. }
        | OpenError::Settings(_)
        | OpenError::Io { .. } => OfflineError::Data(explain(&error)),
    })?;
    let found = storage.statistics();
    let depths = storage.depths();
    storage.close().await;
    let new: BTreeSet<_> = copies(directory).unwrap_or_default();
    let new = new.difference(&before);
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(Repaired {
        set_aside: new.map(|path| (path.clone(), size(path))).collect(),
        lost_messages: found.lost_messages,
        cut_bytes: found.cut_bytes,
        waiting: depths.iter().map(|(_, _, depth)| depth.messages).sum(),
    })
}

/// The copies of damaged files in a directory.
fn copies(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path());
    Ok(entries.filter(|path| path.extension().is_some_and(|it| it == "damaged")).collect())
}
