//! The command line.

use std::path::PathBuf;

use crate::{
    explain::Explain,
    operate::{DeadLetters, Queues},
    test::Test,
};
use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  transload                           run the gateway with ./adapters.toml
  transload --config /etc/t.toml run  run it with another file
  transload check                     look for faults in ./adapters.toml; nothing connects
  transload check --strict            the same, for a pipeline: warnings are faults too
  transload explain devices/d1/telemetry --from devices --payload-file reading.json
                                      where a message would go, and why
  transload test                      run the tests that stand in the rules file
  transload schema > transload.schema.json
                                      what editors need to complete and check adapters.toml
  transload hash-password pump-1 >> users
                                      ask for a password and add the user to a users file
  transload dead-letters list --route orders --older-than 1h
                                      what could not be delivered, whether the gateway runs or not
  transload dead-letters replay --route orders
                                      send it again
  transload queues list               what waits where
  transload repair                    check the files of a stopped gateway

Exit codes:
  0  all is well, or the gateway was told to stop and finished what was in flight
  1  the configuration has faults; each was shown with its file, line and column; or a test failed
  2  the command line cannot be understood
  3  the gateway cannot start: an address is in use, the data directory cannot be used …
  4  a second signal stopped the gateway before it had finished
  5  a command about dead letters, queues, repair or a reload could not be done, or only in part

On SIGHUP, and when its file or one of those that belong to it has changed, the gateway reads its
configuration anew. One with faults changes nothing and is told in the log.

The gateway stops on SIGTERM and SIGINT (Ctrl-C): it takes nothing in any more, finishes what is in
flight within `drain_timeout`, and keeps what waits on disk for the next start.";

/// The gateway between MQTT devices, AMQP 0-9-1 services, NATS subjects and HTTP endpoints.
///
/// What goes where is written in one file, adapters.toml: adapters say where to listen and connect,
/// routes say which messages go to which targets.
#[derive(Debug, Parser)]
#[command(name = "transload", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do; without it, the gateway runs.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The rules file.
    #[arg(long, short, value_name = "FILE", default_value = "adapters.toml", global = true)]
    pub(crate) config: PathBuf,

    #[command(flatten)]
    pub(crate) log: LogArguments,
}

/// How the log on standard error looks.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// The form of the log on standard error.
    #[arg(long, value_name = "FORM", default_value = "text", global = true)]
    pub(crate) log_format: LogFormat,

    /// How much to log: error, warn, info, debug or trace, or a list such as
    /// `warn,transload_gateway=debug`. Without it, the variable `RUST_LOG` counts, and else `info`.
    #[arg(long, value_name = "LEVEL", global = true)]
    pub(crate) log_level: Option<String>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until it is told to stop.
    Run,
    /// Look for faults in the rules file, and show what it amounts to. Nothing connects, nothing is
    /// written.
    Check(CheckArguments),
    /// Explain where a message would go: which routes want it and which do not and why, and what each
    /// target would get. Nothing connects.
    Explain(Explain),
    /// Run the tests of the rules file, `[[test]]`, and of the file beside it, such as
    /// adapters.test.toml. Nothing connects.
    Test(Test),
    /// Print the JSON Schema of the rules file (draft 2020-12).
    Schema,
    /// Make a line of a users file for the MQTT listener, `NAME:HASH`. The password is read from
    /// standard input, up to the end of its first line.
    HashPassword {
        /// The user's name.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Look at messages that could not be delivered, send them again, or drop them. Works on the
    /// running gateway, through its admin address, or on the files of a stopped one.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Look at what waits where, and at queues that belong to nothing in the rules file any more.
    /// Works on the running gateway or on the files of a stopped one.
    #[command(subcommand)]
    Queues(Queues),
    /// Have the running gateway read its rules file anew, and say what came of it. A file with
    /// faults changes nothing.
    Reload,
    /// Check every record in the data directory of a stopped gateway. Where the gateway does not
    /// start since a file is damaged, set that aside, and say what is lost by it.
    Repair(RepairArguments),
}

/// What to do with damage.
#[derive(Debug, Args)]
pub(crate) struct RepairArguments {
    /// Copy damaged files beside themselves, ending in `.damaged`, and cut them off where the damage
    /// begins. Without it, nothing is changed.
    #[arg(long)]
    pub(crate) set_aside: bool,
}

/// How to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Take warnings for faults.
    #[arg(long)]
    pub(crate) strict: bool,

    /// The form of the findings on standard output.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: ReportFormat,
}

/// The form of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Messages for people.
    Text,
    /// One JSON object.
    Json,
}
