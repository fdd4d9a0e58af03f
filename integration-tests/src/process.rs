use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{guard, wait::until_within};

/// A process that was started for a test and does not outlive it.
///
/// It leads a process group of its own, and is killed with all of it when this value is dropped,
/// or when the test process ends. When the test fails, the end of its output is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    gone: Option<ExitStatus>,
    output: PathBuf,
    errors: PathBuf,
}

/// How a process was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM: it may tidy up.
    Terminate,
    /// SIGINT, as by Ctrl-C: it may tidy up.
    Interrupt,
    /// SIGKILL: it may not.
    Kill,
    /// SIGSTOP: it is frozen, with its connections open.
    Stop,
    /// SIGCONT: it goes on.
    Continue,
}

impl Process {
    /// Starts a command. What it prints goes to files in `directory`; they are appended to.
    ///
    /// # Panics
    ///
    /// If it cannot be started; `install` is the Debian package that would help.
    pub fn start(name: &str, command: &mut Command, directory: &Path, install: &str) -> Self {
        let output = directory.join(format!("{name}.out"));
        let errors = directory.join(format!("{name}.err"));
        let open = |path: &Path| -> File {
            let file = File::options().create(true).append(true).open(path);
            file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        command.stdout(open(&output)).stderr(open(&errors)).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {name}: {error}\n  it is installed by:  {install}\n  \
                 and everything else by:  integration-tests/run-tests.sh"
            )
        });
        guard::add(child.id());
        Self { name: name.to_owned(), child, gone: None, output, errors }
    }

    /// The process id, which is also that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed to its standard output.
    pub fn output(&self) -> String {
        read(&self.output)
    }

    /// Where its standard output goes.
    pub fn output_path(&self) -> &Path {
        &self.output
    }

    /// What it has printed to its standard error.
    pub fn errors(&self) -> String {
        read(&self.errors)
    }

    /// Writes a line to its standard input, which must be a pipe.
    pub fn write_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("the standard input is a pipe");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.gone.is_none() {
            self.gone = self.child.try_wait().expect("a child can be waited for");
            if self.gone.is_some() {
                guard::forget(self.child.id());
            }
        }
        self.gone
    }

    /// Fails if the process has ended; for loops that wait for it to get ready.
    pub fn must_run(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended with {status} instead of running", self.name);
        }
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, end: End) {
        if self.gone.is_some() {
            return;
        }
        let signal = match end {
            End::Terminate => Signal::TERM,
            End::Interrupt => Signal::INT,
            End::Kill => Signal::KILL,
            End::Stop => Signal::STOP,
            End::Continue => Signal::CONT,
        };
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The group may just have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits until the process has ended by itself.
    pub async fn wait(&mut self, patience: Duration) -> ExitStatus {
        let name = self.name.clone();
        until_within(patience, format!("the end of {name}"), || {
            let ended = self.ended();
            async move { ended }
        })
        .await
    }

    /// Kills the process, as a power failure would, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(End::Kill);
            self.gone = Some(self.child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0)));
            guard::forget(self.child.id());
        }
    }

    /// Prints the end of what the process has printed.
    pub fn print_end(&self) {
        for (stream, text) in [("output", self.output()), ("errors", self.errors())] {
            let lines: Vec<_> = text.lines().collect();
            let shown = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
            if !shown.is_empty() {
                eprintln!("--- {} ({stream}, last {} lines)", self.name, shown.len());
                for line in shown {
                    let end = line.char_indices().nth(400).map_or(line.len(), |(at, _)| at);
                    eprintln!("{}", line.get(..end).unwrap_or(line));
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.print_end();
        }
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The path of a program, or of the first that exists of several.
pub(crate) fn first_existing(candidates: &[PathBuf]) -> Option<PathBuf> {
    candidates.iter().find(|path| path.is_file()).cloned()
}
