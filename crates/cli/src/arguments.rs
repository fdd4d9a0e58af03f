//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  transload                           run the gateway with ./adapters.toml
  transload --config /etc/t.toml run  run it with another file
  transload check                     look for faults in ./adapters.toml; nothing connects
  transload check --strict            the same, for a pipeline: warnings are faults too
  transload schema > transload.schema.json
                                      what editors need to complete and check adapters.toml

Exit codes:
  0  all is well, or the gateway was told to stop and finished what was in flight
  1  the configuration has faults; each was shown with its file, line and column
  2  the command line cannot be understood
  3  the gateway cannot start: an address is in use, the data directory cannot be used …
  4  a second signal stopped the gateway before it had finished

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
    /// Print the JSON Schema of the rules file (draft 2020-12).
    Schema,
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
