//! `transload repair`

use std::fmt::Write as _;

use transload_gateway::{OfflineError, Repaired, repair};

use crate::{
    arguments::{Arguments, RepairArguments},
    exit::Outcome,
    operate::{begin, failed},
    print,
};

/// Checks the files of a stopped gateway, and sets aside what is damaged if that was asked for.
pub(crate) fn run(arguments: &Arguments, how: &RepairArguments) -> Outcome {
    let (configuration, runtime) = match begin(arguments) {
        Ok(begun) => begun,
        Err(outcome) => return outcome,
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
