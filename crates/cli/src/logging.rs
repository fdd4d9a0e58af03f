//! The log on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::{
    arguments::{LogArguments, LogFormat},
    environment,
};

/// The levels that can be named alone.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts the log. An error is about `--log-level`.
pub(crate) fn start(arguments: &LogArguments) -> Result<(), String> {
    let wanted = arguments.log_level.clone().or_else(|| environment("RUST_LOG"));
    let directives = directives(wanted.as_deref().unwrap_or("info"));
    let filter = EnvFilter::builder()
        .parse(&directives)
        .map_err(|error| format!("`{directives}` is no log level: {error}"))?;
    let colored = io::stderr().is_terminal() && environment("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match arguments.log_format {
        LogFormat::Text => log.with_ansi(colored).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))
}

/// A level alone is about this program; the libraries below it then tell of warnings only.
fn directives(wanted: &str) -> String {
    let level = wanted.trim().to_lowercase();
    match level.as_str() {
        "off" | "error" => level,
        _ if LEVELS.contains(&level.as_str()) => format!("warn,transload={level}"),
        _ => wanted.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_about_this_program() {
        for (wanted, expected) in [
            ("info", "warn,transload=info"),
            ("DEBUG", "warn,transload=debug"),
            ("error", "error"),
            ("warn,transload_gateway=trace", "warn,transload_gateway=trace"),
        ] {
            assert_eq!(directives(wanted), expected);
            EnvFilter::builder().parse(directives(wanted)).unwrap();
        }
    }
}
