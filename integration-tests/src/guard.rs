//! What a test process starts ends with it: also when it is killed, and also what lives in a
//! `static`, whose `Drop` never runs.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

struct Guard {
    orders: Mutex<ChildStdin>,
    root: PathBuf,
}

#[expect(clippy::zombie_processes, reason = "it ends after this process")]
static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    let root = tempfile::Builder::new()
        .prefix("transload-tests-")
        .tempdir()
        .expect("a temporary directory can be made")
        .keep();
    // In a group of its own, so that what ends the tests at a terminal does not end the guard.
    let mut child = Command::new("bash")
        .args(["-c", include_str!("guard.sh")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("bash can be started");
    let orders = child.stdin.take().expect("standard input is a pipe");
    let guard = Guard { orders: Mutex::new(orders), root };
    guard.order(&format!("remove {}", guard.root.display()));
    guard
});

impl Guard {
    fn order(&self, line: &str) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(orders, "{line}").expect("the guard of the test process is alive");
    }
}

/// Has a process group killed when this process ends.
pub(crate) fn add(group: u32) {
    GUARD.order(&format!("add {group}"));
}

/// Says that a process group is gone, since its number may be used anew.
pub(crate) fn forget(group: u32) {
    GUARD.order(&format!("forget {group}"));
}

/// A new directory, which is removed when this process ends.
pub fn directory(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let path = GUARD.root.join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&path).expect("a directory can be made in the temporary directory");
    path
}

/// Writes a file that a fixture needs.
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
