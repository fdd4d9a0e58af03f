//! The transload command.

mod adapters;
mod arguments;
mod check;
#[cfg(test)]
mod documents;
mod exit;
mod explain;
mod hash_password;
mod logging;
mod notify;
mod operate;
mod paint;
mod repair;
mod run;
mod schema;
mod stack;
mod test;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use self::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        None | Some(Command::Run) => run::run(&arguments),
        Some(Command::Check(how)) => check::check(&arguments.config, how),
        Some(Command::Explain(wanted)) => explain::explain(&arguments, wanted),
        Some(Command::Test(wanted)) => test::test(&arguments, wanted),
        Some(Command::Schema) => schema::schema(),
        Some(Command::HashPassword { name }) => hash_password::hash_password(name),
        Some(Command::DeadLetters(command)) => {
            operate::operate(&arguments, operate::Command::DeadLetters(command))
        }
        Some(Command::Repair(how)) => repair::run(&arguments, how),
        Some(Command::Reload) => operate::operate(&arguments, operate::Command::Reload),
        Some(Command::Queues(command)) => {
            operate::operate(&arguments, operate::Command::Queues(command))
        }
    };
    outcome.into()
}

/// A variable of the environment; one that is not Unicode counts as not set.
#[expect(clippy::disallowed_methods, reason = "this is where the configuration reads it from")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints to standard output. That nobody reads it is no fault.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Prints to standard error. That nobody reads it is no fault.
fn print_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether colors make sense there.
fn colored(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && environment("NO_COLOR").is_none()
}
