//! A configuration that has been read and checked: everything the gateway needs to start.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use transload_adapter::{Prepared, PreparedTarget, Secret, store::QueueSettings, units::ByteSize};
use transload_delivery::dead_letters::Bounds;
use transload_envelope::Text;
use transload_routing::{Pattern, Shape, Template, When};

use super::{fingerprint::Fingerprint, json::JsonTable};
use crate::{limits::RouteLimits, rule_test::RuleTest};

/// A whole configuration.
#[derive(Debug)]
pub struct Configuration {
    /// The settings of `[gateway]`.
    pub gateway: GatewaySettings,
    /// The adapters in the order of the file.
    pub adapters: Vec<AdapterInstance>,
    /// The routes in the order of the file.
    pub routes: Vec<Route>,
    /// The tests of the routes in the order of the files.
    pub tests: Vec<RuleTest>,
}

/// The settings of `[gateway]` and `[telemetry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySettings {
    /// Where queues, sessions and dead letters are kept.
    pub data_dir: PathBuf,
    /// The address of health, metrics and administration, if it is wanted.
    pub admin: Option<SocketAddr>,
    /// What the peers of the admin address must show.
    pub admin_token: Option<Secret>,
    /// How long messages in flight may take to finish after a signal to stop.
    pub drain_timeout: Duration,
    /// How many bytes the journal may take on disk.
    pub disk_bytes_max: u64,
    /// The bounds of the dead letters of each route.
    pub dead_letters: Bounds,
    /// Whether the configuration is read anew when one of its files has changed.
    pub reload_on_change: bool,
    /// What becomes of a message that no route wants.
    pub unrouted: Unrouted,
    /// How many bytes of the latest messages are remembered in memory.
    pub recent_bytes_max: usize,
    /// Where spans go, if they are wanted.
    pub telemetry: Option<TelemetrySettings>,
}

/// The settings of `[telemetry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// The collector, without the path that OTLP adds.
    pub endpoint: String,
    /// Header fields of every request.
    pub headers: Vec<(String, Secret)>,
    /// The name under which the gateway is known there.
    pub service_name: String,
    /// Which part of the traces that begin here is sampled, from 0 to 1.
    pub sample_ratio: f64,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long a span waits for others.
    pub interval: Duration,
    /// How many spans may wait.
    pub queue_spans_max: usize,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Vec::new(),
            service_name: "transload".to_owned(),
            sample_ratio: 1.0,
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            queue_spans_max: 8192,
        }
    }
}

impl GatewaySettings {
    /// The keys that differ from those of a gateway that runs, and that it cannot go over to.
    pub(crate) fn counts_later(&self, running: &Self) -> Vec<&'static str> {
        let Self { data_dir, admin, drain_timeout: _, disk_bytes_max, .. } = self;
        let keys = [
            ("data_dir", *data_dir == running.data_dir),
            ("admin", *admin == running.admin),
            ("max_disk_bytes", *disk_bytes_max == running.disk_bytes_max),
            ("dead_letters", self.dead_letters == running.dead_letters),
            ("recent_messages", self.recent_bytes_max == running.recent_bytes_max),
            ("telemetry", self.telemetry == running.telemetry),
        ];
        keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

/// One `[adapters.NAME]`.
#[derive(Debug)]
pub struct AdapterInstance {
    /// Its name.
    pub name: Text,
    /// Its kind.
    pub kind: &'static str,
    /// How many messages from it may be unsettled.
    pub credits: usize,
    /// How many bytes of payload the messages may have together that are from it and unsettled.
    pub unsettled_bytes: ByteSize,
    /// How messages that were accepted before are recognized, if they are to be.
    pub deduplicate: Option<Deduplicate>,
    /// Stands for its settings, so that a change can be told.
    pub fingerprint: Fingerprint,
    /// What becomes of a message from it that no route wants.
    pub unrouted: Unrouted,
    /// Its settings as they stand in the file, without secrets; to be shown.
    pub shown: Map<String, Json>,
    /// Its checked settings.
    pub prepared: Arc<dyn Prepared>,
}

/// How messages that were accepted before are recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplicate {
    /// How long an accepted message is remembered.
    pub window: Duration,
    /// How many are remembered; at this bound the oldest are forgotten.
    pub ids_max: usize,
    /// What makes two messages the same.
    pub by: DeduplicateBy,
}

/// What makes two messages the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeduplicateBy {
    /// Their id.
    Id,
    /// The header of this name, in any letter case; messages without it are all different.
    Header(Text),
}

/// One `[[route]]`.
#[derive(Debug)]
pub struct Route {
    /// Its name, unique in the file.
    pub name: Text,
    /// The adapters it takes messages from, by their place in [`Configuration::adapters`].
    pub from: Vec<usize>,
    /// The patterns of which one must match.
    pub patterns: Vec<Pattern>,
    /// What must be true of a message besides.
    pub when: Option<When>,
    /// Whether it only takes what no other route took.
    pub fallback: bool,
    /// Whether later routes do not see what this one took.
    pub stop: bool,
    /// What is made of a message before it goes to the targets.
    pub shape: Shape,
    /// The shape as it stands in the file, without secrets; to be shown.
    pub shape_shown: Option<Json>,
    /// Its targets; at least one.
    pub to: Vec<RouteTarget>,
    /// How much it takes of what it wants.
    pub limits: RouteLimits,
    /// What the acknowledgement to the source means.
    pub guarantee: Guarantee,
    /// What happens when a queue of this route is full.
    pub when_full: WhenFull,
    /// The bounds of each of its queues.
    pub queue: QueueSettings,
    /// How many attempts of one message may fail before it goes to the dead letters.
    pub attempts_max: u32,
    /// How long a message may wait before it goes to the dead letters.
    pub expires: Option<Duration>,
    /// What says which messages must keep their order; all where it is absent.
    pub ordered_by: Option<Template>,
    /// How many sends to one target may be under way at once, where `ordered_by` is there.
    pub lanes: usize,
    /// How messages are put together, if they are to be.
    pub batch: Option<Batch>,
    /// How replies are waited for, where the senders of messages wait for them. Then nothing is
    /// queued.
    pub reply: Option<Reply>,
}

/// How messages are put together to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many messages are put together at most.
    pub messages_max: usize,
    /// How many bytes of payload are put together at most.
    pub bytes_max: usize,
    /// How long a message may wait for others.
    pub wait_max: Duration,
    /// How payloads are joined.
    pub format: BatchFormat,
}

/// How payloads are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BatchFormat {
    /// Each payload is JSON; together they are a JSON array.
    Json,
    /// Each payload is one line of text; together they are lines.
    Lines,
}

/// How replies are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How long.
    pub timeout: Duration,
    /// How many are wanted; at least one.
    pub gather: usize,
    /// How many requests may be under way.
    pub in_flight_max: usize,
}

/// One `to` of a route.
#[derive(Debug)]
pub struct RouteTarget {
    /// The name of its queue, unique in the gateway and the same across restarts.
    pub destination: Text,
    /// The adapter, by its place in [`Configuration::adapters`].
    pub adapter: usize,
    /// Its checked settings.
    pub target: PreparedTarget,
    /// Its keys as they stand in the file, without secrets; to be shown.
    pub keys: JsonTable,
    /// The same as a running gateway may show it: also without what came from the environment.
    pub shown: JsonTable,
    /// Stands for its settings, so that a change can be told.
    pub fingerprint: Fingerprint,
    /// What is made of a message for this target only.
    pub shape: Shape,
    /// The keys whose text depends on the message.
    pub templates: Vec<(Text, Template)>,
}

/// What becomes of a message that no route wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unrouted {
    /// It is acknowledged; a sender that can be told so is told that nobody wanted it.
    #[default]
    Drop,
    /// It is refused.
    Reject,
    /// It is acknowledged and goes to the dead letters, under the name `(unrouted)`.
    DeadLetter,
}

/// The name under which messages that no route wants are among the dead letters.
pub const UNROUTED: &str = "(unrouted)";

/// What the acknowledgement to the source means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// The message is on disk.
    Stored,
    /// Every target has confirmed the message.
    Delivered,
    /// Nothing: the message was read.
    BestEffort,
}

impl Guarantee {
    /// As the file says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::BestEffort => "best-effort",
        }
    }

    /// What it means, in one sentence without a full stop.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Stored => {
                "acknowledged to the source once the message is on disk; delivered from there, \
                 also after a restart"
            }
            Self::Delivered => {
                "acknowledged to the source once every target has confirmed; nothing is on disk"
            }
            Self::BestEffort => {
                "acknowledged to the source as soon as the message was read; lost when the \
                 gateway ends before it is delivered"
            }
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The source waits, or is told to come again.
    Block,
    /// The message is refused.
    Reject,
    /// The oldest messages make room.
    DropOldest,
}

impl WhenFull {
    /// As the file says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Reject => "reject",
            Self::DropOldest => "drop-oldest",
        }
    }
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
