use std::{io, path::PathBuf, time::Duration};

use transload_envelope::Text;

/// The bounds of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// From which size on a segment is closed and the next one begun. At most 1 GiB.
    pub segment_bytes: u64,
    /// How much the files may take in all. At this bound appends are refused, while what makes
    /// room (`done`, deletions, cleaning up) goes on: for that, the last two segments' worth, or a
    /// quarter of the bound if that is less, is kept free.
    pub disk_bytes_max: u64,
    /// How many bytes in segments of which something lives may not live, before segments of which
    /// at most half lives are emptied; half of all files if that is more.
    pub waste_bytes_max: u64,
    /// How many bytes may have been handed over without being on disk; `append` waits at it.
    pub hand_over_bytes_max: u32,
    /// How many messages may have been handed over without being on disk.
    pub hand_over_messages_max: u32,
    /// How many bytes of the log's end are kept in memory, so that a consumer that keeps up never
    /// reads the disk.
    pub cache_bytes_max: usize,
    /// Up to which size a checkpoint is written by the thread that commits; a larger one is written
    /// beside it.
    pub checkpoint_here_bytes_max: u64,
    /// Whether every record is checked at opening, also those before the checkpoint. Otherwise
    /// these are checked when they are read.
    pub verify: bool,
    /// What is to happen when a file is damaged.
    pub on_damage: OnDamage,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            disk_bytes_max: 16 << 30,
            waste_bytes_max: 256 << 20,
            hand_over_bytes_max: 16 << 20,
            hand_over_messages_max: 65_536,
            cache_bytes_max: 32 << 20,
            checkpoint_here_bytes_max: 256 << 10,
            verify: false,
            on_damage: OnDamage::Stop,
        }
    }
}

/// What is to happen when a file is found damaged at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// The store is not opened.
    Stop,
    /// The file is copied beside itself with the ending `.damaged`, and cut off where the damage
    /// begins; what lived behind that is lost to the queues, and counted in
    /// [`Statistics::lost_messages`]. Messages that were done may come again.
    SetAside,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has it open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// A file is damaged.
    #[error("{} is damaged at offset {offset}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// A file is in a format that this version does not know.
    #[error("{} is in format version {version}, which this program does not know", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Settings(&'static str),
    /// The operating system refused something.
    #[error("cannot {action} {}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes messages.
    Ready,
    /// It takes no messages for want of space, and will again when there is some.
    Full(Text),
    /// It takes nothing until it is opened anew.
    Failed(Text),
    /// It has been closed.
    Closed,
}

/// Figures of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// What the files take, in bytes.
    pub disk_bytes: u64,
    /// How much of that lives, in bytes.
    pub live_bytes: u64,
    /// The number of segments.
    pub segments: u64,
    /// How often the log has been synced since it was opened.
    pub syncs: u64,
    /// How long the last sync took.
    pub last_sync: Duration,
    /// How many records have been written since it was opened.
    pub records: u64,
    /// How many messages have been copied from segments in which little lived.
    pub moved_messages: u64,
    /// How many checkpoints have been written since it was opened.
    pub checkpoints: u64,
    /// How long it took to write the last one.
    pub last_checkpoint: Duration,
    /// How many bytes a crash had left at the end of the log without being complete; they were cut
    /// off at opening, and had not been acknowledged.
    pub cut_bytes: u64,
    /// How many waiting messages were lost with files that were set aside at opening.
    pub lost_messages: u64,
    /// Memory of the queues' indexes, in bytes.
    pub index_bytes: u64,
    /// Whether the store has failed.
    pub poisoned: bool,
    /// Whether it takes nothing at present, for want of space.
    pub full: bool,
}
