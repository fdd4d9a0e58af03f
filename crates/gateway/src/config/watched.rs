//! The files that a configuration comes from, so that a change of one of them can be noticed.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    hash::{DefaultHasher, Hasher},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::files;

/// How large a file may be whose content is compared, in bytes; of a larger one only the time of its
/// last change counts.
const COMPARED_BYTES_MAX: u64 = 16 << 20;

/// Every file that was read, and where more of them may appear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    files: HashSet<PathBuf>,
    /// Folder and pattern of each `include`.
    includes: Vec<(PathBuf, String)>,
}

/// How the files are at one moment. Two that are equal mean that nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Option<Seen>>);

/// One file.
#[derive(Clone, Debug)]
struct Seen {
    bytes: u64,
    changed_at: Option<SystemTime>,
    content: u64,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        // A file that was only touched, or written again as it was, is the same.
        (self.bytes, self.content) == (other.bytes, other.content)
    }
}

impl Eq for Seen {}

impl Snapshot {
    /// The files of this snapshot, as they were in an earlier one that knew them.
    #[must_use]
    pub fn as_before(mut self, earlier: &Self) -> Self {
        for (path, seen) in &mut self.0 {
            if let Some(before) = earlier.0.get(path) {
                seen.clone_from(before);
            }
        }
        self
    }
}

impl Watched {
    pub(super) fn file(&mut self, path: PathBuf) {
        self.files.insert(path);
    }

    /// Takes over what another one watches.
    pub(super) fn absorb(&mut self, other: Self) {
        self.files.extend(other.files);
        self.includes.extend(other.includes);
    }

    pub(super) fn include(&mut self, folder: &Path, pattern: &str) {
        self.includes.push((folder.to_owned(), pattern.to_owned()));
    }

    /// Looks at every file; reads those whose time or size is another than in `before`. Blocks.
    pub fn look(&self, before: &Snapshot) -> Snapshot {
        let mut paths = self.files.clone();
        for (folder, pattern) in &self.includes {
            // A folder that cannot be read shows no files, as when the configuration was read.
            paths.extend(files::matching(folder, Path::new(pattern)).unwrap_or_default());
        }
        let look = |path: PathBuf| {
            let known = before.0.get(&path).and_then(Option::as_ref);
            let seen = look_at(&path, known);
            (path, seen)
        };
        Snapshot(paths.into_iter().map(look).collect())
    }
}

fn look_at(path: &Path, known: Option<&Seen>) -> Option<Seen> {
    let found = fs::metadata(path).ok()?;
    let (bytes, changed_at) = (found.len(), found.modified().ok());
    if let Some(known) = known
        && known.bytes == bytes
        && known.changed_at == changed_at
    {
        return Some(known.clone());
    }
    let mut content = DefaultHasher::new();
    if bytes > COMPARED_BYTES_MAX {
        content.write(format!("{changed_at:?}").as_bytes());
    } else {
        content.write(&fs::read(path).ok()?);
    }
    Some(Seen { bytes, changed_at, content: content.finish() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_a_touch_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("routes")).unwrap();
        fs::write(path("main.toml"), "a").unwrap();
        let mut watched = Watched::default();
        watched.file(path("main.toml"));
        watched.file(path("absent"));
        watched.include(folder.path(), "routes/*.toml");
        let first = watched.look(&Snapshot::default());
        fs::write(path("main.toml"), "a").unwrap();
        fs::write(path("routes/ignored"), "x").unwrap();
        let second = watched.look(&first);
        assert_eq!(first, second);
        fs::write(path("main.toml"), "b").unwrap();
        let third = watched.look(&second);
        assert_ne!(second, third, "other content of the same size");
        fs::write(path("routes/one.toml"), "x").unwrap();
        let fourth = watched.look(&third);
        assert_ne!(third, fourth, "one more file");
        fs::write(path("absent"), "x").unwrap();
        assert_ne!(fourth, watched.look(&fourth), "a file that was not there");
    }
}
