use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use transload_envelope::Outgoing;

use crate::{
    ConnectError, Context, Endpoints, Interest, Lint, SendError, SourceCapabilities,
    TargetCapabilities,
};

/// One role of one protocol, such as «MQTT client». Implemented once for each `kind` and role.
///
/// Everything but [`Adapter::connect`] is pure: no spawning, and no I/O but that [`Adapter::lint`] may
/// read the files that the settings name. A configuration is checked as a whole before anything
/// connects.
#[async_trait]
pub trait Adapter: Send + Sync + 'static {
    /// The `kind` under which `adapters.toml` names the protocol.
    const KIND: &'static str;

    /// The key whose presence selects this role among those of one kind: `listen` or `url`.
    const ROLE_KEY: &'static str;

    /// One line for people on what this role is, such as «a listener that devices connect to».
    const SUMMARY: &'static str;

    /// The keys of `to` whose text may be a template with `{capture}`s. All are optional texts.
    const TEMPLATED: &'static [&'static str];

    /// The settings of `[adapters.NAME]` without `kind`; must reject unknown fields.
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// The settings of a route's `to` without the keys that every target has; must reject unknown
    /// fields. A templated key holds its template as it was written: what it comes to for one
    /// message is in that message's [`Arguments`](transload_envelope::Arguments), which go first.
    type Target: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Checks what the types cannot, and reports everything at once.
    fn lint(config: &Self::Config) -> Vec<Lint>;

    /// Checks a target against the adapter that it names.
    fn lint_target(config: &Self::Config, target: &Self::Target) -> Vec<Lint>;

    /// Checks that messages can come in which the pattern of a route asks for; paths in the
    /// findings are empty.
    fn lint_source(config: &Self::Config, pattern: &str) -> Vec<Lint>;

    /// Checks that the senders of messages can wait so long for a reply; paths in the findings are
    /// empty.
    fn lint_reply(_config: &Self::Config, _timeout: Duration) -> Vec<Lint> {
        Vec::new()
    }

    /// Where the adapter listens or connects, for people, without secrets.
    fn describe(config: &Self::Config) -> String;

    /// What the target does, for people, such as `exchange amq.topic, key devices.{device}`.
    fn describe_target(config: &Self::Config, target: &Self::Target) -> String;

    /// What the protocol can promise as a source, and what its messages can bring.
    fn source(config: &Self::Config) -> SourceCapabilities;

    /// What the protocol can promise for this target, and what it carries.
    fn target(config: &Self::Config, target: &Self::Target) -> TargetCapabilities;

    /// Whether the connection has to be made anew when the configuration is read again and the routes
    /// want something else of this source. An adapter that says no follows
    /// [`Updates::changed`](crate::Updates::changed) instead.
    fn reconnects(_config: &Self::Config, before: &Interest, now: &Interest) -> bool {
        before != now
    }

    /// Whether where a message goes follows from its own address, since the target does not say it
    /// otherwise.
    fn follows_address(_: &Self::Config, _: &Self::Target) -> bool {
        true
    }

    /// Where a message goes, in the protocol's own terms: the name of what says it, such as
    /// `routing_key` or `subject`, and its text for this message, the default included. The error
    /// is the reason for which `send` would reject the message. `None` where there is nothing to say.
    fn place(
        _config: &Self::Config,
        _target: &Self::Target,
        _message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        Ok(None)
    }

    /// Opens the connection or the listening socket. The gateway calls this again, with back-off,
    /// after each loss.
    async fn connect(
        config: Arc<Self::Config>,
        context: Context,
    ) -> Result<Endpoints<Self::Target>, ConnectError>;
}
