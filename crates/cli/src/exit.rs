//! The exit codes, which `--help` describes.

use std::process::ExitCode;

/// The configuration has faults.
pub(crate) const FAULTS: u8 = 1;
/// The command line cannot be understood.
pub(crate) const NOT_UNDERSTOOD: u8 = 2;
/// The gateway cannot start.
pub(crate) const CANNOT_START: u8 = 3;
/// A second signal stopped the gateway before it had finished.
pub(crate) const CUT_SHORT: u8 = 4;

/// A command about dead letters, queues or repair could not be done, or only in part.
pub(crate) const INCOMPLETE: u8 = 5;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Well,
    Faults,
    NotUnderstood,
    CannotStart,
    Incomplete,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Well => Self::SUCCESS,
            Outcome::Faults => Self::from(FAULTS),
            Outcome::NotUnderstood => Self::from(NOT_UNDERSTOOD),
            Outcome::CannotStart => Self::from(CANNOT_START),
            Outcome::Incomplete => Self::from(INCOMPLETE),
        }
    }
}
