//! The keys of `[gateway]` and `[[route]]` as they are written; the descriptions go into the JSON
//! Schema and belong to `docs/CONFIGURATION.md` too.

use std::{
    collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroU32, num::NonZeroU64, path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_spanned::Spanned;
use transload_adapter::{
    Secret,
    units::{ByteSize, HumanDuration},
};

use super::{
    limits::{Brief, Never, PayloadKeys, RateKeys, SampleSchema, ThrottleKeys},
    model::{BatchFormat, Guarantee, Unrouted, WhenFull},
};

/// Settings of the gateway itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewayKeys {
    /// The folder of queues, sessions and dead letters, relative to the working directory; made
    /// when it is not there. Default: "transload-data".
    pub(super) data_dir: Option<PathBuf>,
    /// IP address and port of health, metrics and administration over HTTP, such as
    /// "127.0.0.1:9640". Without it there is no such address.
    #[schemars(with = "Option<String>")]
    pub(super) admin: Option<Spanned<SocketText>>,
    /// A text that peers of the admin address must show as `Authorization: Bearer …`; at least 16
    /// characters. `/healthz` and the bare fact of readiness are shown to everybody.
    #[schemars(with = "Option<Secret>")]
    pub(super) admin_token: Option<Spanned<Secret>>,
    /// A file with the token, relative to this file.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) admin_token_file: Option<Spanned<String>>,
    /// Must be true for an `admin` address that other machines can reach, when it asks nobody for
    /// a token. Default: false.
    #[serde(default)]
    pub(super) insecure_without_authentication: bool,
    /// How long messages in flight may take to finish after a signal to stop. Default: "10s".
    pub(super) drain_timeout: Option<HumanDuration>,
    /// How many bytes all queues on disk may take together; at this bound, sources wait or are
    /// refused. Default: "10GiB".
    #[schemars(with = "Option<ByteSize>")]
    pub(super) max_disk_bytes: Option<Spanned<ByteSize>>,
    /// Whether this file, those that it includes and those that it names are read anew when one of
    /// them has changed. A signal (SIGHUP) and `transload reload` do so anyway. Default: true.
    pub(super) reload_on_change: Option<bool>,
    /// The bounds of the dead letters of each route. At a bound the oldest make room.
    pub(super) dead_letters: Option<DeadLetterKeys>,
    /// How many bytes of the latest messages are remembered in memory, so that `transload explain
    /// --id` can tell where one of them went; 0 for none. Of what comes in within one second, the first
    /// that have room are remembered. Default: "1MiB".
    pub(super) recent_messages: Option<ByteSize>,
    /// What becomes of a message that no route wants; adapters may say something else. Default:
    /// "drop".
    pub(super) unrouted: Option<Unrouted>,
}

/// The bounds of the dead letters of each route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DeadLetters")]
#[expect(clippy::struct_field_names, reason = "these are the keys of the file")]
pub(super) struct DeadLetterKeys {
    /// How many are kept. Default: 100000.
    pub(super) max_messages: Option<NonZeroU64>,
    /// How many bytes of them are kept. Default: "256MiB".
    pub(super) max_bytes: Option<ByteSize>,
    /// How long one is kept. Default: without end.
    pub(super) max_age: Option<HumanDuration>,
}

/// The collector that gets spans of the gateway's work, over OTLP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TelemetryKeys {
    /// The collector, `http://` or `https://`, such as `http://127.0.0.1:4318`; `/v1/traces` is
    /// added to it.
    #[schemars(with = "String")]
    pub(super) endpoint: Spanned<String>,
    /// Header fields of every request, such as `{ authorization = "Bearer ${OTLP_TOKEN}" }`.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, Secret>>")]
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<Secret>>,
    /// Files with the values of further header fields, relative to this file; line breaks at their
    /// ends are left out.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, PathBuf>>")]
    pub(super) header_files: BTreeMap<Spanned<String>, Spanned<String>>,
    /// The name of this gateway among the services of the collector. Default: "transload".
    pub(super) service_name: Option<String>,
    /// Which part of the traces that begin here is sampled, from 0.0 to 1.0. A message that comes in
    /// with a trace is sampled if its sender says so. Default: 1.0.
    #[schemars(with = "Option<f64>", range(min = 0.0, max = 1.0))]
    pub(super) sample_ratio: Option<Spanned<f64>>,
    /// How long one request to the collector may take. Default: "10s".
    #[schemars(with = "Option<HumanDuration>")]
    pub(super) timeout: Option<Spanned<HumanDuration>>,
    /// How long a span may wait for others, with which it is sent. Default: "1s".
    pub(super) interval: Option<HumanDuration>,
    /// How many spans may wait for the collector; further ones are dropped and counted. Default:
    /// 8192.
    #[schemars(with = "Option<NonZeroU32>")]
    pub(super) max_queue_spans: Option<Spanned<NonZeroU32>>,
}

/// How messages that were accepted before are recognized. They are acknowledged and not routed
/// again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deduplicate")]
pub(super) struct DeduplicateKeys {
    /// How long an accepted message is remembered. Default: "10m".
    #[schemars(with = "Option<HumanDuration>")]
    pub(super) window: Option<Spanned<HumanDuration>>,
    /// How many are remembered, in memory and on disk; at this bound the oldest are forgotten.
    /// Default: 100000.
    #[schemars(with = "Option<NonZeroU32>")]
    pub(super) max_ids: Option<Spanned<NonZeroU32>>,
    /// What makes two messages the same: "id", or a header, such as "header:Idempotency-Key";
    /// messages without the header are all different. Default: "id".
    #[schemars(with = "Option<String>")]
    pub(super) by: Option<Spanned<String>>,
}

/// What goes where: messages from `from` whose address matches `match` go to each of `to`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub(super) struct RouteKeys {
    /// The name of the route, unique in the configuration. It names the route's queues, so a
    /// change of it leaves what is waiting under the old name.
    #[schemars(with = "String", required, length(min = 1, max = 128), regex(pattern = "^[^/]+$"))]
    pub(super) name: Option<Spanned<String>>,
    /// The adapter or adapters to take messages from; "any" for all. Default: "any".
    #[schemars(with = "Option<Texts>")]
    pub(super) from: Option<Spanned<Texts>>,
    /// The pattern or patterns of which one must match the address: levels separated by `/`, `+`
    /// for any level, `#` for all further levels, `{name}` to capture a level, `{name...}` to
    /// capture all further levels. Default: "#".
    #[serde(rename = "match")]
    #[schemars(with = "Option<Texts>")]
    pub(super) patterns: Option<Spanned<Texts>>,
    /// What must be true of a message besides: an expression in CEL over `payload` (as JSON),
    /// `headers`, `properties`, `address`, `captures`, `source`, `now` and `id`, such as
    /// "payload.temperature > 30.0".
    #[schemars(with = "Option<String>")]
    pub(super) when: Option<Spanned<String>>,
    /// What happens to a message that lacks what `when` reads: "skip" (the route does not take it,
    /// which is counted) or "dead-letter". Default: "skip".
    #[schemars(with = "Option<WhenMissingKey>")]
    pub(super) when_missing: Option<Spanned<WhenMissingKey>>,
    /// Takes only what no other route took. Default: false.
    #[serde(default)]
    pub(super) fallback: bool,
    /// Keeps what this route took from the routes behind it. Default: false.
    #[serde(default)]
    pub(super) stop: bool,
    /// How large a payload may be: a size, or a table. What is larger goes to the dead letters of the
    /// route where it does not say otherwise. Default: without bound.
    #[schemars(with = "Option<Brief<PayloadKeys>>")]
    pub(super) max_payload: Option<Spanned<Brief<PayloadKeys>>>,
    /// Which part of the messages is taken, such as 0.1 or "1/10". It is chosen by the message's id,
    /// so that one that comes again fares as before. The others are acknowledged and counted.
    /// Default: all.
    #[schemars(with = "Option<SampleSchema>")]
    pub(super) sample: Option<Spanned<Brief<Never>>>,
    /// How many messages pass in which time, such as "100/s", or a table. Default: without bound.
    #[schemars(with = "Option<Brief<RateKeys>>")]
    pub(super) rate: Option<Spanned<Brief<RateKeys>>>,
    /// How often the latest message passes, such as "10s", or a table: the first one passes at once,
    /// later ones are held back, and the latest of them is sent at the end of the interval. Default:
    /// all pass.
    #[schemars(with = "Option<Brief<ThrottleKeys>>")]
    pub(super) throttle: Option<Spanned<Brief<ThrottleKeys>>>,
    /// What the acknowledgement to the source means. Default: "stored"; "best-effort" where the
    /// source cannot wait for an acknowledgement and no target gives one.
    #[schemars(with = "Option<Guarantee>")]
    pub(super) guarantee: Option<Spanned<Guarantee>>,
    /// What happens when a queue of this route is full. Default: "block".
    pub(super) when_full: Option<WhenFull>,
    /// The bounds of the queue that each target has.
    #[schemars(with = "Option<QueueKeys>")]
    pub(super) queue: Option<Spanned<QueueKeys>>,
    /// How many attempts to deliver one message may fail before it goes to the dead letters. A
    /// target that cannot be reached is waited for and not counted. Default: 10.
    pub(super) attempts: Option<NonZeroU32>,
    /// How long a message may wait before it goes to the dead letters. Default: without end.
    pub(super) expires: Option<HumanDuration>,
    /// A template whose text says which messages must keep their order among each other, such as
    /// "{device}". Others then overtake them: while a message waits for its next attempt, so do the
    /// later ones of the same text, and no others. Default: all keep their order.
    #[schemars(with = "Option<String>")]
    pub(super) ordered_by: Option<Spanned<String>>,
    /// How many sends to one target may be under way at once; needs `ordered_by`. At most 256.
    /// Default: 16.
    #[schemars(with = "Option<NonZeroU32>")]
    pub(super) lanes: Option<Spanned<NonZeroU32>>,
    /// Puts several messages together to one, which the target takes or refuses as a whole.
    /// Default: each message is sent by itself.
    #[schemars(with = "Option<BatchKeys>")]
    pub(super) batch: Option<Spanned<BatchKeys>>,
    /// Sends the reply of the target back to the sender of each message.
    #[schemars(with = "Option<ReplyKeys>")]
    pub(super) reply: Option<Spanned<ReplyKeys>>,
}

/// How messages are put together: in order, up to whichever bound is reached first, and with
/// `ordered_by` only messages of one text. Messages for which the target's templates come to
/// different texts, or, where the target follows the message's address, messages of different
/// addresses, are not put together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Batch")]
pub(super) struct BatchKeys {
    /// How many messages are put together at most; up to 10000. Default: 100.
    #[schemars(with = "Option<NonZeroU32>")]
    pub(super) max_messages: Option<Spanned<NonZeroU32>>,
    /// How many bytes of payload are put together at most, unless a single one is larger; up to
    /// "64MiB". Default: "1MiB".
    #[schemars(with = "Option<ByteSize>")]
    pub(super) max_bytes: Option<Spanned<ByteSize>>,
    /// How long a message may wait for others; up to "1h". Default: "1s".
    #[schemars(with = "Option<HumanDuration>")]
    pub(super) max_wait: Option<Spanned<HumanDuration>>,
    /// How payloads are joined. What does not fit the format goes to the dead letters by itself.
    /// Default: "json".
    pub(super) format: Option<BatchFormat>,
}

/// Sends the reply of the target back to the sender of each message. Nothing of such a route is
/// stored: a caller gets a reply or is told why not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reply")]
pub(super) struct ReplyKeys {
    /// How long a reply is waited for. Default: "5s".
    #[schemars(with = "Option<HumanDuration>")]
    pub(super) timeout: Option<Spanned<HumanDuration>>,
    /// How many replies are wanted. With 1 the first one wins, also among several targets; more
    /// are gathered in a JSON array. Default: 1.
    #[schemars(with = "Option<NonZeroU32>")]
    pub(super) gather: Option<Spanned<NonZeroU32>>,
    /// How many requests may wait for their replies; at this bound, callers are told to come again.
    /// Default: 1000.
    #[schemars(with = "Option<NonZeroU32>")]
    pub(super) max_in_flight: Option<Spanned<NonZeroU32>>,
}

/// The bounds of a queue. At each bound, `when_full` says what happens; `max_age` drops.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Queue")]
pub(super) struct QueueKeys {
    /// Where the messages wait. Default: "disk" for the guarantee "stored", else "memory".
    pub(super) storage: Option<StorageKey>,
    /// How many messages may wait. Default: 1000000 on disk, 100000 in memory.
    pub(super) max_messages: Option<NonZeroU64>,
    /// How many bytes messages may take that wait; in memory that is about 0.7 KiB more for each
    /// than on disk. Default: "1GiB" on disk, "32MiB" in memory.
    #[schemars(with = "Option<ByteSize>")]
    pub(super) max_bytes: Option<Spanned<ByteSize>>,
    /// How long a message may wait; older ones are dropped and counted. Default: without end.
    pub(super) max_age: Option<HumanDuration>,
}

/// Where a queue keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Storage")]
pub(super) enum StorageKey {
    /// In the journal: survives the process.
    Disk,
    /// Gone with the process.
    Memory,
}

/// What happens to a message that lacks what the condition of a route reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "WhenMissing")]
pub(super) enum WhenMissingKey {
    /// The route does not take it.
    Skip,
    /// It goes to the dead letters of the route.
    DeadLetter,
}

/// One text or several.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Texts {
    /// One text.
    One(String),
    /// Several texts, each with its place.
    Several(#[schemars(with = "Vec<String>", length(min = 1))] Vec<Spanned<String>>),
}

impl Texts {
    /// The texts with their places.
    pub(super) fn list(texts: Spanned<Self>) -> Vec<Spanned<String>> {
        let span = texts.span();
        match texts.into_inner() {
            Self::One(text) => vec![Spanned::new(span, text)],
            Self::Several(list) => list,
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts::One(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts::Several(texts))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// An IP address and a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketText(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for SocketText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            de::Error::custom("expected an IP address and a port such as \"127.0.0.1:9640\"")
        })
    }
}
