//! The journal: one append-only log per data directory for all queues and tables on disk.
//!
//! Invariants:
//! - A share is settled as accepted, and `append_durably`, `put`, `delete` and `remove_queue`
//!   return, only after the records have been written and synced.
//! - Nothing can be leased before it is durable, so a message that is refused was never given out.
//! - A sync or a write that failed is never trusted again: the store has failed until it is opened
//!   anew. The one exception is a write that found no space and could be cut back whole.
//! - A record is never changed. A segment is deleted only when nothing in it lives and a later
//!   checkpoint is durable.
//! - Damage is never skipped silently. Only the end of the last segment may be torn, and only as
//!   far back as the last sync.
//! - What waits takes memory for its place in the log (some ten bytes), not for itself.
//!
//! What may happen at a crash: a message that was done less than 50 ms before may come again,
//! after a power failure also one that was done a second before.
//!
//! Files in the directory:
//!
//! ```text
//! lock              held by the process that has the store open
//! checkpoint        what lived at one point of the log, see `checkpoint`
//! reserve           space for a checkpoint, given up when the disk is full
//! 00000001.journal  segments, numbered from 1; the log from the checkpoint on is read at opening
//! *.damaged         copies of damaged segments that were set aside
//! ```
//!
//! A checkpoint, rather than an index at the end of each segment, is what makes both opening and
//! cleaning up cheap: it says at once what lives, so that the records `done`, `failed`, `put` and
//! `delete` before it are needed no more, and a segment goes whatever these say of other segments.

mod batch;
mod checkpoint;
mod compaction;
mod core;
mod disk;
#[cfg(feature = "testing")]
pub mod fuzz;
mod index;
mod items;
mod pending;
mod queue;
mod reader;
mod record;
mod recovery;
mod replay;
mod runs;
mod saving;
mod segment;
mod settings;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    settings::{Health, JournalSettings, OnDamage, OpenError, Statistics},
    store::JournalStore,
};
