//! The one list of protocols, and their roles with the types erased.

use std::{any::Any, fmt, marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, Deserializer, Error},
};
use transload_envelope::{Envelope, Outgoing};

use crate::{
    Adapter, ConnectError, Context, Destination, Inbound, Interest, Lint, Lost, Outbound, Replies,
    RequestError, SendError, Sent, SourceCapabilities, TargetCapabilities,
};

/// All protocols that a gateway knows.
#[derive(Default)]
pub struct Registry {
    kinds: Vec<Box<dyn Kind>>,
}

impl Registry {
    /// Adds one role of a protocol.
    #[must_use]
    pub fn with<A: Adapter>(mut self) -> Self {
        self.kinds.push(Box::new(Typed::<A>(PhantomData)));
        self
    }

    /// All roles of all protocols, in the order in which they were added.
    pub fn kinds(&self) -> impl Iterator<Item = &dyn Kind> {
        self.kinds.iter().map(|kind| &**kind)
    }

    /// The role that an `[adapters.NAME]` table asks for by its `kind` and the keys it has.
    pub fn select(&self, kind: &str, settings: &DeTable<'_>) -> Result<&dyn Kind, SelectError> {
        let roles: Vec<_> = self.kinds().filter(|role| role.kind() == kind).collect();
        if roles.is_empty() {
            let mut known: Vec<_> = self.kinds().map(Kind::kind).collect();
            known.dedup();
            return Err(SelectError::UnknownKind { known });
        }
        let has = |role: &&dyn Kind| settings.keys().any(|key| key.get_ref() == role.role_key());
        let mut wanted = roles.iter().copied().filter(has);
        match (wanted.next(), wanted.next()) {
            (Some(role), None) => Ok(role),
            (Some(_), Some(_)) => Err(SelectError::TwoRoles {
                keys: roles.iter().map(|role| role.role_key()).collect(),
            }),
            (None, _) => Err(SelectError::NoRole {
                keys: roles.iter().map(|role| (role.role_key(), role.summary())).collect(),
            }),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds().map(|kind| (kind.kind(), kind.role_key()))).finish()
    }
}

/// Why a table names no role of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such kind.
    #[error("unknown adapter kind")]
    UnknownKind {
        /// The kinds there are.
        known: Vec<&'static str>,
    },
    /// The key that selects the role is missing.
    #[error("the adapter's role is not said")]
    NoRole {
        /// The keys that select a role, and what each role is.
        keys: Vec<(&'static str, &'static str)>,
    },
    /// More than one role is asked for.
    #[error("the adapter has two roles")]
    TwoRoles {
        /// The keys that select a role.
        keys: Vec<&'static str>,
    },
}

/// One role of a protocol, its types erased.
pub trait Kind: Send + Sync {
    /// See [`Adapter::KIND`].
    fn kind(&self) -> &'static str;
    /// See [`Adapter::ROLE_KEY`].
    fn role_key(&self) -> &'static str;
    /// See [`Adapter::SUMMARY`].
    fn summary(&self) -> &'static str;
    /// See [`Adapter::TEMPLATED`].
    fn templated(&self) -> &'static [&'static str];
    /// The JSON Schema of the settings.
    fn config_schema(&self, generator: &mut SchemaGenerator) -> Schema;
    /// The JSON Schema of a target.
    fn target_schema(&self, generator: &mut SchemaGenerator) -> Schema;
    /// Reads the settings of `[adapters.NAME]`, without `kind`. The spans in the error are those
    /// of the table's own parts.
    fn prepare(
        &self,
        settings: &Spanned<DeTable<'_>>,
    ) -> Result<(Box<dyn Prepared>, Vec<Lint>), Error>;
}

/// The settings of a target, read and checked. Cheap to clone.
#[derive(Clone)]
pub struct AnyTarget(Arc<dyn Any + Send + Sync>);

impl fmt::Debug for AnyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyTarget")
    }
}

/// A target of any type, to show what happens to one that belongs to another adapter.
#[cfg(test)]
pub(crate) fn any_target(target: impl Any + Send + Sync) -> AnyTarget {
    AnyTarget(Arc::new(target))
}

/// A target that was read, and what there is to say about it.
#[derive(Clone, Debug)]
pub struct PreparedTarget {
    /// What [`AnyOutbound::send`] takes.
    pub target: AnyTarget,
    /// Findings.
    pub lints: Vec<Lint>,
    /// See [`Adapter::target`].
    pub capabilities: TargetCapabilities,
    /// See [`Adapter::describe_target`].
    pub description: String,
    /// See [`Adapter::follows_address`].
    pub follows_address: bool,
}

/// Checked settings that can be connected, again and again.
#[async_trait]
pub trait Prepared: Send + Sync {
    /// See [`Adapter::source`].
    fn source(&self) -> SourceCapabilities;
    /// See [`Adapter::describe`].
    fn describe(&self) -> String;
    /// See [`Adapter::lint_source`].
    fn lint_source(&self, pattern: &str) -> Vec<Lint>;
    /// See [`Adapter::lint_reply`].
    fn lint_reply(&self, timeout: Duration) -> Vec<Lint>;
    /// Reads the settings of a target: a `to` table without the keys that every target has.
    fn prepare_target(&self, settings: &Spanned<DeTable<'_>>) -> Result<PreparedTarget, Error>;
    /// See [`Adapter::place`].
    fn place(
        &self,
        target: &AnyTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError>;
    /// See [`Adapter::reconnects`].
    fn reconnects(&self, before: &Interest, now: &Interest) -> bool;
    /// See [`Adapter::connect`].
    async fn connect(&self, context: Context) -> Result<AnyEndpoints, ConnectError>;
}

impl fmt::Debug for dyn Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// [`Endpoints`](crate::Endpoints) with the type of the target erased.
pub struct AnyEndpoints {
    /// Messages from the protocol.
    pub inbound: Option<Box<dyn Inbound>>,
    /// Messages to the protocol.
    pub outbound: Option<Arc<dyn AnyOutbound>>,
    /// See [`Endpoints::lost`](crate::Endpoints::lost).
    pub lost: Lost,
}

impl fmt::Debug for AnyEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyEndpoints").finish_non_exhaustive()
    }
}

/// [`Outbound`] with the type of the target erased.
#[async_trait]
pub trait AnyOutbound: Send + Sync {
    /// See [`Outbound::send`].
    async fn send(
        &self,
        name: &str,
        target: &AnyTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>>;
    /// See [`Outbound::request`].
    async fn request(
        &self,
        name: &str,
        target: &AnyTarget,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError>;
    /// See [`Outbound::answer`].
    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError>;
    /// See [`Outbound::close`].
    async fn close(&self);
}

struct Typed<A>(PhantomData<fn() -> A>);

impl<A: Adapter> Kind for Typed<A> {
    fn kind(&self) -> &'static str {
        A::KIND
    }

    fn role_key(&self) -> &'static str {
        A::ROLE_KEY
    }

    fn summary(&self) -> &'static str {
        A::SUMMARY
    }

    fn templated(&self) -> &'static [&'static str] {
        A::TEMPLATED
    }

    fn config_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<A::Config>()
    }

    fn target_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<A::Target>()
    }

    fn prepare(
        &self,
        settings: &Spanned<DeTable<'_>>,
    ) -> Result<(Box<dyn Prepared>, Vec<Lint>), Error> {
        let config = A::Config::deserialize(Deserializer::from(settings.clone()))?;
        let lints = A::lint(&config);
        Ok((Box::new(Checked::<A> { config: Arc::new(config) }), lints))
    }
}

struct Checked<A: Adapter> {
    config: Arc<A::Config>,
}

#[async_trait]
impl<A: Adapter> Prepared for Checked<A> {
    fn source(&self) -> SourceCapabilities {
        A::source(&self.config)
    }

    fn describe(&self) -> String {
        A::describe(&self.config)
    }

    fn lint_source(&self, pattern: &str) -> Vec<Lint> {
        A::lint_source(&self.config, pattern)
    }

    fn lint_reply(&self, timeout: Duration) -> Vec<Lint> {
        A::lint_reply(&self.config, timeout)
    }

    fn prepare_target(&self, settings: &Spanned<DeTable<'_>>) -> Result<PreparedTarget, Error> {
        let target = A::Target::deserialize(Deserializer::from(settings.clone()))?;
        Ok(PreparedTarget {
            lints: A::lint_target(&self.config, &target),
            capabilities: A::target(&self.config, &target),
            description: A::describe_target(&self.config, &target),
            follows_address: A::follows_address(&self.config, &target),
            target: AnyTarget(Arc::new(target)),
        })
    }

    fn place(
        &self,
        target: &AnyTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        match target.0.downcast_ref::<A::Target>() {
            Some(target) => A::place(&self.config, target, message),
            None => Err(SendError::Rejected { reason: OTHER_KIND.into() }),
        }
    }

    fn reconnects(&self, before: &Interest, now: &Interest) -> bool {
        A::reconnects(&self.config, before, now)
    }

    async fn connect(&self, context: Context) -> Result<AnyEndpoints, ConnectError> {
        let endpoints = A::connect(Arc::clone(&self.config), context).await?;
        Ok(AnyEndpoints {
            inbound: endpoints.inbound,
            outbound: endpoints
                .outbound
                .map(|outbound| Arc::new(Erased::<A> { outbound }) as Arc<dyn AnyOutbound>),
            lost: endpoints.lost,
        })
    }
}

const OTHER_KIND: &str = "the target was made for another kind of adapter";

struct Erased<A: Adapter> {
    outbound: Arc<dyn Outbound<A::Target>>,
}

#[async_trait]
impl<A: Adapter> AnyOutbound for Erased<A> {
    async fn send(
        &self,
        name: &str,
        target: &AnyTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let Some(target) = target.0.downcast_ref::<A::Target>() else {
            let wrong = || SendError::Rejected { reason: OTHER_KIND.into() };
            return batch.iter().map(|_| Err(wrong())).collect();
        };
        self.outbound.send(Destination { name, target }, batch).await
    }

    async fn request(
        &self,
        name: &str,
        target: &AnyTarget,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let Some(target) = target.0.downcast_ref::<A::Target>() else {
            return Err(RequestError::Rejected { reason: OTHER_KIND.into() });
        };
        self.outbound.request(Destination { name, target }, message, replies).await
    }

    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError> {
        self.outbound.answer(request, answer).await
    }

    async fn close(&self) {
        self.outbound.close().await;
    }
}
