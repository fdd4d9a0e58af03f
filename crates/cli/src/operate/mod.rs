//! `transload dead-letters` and `transload queues`: the same pages of the admin address, whether a
//! gateway runs and serves them or this process opens its files.

mod access;
mod arguments;
mod letters;
mod queues;
mod reload;
mod text;

use std::io;

use serde_json::Value;
use tokio::runtime::Runtime;
use transload_gateway::config::{Configuration, Loaded, load};

use self::access::Access;
pub(crate) use self::{
    arguments::{DeadLetters, Queues},
    text::printable,
};
use crate::{
    adapters, arguments::Arguments, colored, environment, exit::Outcome, logging, print_error,
};

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    DeadLetters(&'a DeadLetters),
    Queues(&'a Queues),
    Reload,
}

/// Why a command was not done, for people.
type Failure = String;

/// Whether all of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Whole,
    InPart,
}

/// What every command needs that works on a gateway's files: the log, the configuration and a runtime.
/// Where one is not to be had, that has been said, and the outcome is given back.
pub(crate) fn begin(arguments: &Arguments) -> Result<(Configuration, Runtime), Outcome> {
    logging::start(&arguments.log).map_err(|reason| failed(&reason))?;
    let Loaded { configuration, report, .. } =
        load(&arguments.config, &environment, &adapters::registry());
    let Some(configuration) = configuration else {
        print_error(&report.render(colored(&io::stderr())));
        return Err(Outcome::Faults);
    };
    let runtime = Runtime::new()
        .map_err(|error| failed(&format!("the runtime cannot be started: {error}")))?;
    Ok((configuration, runtime))
}

/// Does what was asked for, where the gateway is.
pub(crate) fn operate(arguments: &Arguments, command: Command<'_>) -> Outcome {
    let (configuration, runtime) = match begin(arguments) {
        Ok(begun) => begun,
        Err(outcome) => return outcome,
    };
    let done = runtime.block_on(async {
        let access = Access::open(&configuration).await?;
        print_error(&format!("{access}\n"));
        let done = match command {
            Command::DeadLetters(command) => letters::run(&access, command).await,
            Command::Queues(command) => queues::run(&access, command).await,
            Command::Reload => reload::run(&access).await,
        };
        access.close().await;
        done
    });
    match done {
        Ok(Done::Whole) => Outcome::Well,
        Ok(Done::InPart) => Outcome::Incomplete,
        Err(reason) => failed(&reason),
    }
}

/// Asks the gateway for a page.
pub(crate) fn ask(configuration: &Configuration, path: &str) -> Result<Value, Failure> {
    let runtime =
        Runtime::new().map_err(|error| format!("the runtime cannot be started: {error}"))?;
    runtime.block_on(async {
        let access = Access::open(configuration).await?;
        let answer = access.get(path).await;
        access.close().await;
        answer
    })
}

/// Says why a command was not done.
pub(crate) fn failed(reason: &str) -> Outcome {
    print_error(&format!("error: {reason}\n"));
    Outcome::Incomplete
}
