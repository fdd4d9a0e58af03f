//! The listener: requests come in as messages, messages go out as server-sent events.

mod access;
mod answer;
mod body;
mod busy;
mod config;
#[cfg(feature = "testing")]
pub mod fuzz;
mod inbound;
mod inflate;
mod request;
mod serve;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod verify;
mod wire;

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transload_adapter::{
    Adapter, ConnectError, Context, Endpoints, Interest, Lint, ReplyPath, SendError,
    SourceCapabilities, TargetCapabilities,
};
use transload_envelope::Outgoing;
use transload_listen::{Bound, Places, Settings};

pub(crate) use self::verify::sign_standard_webhook;
pub use self::{
    config::{
        AuthSettings, BasicUser, BearerToken, CorsSettings, IntakeMethod, ListenerConfig,
        ListenerTarget, PathSettings, Patterns, ProxyHeader, Rate, RateLimitSettings,
        StreamSettings,
    },
    verify::{Algorithm, Encoding, SchemeName, VerifySettings},
};
use self::{
    inbound::{HttpInbound, Intake},
    server::Server,
    stream::{Hub, StreamOutbound},
};

use crate::carriage::{EVENT_STREAM, REQUESTS};

/// An HTTP listener.
#[derive(Clone, Copy, Debug)]
pub struct HttpListener;

#[async_trait]
impl Adapter for HttpListener {
    const KIND: &'static str = "http";
    const ROLE_KEY: &'static str = "listen";
    const SUMMARY: &'static str =
        "a listener that services post to and that event streams are read from";
    const TEMPLATED: &'static [&'static str] = &["stream"];

    type Config = ListenerConfig;
    type Target = ListenerTarget;

    fn lint(config: &ListenerConfig) -> Vec<Lint> {
        config::lint(config)
    }

    fn lint_target(config: &ListenerConfig, target: &ListenerTarget) -> Vec<Lint> {
        config::lint_target(config, target)
    }

    fn lint_source(config: &ListenerConfig, pattern: &str) -> Vec<Lint> {
        config::lint_source(config, pattern)
    }

    fn lint_reply(config: &ListenerConfig, timeout: Duration) -> Vec<Lint> {
        config::lint_reply(config, timeout)
    }

    fn describe(config: &ListenerConfig) -> String {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        format!("listens on {scheme}://{}", config.listen)
    }

    fn describe_target(config: &ListenerConfig, target: &ListenerTarget) -> String {
        match &target.stream {
            Some(stream) => format!("event stream {stream}"),
            None => format!("event stream {}/ADDRESS", config.streams.prefix.trim_end_matches('/')),
        }
    }

    fn source(_: &ListenerConfig) -> SourceCapabilities {
        SourceCapabilities {
            receives: true,
            acknowledges: true,
            refuses: true,
            replies: ReplyPath::Settlement,
            brings: &REQUESTS,
        }
    }

    fn target(_: &ListenerConfig, _: &ListenerTarget) -> TargetCapabilities {
        TargetCapabilities { sends: true, confirms: true, replies: false, carries: &EVENT_STREAM }
    }

    fn reconnects(_: &ListenerConfig, _: &Interest, _: &Interest) -> bool {
        // Requests and event streams go on when the routes change.
        false
    }

    fn place(
        config: &ListenerConfig,
        target: &ListenerTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        let name = stream::name(&config.streams, target, message)?;
        Ok(Some(("stream", format!("/{name}"))))
    }

    async fn connect(
        config: Arc<ListenerConfig>,
        context: Context,
    ) -> Result<Endpoints<ListenerTarget>, ConnectError> {
        open(config, context).await.map(|(endpoints, _)| endpoints)
    }
}

/// Binds, and serves in tasks of the context; also tells the address that was bound.
async fn open(
    config: Arc<ListenerConfig>,
    context: Context,
) -> Result<(Endpoints<ListenerTarget>, SocketAddr), ConnectError> {
    let bound = Bound::new(config.listen)
        .await
        .map_err(|error| ConnectError::Unusable { reason: error.to_string().into() })?;
    let address = bound.address();
    let tasks = context.tasks.clone();
    // Taking in ends with the context's signal or with the endpoints, serving with the endpoints.
    let end = CancellationToken::new();
    let stop = context.stop.child_token();
    let (intake, deliveries) = Intake::open(&context, config.response_timeout.get());
    let hub = Arc::new(Hub::new(config.streams.clone(), Arc::clone(&context.observer)));
    let server =
        Server::new(config, &context, intake, Arc::clone(&hub), stop.clone(), end.clone())?;
    let server = Arc::new(server);
    let settings = Settings {
        places: Places::new(
            server.config.max_connections,
            server.config.max_connections_per_address,
        ),
        tls: server.tls.clone(),
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    announce(&server.config, address, &context.name);
    let updates = context.updates.clone();
    tasks.spawn(transload_listen::serve(bound, settings, Arc::clone(&server)));
    tasks.spawn(Arc::clone(&server).follow(updates));
    let ended = end.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = ended.cancelled() => stop.cancel(),
        }
        server.stop_intake();
    });

    let open = Arc::new(end.clone().drop_guard());
    let endpoints = Endpoints {
        inbound: Some(Box::new(HttpInbound::new(deliveries, Arc::clone(&open)))),
        outbound: Some(Arc::new(StreamOutbound::new(hub, end, open))),
        lost: Box::pin(pending()),
    };
    Ok((endpoints, address))
}

fn announce(config: &ListenerConfig, address: SocketAddr, adapter: &str) {
    if config.insecure_without_authentication
        && config.auth.is_none()
        && !address.ip().is_loopback()
    {
        warn!(%address, adapter, "The HTTP listener is open to the network without authentication.");
    }
    let tls = config.tls.is_some();
    info!(%address, adapter, tls, "Listening for HTTP.");
}
