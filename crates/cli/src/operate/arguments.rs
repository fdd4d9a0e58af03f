//! The arguments of both commands.

use clap::{Args, Subcommand};
use transload_adapter::units::HumanDuration;

use crate::arguments::ReportFormat;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List dead letters, the oldest of each route first.
    List {
        #[command(flatten)]
        filters: Filters,
        #[command(flatten)]
        format: Format,
    },
    /// Show one dead letter with its payload, headers and properties.
    Show {
        /// Its route.
        route: String,
        /// Its position, as `list` shows it.
        position: u64,
        #[command(flatten)]
        format: Format,
    },
    /// Send dead letters again. Each is safe in its queue before it leaves the dead letters.
    Replay {
        #[command(flatten)]
        filters: Filters,
        /// Send all of them; needed where there is no filter.
        #[arg(long)]
        all: bool,
        /// Send them through this route, by its patterns and templates, and not back to the
        /// destination that they were for.
        #[arg(long, value_name = "NAME")]
        to_route: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Drop dead letters for good.
    Drop {
        #[command(flatten)]
        filters: Filters,
        /// Drop all of them; needed where there is no filter.
        #[arg(long)]
        all: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
}

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub(crate) enum Queues {
    /// List all queues and how much waits in each.
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Move what waits in a queue that belongs to nothing in the rules file any more to the queue
    /// of a destination.
    Move {
        /// The queue, as `list` shows it.
        from: String,
        /// The destination, as `list` shows it.
        to: String,
        #[command(flatten)]
        format: Format,
    },
    /// Drop a queue that belongs to nothing in the rules file any more, with all that is in it.
    Drop {
        /// The queue, as `list` shows it.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
}

/// Which dead letters are meant: those for which all that is given holds.
#[derive(Debug, Args)]
pub(crate) struct Filters {
    /// Those of this route.
    #[arg(long, value_name = "NAME")]
    pub(crate) route: Option<String>,
    /// Those whose reason has this in it, in any letter case.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Those whose address matches this pattern, such as `devices/+/alarm`.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) address: Option<String>,
    /// The message with this id.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Those that failed last at this time or later, such as 2026-05-04T03:02:01Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Those that failed last at this time or earlier.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Those that failed last longer ago than this, such as 90m or 2d.
    #[arg(long, value_name = "DURATION")]
    pub(crate) older_than: Option<HumanDuration>,
    /// So many at most, the oldest of each route first.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<usize>,
}

/// The form of the outcome on standard output.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// The form of the outcome on standard output.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: ReportFormat,
}

impl Format {
    pub(crate) fn is_json(self) -> bool {
        self.format == ReportFormat::Json
    }
}

impl Filters {
    /// The names and texts of those that are given, but the limit.
    pub(crate) fn given(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("route", self.route.clone()),
            ("reason", self.reason.clone()),
            ("address", self.address.clone()),
            ("id", self.id.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("older_than", self.older_than.map(|age| age.to_string())),
        ];
        texts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }
}
