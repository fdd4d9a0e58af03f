//! `transload repair`

use std::{fmt::Write as _, io};

use tokio::runtime::Runtime;
use transload_gateway::{
    OfflineError, Repaired,
    config::{Loaded, load},
    repair,
};

use crate::{
    adapters,
    arguments::{Arguments, RepairArguments},
    colored, environment,
    exit::Outcome,
    logging, print, print_error,
};

/// Checks the files of a stopped gateway, and sets aside what is damaged if that was asked for.
pub(crate) fn run(arguments: &Arguments, how: &RepairArguments) -> Outcome {
    if let Err(reason) = logging::start(&arguments.log) {
        return failed(&reason);
    }
    let Loaded { configuration, report, .. } =
        load(&arguments.config, &environment, &adapters::registry());
    let Some(configuration) = configuration else {
        print_error(&report.render(colored(&io::stderr())));
        return Outcome::Faults;
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot be started: {error}")),
    };
    match runtime.block_on(repair(&configuration, how.set_aside)) {
        Ok(found) => {
            print(&describe(&found));
            Outcome::Well
        }
        Err(OfflineError::Running) => failed("a gateway runs on the data directory: stop it first"),
        Err(
            error @ (OfflineError::Missing(_) | OfflineError::Data(_) | OfflineError::Queue(_)),
        ) => failed(&error.to_string()),
    }
}

fn failed(reason: &str) -> Outcome {
    print_error(&format!("error: {reason}\n"));
    Outcome::Incomplete
}

fn describe(found: &Repaired) -> String {
    let mut text = String::new();
    if found.cut_bytes > 0 {
        let _ = writeln!(
            text,
            "{} bytes at the end were incomplete and are cut off; nobody had been promised them.",
            found.cut_bytes
        );
    }
    for (path, bytes) in &found.set_aside {
        let _ = writeln!(text, "Set aside: {} ({bytes} bytes)", path.display());
    }
    if found.set_aside.is_empty() && found.lost_messages == 0 {
        text.push_str("Nothing is damaged.\n");
    } else {
        let _ = writeln!(
            text,
            "Lost: {} messages that were known to wait in what was damaged, and whatever stands \
             behind the damage in the copies and was not known yet. Messages that had been \
             delivered may come again.",
            found.lost_messages
        );
    }
    let _ = writeln!(text, "Waiting: {} messages, dead letters among them.", found.waiting);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_said() {
        let none = Repaired { waiting: 7, ..Repaired::default() };
        assert!(describe(&none).starts_with("Nothing is damaged.\nWaiting: 7"));
        let some = Repaired {
            set_aside: vec![("data/00000001.journal.damaged".into(), 4096)],
            lost_messages: 3,
            cut_bytes: 12,
            waiting: 0,
        };
        let text = describe(&some);
        for part in ["12 bytes", "00000001.journal.damaged (4096 bytes)", "Lost: 3 messages"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
