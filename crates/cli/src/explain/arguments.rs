use std::str::FromStr;

use clap::Args;

use crate::arguments::ReportFormat;

/// Which message to explain.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The address of the message, in the form that patterns have, such as `devices/d1/telemetry`.
    pub(super) address: Option<String>,

    /// The adapter where the message comes in; without it, every adapter that takes messages in.
    #[arg(long, value_name = "ADAPTER")]
    pub(super) from: Option<String>,

    /// A header; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) header: Vec<Pair>,

    /// A property, such as `content_type=application/json`; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) property: Vec<Pair>,

    /// What the source's protocol knows beside the address, such as `method=POST`; may be given
    /// several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) attribute: Vec<Pair>,

    /// The payload.
    #[arg(long, value_name = "TEXT", conflicts_with = "payload_file")]
    pub(super) payload: Option<String>,

    /// A file with the payload; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) payload_file: Option<String>,

    /// A JSON file with the whole message, such as a dead letter that was shown with `--format json`;
    /// `-` for standard input. What is given beside it counts more.
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<String>,

    /// The id of one of the latest messages of the running gateway, which is asked through its admin
    /// address and answers by the rules that run.
    #[arg(long, value_name = "ID", conflicts_with_all = [
        "address", "from", "header", "property", "attribute", "payload", "payload_file", "file",
    ])]
    pub(super) id: Option<String>,

    /// List all routes, also those that have nothing to do with the message.
    #[arg(long)]
    pub(super) all: bool,

    /// The form of the explanation on standard output.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(super) format: ReportFormat,
}

/// A name and a value.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}
