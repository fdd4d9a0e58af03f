use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use transload_envelope::{Envelope, Outgoing};

use super::script::{ConnectFault, Reaction, Script, SentMessage, Shared};
use crate::{
    Adapter, Carriage, ConnectError, Context, Delivery, Destination, Endpoints, Inbound, Lint,
    Outbound, Receipt, ReceiveError, Replies, ReplyPath, RequestError, SendError, Sent,
    SettlementQueue, SettlementSender, SourceCapabilities, TargetCapabilities, settlement_channel,
};

/// An adapter whose peer is a [`Script`].
#[derive(Clone, Copy, Debug)]
pub struct Fake;

/// The settings of a fake adapter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct FakeConfig {
    /// See [`Script::name`].
    pub script: String,
    /// See [`SourceCapabilities::receives`].
    #[serde(default = "yes")]
    pub receives: bool,
    /// See [`SourceCapabilities::acknowledges`].
    #[serde(default = "yes")]
    pub acknowledges: bool,
    /// See [`SourceCapabilities::refuses`].
    #[serde(default)]
    pub refuses: bool,
    /// See [`TargetCapabilities::sends`].
    #[serde(default = "yes")]
    pub sends: bool,
    /// See [`TargetCapabilities::confirms`].
    #[serde(default = "yes")]
    pub confirms: bool,
    /// Both sides can answer.
    #[serde(default = "yes")]
    pub replies: bool,
    /// Whoever sends a message gets the reply as a message of its own, and not with the settlement.
    #[serde(default)]
    pub reply_messages: bool,
}

fn yes() -> bool {
    true
}

/// A target at a fake peer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FakeTarget {
    /// A template, or a text.
    pub key: Option<String>,
}

#[async_trait]
impl Adapter for Fake {
    const KIND: &'static str = "fake";
    const ROLE_KEY: &'static str = "script";
    const SUMMARY: &'static str = "a peer that does what a test says";
    const TEMPLATED: &'static [&'static str] = &["key"];

    type Config = FakeConfig;
    type Target = FakeTarget;

    fn lint(config: &FakeConfig) -> Vec<Lint> {
        if Script::find(&config.script).is_some() {
            return Vec::new();
        }
        vec![Lint::error("script", format!("there is no script {:?}", config.script))]
    }

    fn lint_target(config: &FakeConfig, _: &FakeTarget) -> Vec<Lint> {
        if config.sends { Vec::new() } else { vec![Lint::error("", "the fake does not send")] }
    }

    fn lint_source(config: &FakeConfig, _: &str) -> Vec<Lint> {
        if config.receives {
            Vec::new()
        } else {
            vec![Lint::error("", "the fake does not receive")]
        }
    }

    fn describe(config: &FakeConfig) -> String {
        config.script.clone()
    }

    fn describe_target(_: &FakeConfig, target: &FakeTarget) -> String {
        format!("key {}", target.key.as_deref().unwrap_or("none"))
    }

    fn source(config: &FakeConfig) -> SourceCapabilities {
        SourceCapabilities {
            receives: config.receives,
            acknowledges: config.acknowledges,
            refuses: config.refuses,
            replies: match (config.replies, config.reply_messages) {
                (false, _) => ReplyPath::None,
                (true, false) => ReplyPath::Settlement,
                (true, true) => ReplyPath::Message,
            },
            brings: &Carriage::EVERYTHING,
        }
    }

    fn target(config: &FakeConfig, _: &FakeTarget) -> TargetCapabilities {
        TargetCapabilities {
            sends: config.sends,
            confirms: config.confirms,
            replies: config.replies,
            carries: &Carriage::EVERYTHING,
        }
    }

    fn follows_address(_: &FakeConfig, target: &FakeTarget) -> bool {
        target.key.is_none()
    }

    async fn connect(
        config: Arc<FakeConfig>,
        context: Context,
    ) -> Result<Endpoints<FakeTarget>, ConnectError> {
        let Some(shared) = Script::find(&config.script) else {
            return Err(ConnectError::Unusable { reason: "the script is gone".into() });
        };
        let connection = shared.change(|state| state.connect(config.acknowledges));
        let connection = connection.map_err(ConnectFault::error)?;
        let (settle, settlements) = settlement_channel();
        context.tasks.spawn(apply(Arc::clone(&shared), settlements));
        let lost = {
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                shared.until(|state| (!state.has(connection)).then_some(())).await;
                "the fake connection was lost".into()
            })
        };
        let inbound = FakeInbound { shared: Arc::clone(&shared), connection, context, settle };
        let outbound = FakeOutbound { shared, connection };
        Ok(Endpoints {
            inbound: config.receives.then(|| Box::new(inbound) as Box<dyn Inbound>),
            outbound: config.sends.then(|| Arc::new(outbound) as Arc<dyn Outbound<FakeTarget>>),
            lost,
        })
    }
}

/// Applies settlements until the last receipt is spent, whether or not anybody receives.
async fn apply(shared: Arc<Shared>, mut settlements: SettlementQueue) {
    while let Some(settled) = settlements.recv().await {
        shared.change(|state| state.settle(settled.tag, settled.settlement.clone()));
    }
}

struct FakeInbound {
    shared: Arc<Shared>,
    connection: u64,
    context: Context,
    settle: SettlementSender,
}

enum Look {
    Lost,
    Due,
    Later(tokio::time::Instant),
}

impl FakeInbound {
    /// Waits until a message is due.
    async fn due(&self) -> Result<(), ReceiveError> {
        loop {
            let look = self.shared.until(|state| match state.due() {
                _ if !state.has(self.connection) => Some(Look::Lost),
                Some(at) if at <= tokio::time::Instant::now() => Some(Look::Due),
                Some(at) => Some(Look::Later(at)),
                None => None,
            });
            match look.await {
                Look::Lost => return Err(ReceiveError::Disconnected("lost".into())),
                Look::Due => return Ok(()),
                Look::Later(at) => self.changed_or(at).await,
            }
        }
    }

    async fn changed_or(&self, at: tokio::time::Instant) {
        let earlier = self.shared.until(|state| match state.due() {
            _ if !state.has(self.connection) => Some(()),
            Some(due) if due < at => Some(()),
            _ => None,
        });
        tokio::select! {
            () = earlier => (),
            () = tokio::time::sleep_until(at) => (),
        }
    }

    async fn lost(&self) {
        self.shared.until(|state| (!state.has(self.connection)).then_some(())).await;
    }
}

#[async_trait]
impl Inbound for FakeInbound {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => return Err(ReceiveError::Ended),
            due = self.due() => due?,
        }
        let mut credit = tokio::select! {
            credit = self.context.credit() => Some(credit.ok_or(ReceiveError::Ended)?),
            () = self.lost() => return Err(ReceiveError::Disconnected("lost".into())),
        };
        let mut count = 0;
        while count < limit {
            let Some(permit) = credit.take().or_else(|| self.context.try_credit()) else { break };
            let next = self
                .shared
                .change(|state| if state.has(self.connection) { state.next() } else { None });
            let Some((tag, envelope)) = next else { break };
            let receipt = Receipt::new(tag, permit, self.settle.clone());
            into.push(Delivery { envelope, receipt });
            count += 1;
        }
        if count == 0 && limit > 0 {
            return Err(ReceiveError::Disconnected("lost".into()));
        }
        Ok(count)
    }
}

struct FakeOutbound {
    shared: Arc<Shared>,
    connection: u64,
}

impl FakeOutbound {
    /// Decides on the whole batch at once, so that calls take effect in the order of their first
    /// poll.
    fn decide(&self, to: Destination<'_, FakeTarget>, batch: &[Outgoing]) -> Vec<Reaction> {
        let decide = |outgoing: &Outgoing| {
            let key = outgoing.arguments.get("key").map(ToString::to_string);
            let message = SentMessage {
                destination: to.name.to_owned(),
                key: key.or_else(|| to.target.key.clone()),
                outgoing: outgoing.clone(),
                taken: false,
            };
            self.shared.change(|state| {
                if !state.has(self.connection) {
                    return Reaction::Disconnect;
                }
                let reaction = state.send(message);
                if matches!(reaction, Reaction::Disconnect) {
                    state.disconnect();
                }
                reaction
            })
        };
        batch.iter().map(decide).collect()
    }

    async fn result(&self, reaction: Reaction) -> Result<Sent, SendError> {
        match reaction {
            // Nobody has asked for the reply.
            Reaction::Confirm | Reaction::Reply(_) => Ok(Sent::Confirmed),
            Reaction::Unconfirmed => Ok(Sent::Unconfirmed),
            Reaction::NoReceiver => Ok(Sent::NoReceiver),
            Reaction::Busy(after) => Err(SendError::Busy { after, reason: "busy".into() }),
            Reaction::Disconnect => Err(SendError::Disconnected("lost".into())),
            Reaction::Fail => Err(SendError::Failed { reason: "failed".into() }),
            Reaction::Reject => Err(SendError::Rejected { reason: "rejected".into() }),
            Reaction::Hold | Reaction::ReplyLater(_) => {
                self.released().await.map(|()| Sent::Confirmed)
            }
        }
    }

    /// Waits until what is held is released.
    async fn released(&self) -> Result<(), SendError> {
        let released = self.shared.until(|state| {
            if state.has(self.connection) {
                state.released.then_some(Ok(()))
            } else {
                Some(Err(SendError::Disconnected("lost".into())))
            }
        });
        released.await
    }
}

#[async_trait]
impl Outbound<FakeTarget> for FakeOutbound {
    async fn send(
        &self,
        to: Destination<'_, FakeTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let mut results = Vec::with_capacity(batch.len());
        for reaction in self.decide(to, batch) {
            results.push(self.result(reaction).await);
        }
        results
    }

    async fn request(
        &self,
        to: Destination<'_, FakeTarget>,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let mut reactions = self.decide(to, std::slice::from_ref(message));
        match reactions.pop() {
            Some(Reaction::Reply(envelope)) => {
                // What is not wanted any more is dropped.
                let _ = replies.put(*envelope);
                Ok(())
            }
            Some(Reaction::ReplyLater(envelope)) => {
                self.released().await?;
                let _ = replies.put(*envelope);
                Ok(())
            }
            Some(Reaction::NoReceiver) => {
                Err(RequestError::NoResponder { reason: "nobody".into() })
            }
            Some(Reaction::Confirm | Reaction::Unconfirmed | Reaction::Hold) | None => {
                self.shared.until(|state| (!state.has(self.connection)).then_some(())).await;
                Err(RequestError::Disconnected("lost".into()))
            }
            Some(other) => match self.result(other).await {
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError> {
        self.shared.change(|state| {
            if state.has(self.connection) {
                state.answers.push((request.id.clone(), answer.clone()));
                Ok(Sent::Confirmed)
            } else {
                Err(SendError::Disconnected("lost".into()))
            }
        })
    }

    async fn close(&self) {}
}
