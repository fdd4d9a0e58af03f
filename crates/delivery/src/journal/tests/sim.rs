use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::super::disk::Disk;
use crate::sync::lock;

/// A disk that knows what has been synced, and fails when told to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sim(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct State {
    /// How much of a file is durable, by its inode.
    durable: HashMap<u64, u64>,
    fail_writes: Option<io::ErrorKind>,
    fail_syncs: bool,
    fail_cuts: bool,
    panic_at_sync: bool,
    /// Syncs do not come to their end.
    stalled: bool,
    in_sync: bool,
    crashes: u64,
}

impl Sim {
    /// A disk on which everything in a directory is durable.
    fn of(directory: &Path) -> Self {
        let sim = Self::default();
        for entry in fs::read_dir(directory).unwrap() {
            let metadata = entry.unwrap().metadata().unwrap();
            sim.state().durable.insert(metadata.ino(), metadata.len());
        }
        sim
    }

    /// Lets all writes fail, after half of each is done.
    pub(super) fn fail_writes(&self, with: Option<io::ErrorKind>) {
        self.state().fail_writes = with;
    }

    /// Lets all syncs fail.
    pub(super) fn fail_syncs(&self) {
        self.state().fail_syncs = true;
    }

    /// Lets the writer panic.
    pub(super) fn panic_at_sync(&self) {
        self.state().panic_at_sync = true;
    }

    /// Lets it fail to cut a file off.
    pub(super) fn fail_cuts(&self) {
        self.state().fail_cuts = true;
    }

    /// Lets syncs take until they are let go.
    pub(super) fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
        self.0.1.notify_all();
    }

    /// Waits until a sync has begun that does not come to its end.
    pub(super) fn wait_for_stall(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut state = self.state();
        while !state.in_sync {
            assert!(Instant::now() < end, "nothing is synced");
            state = self.0.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// What a power failure at this moment could leave: of what was not synced, some bytes, and
    /// perhaps one of them wrong.
    pub(super) fn crash(&self, of: &Path, chance: u64) -> (TempDir, Self) {
        let copy = directory();
        let mut state = self.state();
        state.crashes += 1;
        let mut random = fastrand::Rng::with_seed(chance.wrapping_add(state.crashes));
        for entry in fs::read_dir(of).unwrap() {
            let entry = entry.unwrap();
            let to = copy.path().join(entry.file_name());
            fs::copy(entry.path(), &to).unwrap();
            if to.extension().is_some_and(|it| it == "journal") {
                let length = fs::metadata(&to).unwrap().len();
                let inode = entry.metadata().unwrap().ino();
                let durable = state.durable.get(&inode).copied().unwrap_or(0).min(length);
                spoil(&to, durable, length, &mut random);
            }
        }
        let sim = Self::of(copy.path());
        (copy, sim)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.0)
    }
}

/// A directory in memory where there is one: what is durable is decided here and not by a disk.
pub(super) fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn spoil(path: &Path, durable: u64, length: u64, random: &mut fastrand::Rng) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let keep = random.u64(durable..=length);
    file.set_len(keep).unwrap();
    if keep > durable && random.bool() {
        file.write_all_at(&[random.u8(..)], random.u64(durable..keep)).unwrap();
    }
}

impl Disk for Sim {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let state = self.state();
        if let Some(kind) = state.fail_writes {
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(kind.into());
        }
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.state();
        assert!(!state.panic_at_sync, "injected");
        if state.fail_syncs {
            return Err(io::Error::other("injected"));
        }
        let metadata = file.metadata()?;
        state.in_sync = true;
        self.0.1.notify_all();
        while state.stalled {
            state = self.0.1.wait(state).unwrap();
        }
        state.in_sync = false;
        state.durable.insert(metadata.ino(), metadata.len());
        Ok(())
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        if self.state().fail_cuts {
            return Err(io::Error::other("injected"));
        }
        file.set_len(length)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _gate = self.state();
        fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.durable.remove(&fs::metadata(file)?.ino());
        fs::remove_file(file)
    }
}
