//! The client: messages go out as requests.

mod config;
mod credentials;
mod lint;
mod oauth2;
mod outbound;
mod request;
mod resolve;
mod sign;
#[cfg(test)]
mod tests;
mod wire;

use std::{future::pending, sync::Arc};

use async_trait::async_trait;
use transload_adapter::{
    Adapter, ConnectError, Context, Endpoints, Lint, SendError, SourceCapabilities,
    TargetCapabilities,
};
use transload_envelope::Outgoing;

use self::outbound::HttpOutbound;
pub use self::{
    config::{ClientConfig, ClientTarget, Method},
    oauth2::{CredentialsIn, OAuth2Settings},
    sign::SignSettings,
};

use crate::carriage::REQUESTS;

/// An HTTP client.
#[derive(Clone, Copy, Debug)]
pub struct HttpClient;

#[async_trait]
impl Adapter for HttpClient {
    const KIND: &'static str = "http";
    const ROLE_KEY: &'static str = "url";
    const SUMMARY: &'static str = "a client that sends requests to a server";
    const TEMPLATED: &'static [&'static str] = &["path"];

    type Config = ClientConfig;
    type Target = ClientTarget;

    fn lint(config: &ClientConfig) -> Vec<Lint> {
        lint::lint(config)
    }

    fn lint_target(config: &ClientConfig, target: &ClientTarget) -> Vec<Lint> {
        lint::lint_target(config, target)
    }

    fn lint_source(_: &ClientConfig, _: &str) -> Vec<Lint> {
        let message = "an HTTP client takes no messages in";
        vec![Lint::error("", message).with_help("use an adapter of kind http with `listen`")]
    }

    fn describe(config: &ClientConfig) -> String {
        config::describe(config)
    }

    fn describe_target(_: &ClientConfig, target: &ClientTarget) -> String {
        let path = target.path.as_deref().map(|path| path.trim_start_matches('/'));
        format!("{} /{}", target.method.as_str(), path.unwrap_or("ADDRESS"))
    }

    fn source(_: &ClientConfig) -> SourceCapabilities {
        SourceCapabilities::default()
    }

    fn target(_: &ClientConfig, _: &ClientTarget) -> TargetCapabilities {
        TargetCapabilities { sends: true, confirms: true, replies: true, carries: &REQUESTS }
    }

    fn follows_address(_: &ClientConfig, target: &ClientTarget) -> bool {
        target.path.is_none()
    }

    fn place(
        config: &ClientConfig,
        target: &ClientTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        let base = config::base(config);
        let base = base.map_err(|reason| SendError::Rejected { reason: reason.into() })?;
        Ok(Some(("path", outbound::url(&base, target, message)?.path().to_owned())))
    }

    async fn connect(
        config: Arc<ClientConfig>,
        context: Context,
    ) -> Result<Endpoints<ClientTarget>, ConnectError> {
        // Whether the server can be reached is seen with each request.
        let outbound = HttpOutbound::open(config, &context).await?;
        Ok(Endpoints { inbound: None, outbound: Some(outbound), lost: Box::pin(pending()) })
    }
}
