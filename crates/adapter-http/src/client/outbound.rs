//! Requests.
//!
//! Invariants:
//! - Messages to one target are sent one after the other unless its `concurrency` says otherwise. As
//!   soon as one of them has to be tried again, those behind it are handed back unsent, so that they
//!   do not overtake it.
//! - Everything read of an answer is bounded.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::join_all;
use http::{
    StatusCode,
    header::{AUTHORIZATION, LOCATION},
};
use reqwest::{RequestBuilder, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::DropGuard;
use tracing::warn;
use transload_adapter::{
    ConnectError, Context, Destination, Outbound, Replies, RequestError, SendError, Sent, Updates,
};
use transload_envelope::{Outgoing, Text};
use url::Url;

use super::{
    config::{ClientConfig, ClientTarget},
    oauth2::Token,
    request,
    wire::Wire,
};
use crate::{error, mapping};

/// How much of an error's body is quoted, in bytes.
const EXCERPT_BYTES_MAX: usize = 1024;
/// How much of an answer is read so that its connection can be used again, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Sends messages as requests to one server.
pub(super) struct HttpOutbound {
    /// The adapter's name.
    name: Text,
    reply_bytes_max: usize,
    wire: ArcSwap<Wire>,
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
    lanes: Mutex<HashMap<Text, Lane>>,
    /// Targets of a constant path that answered 410, with that path: another one, after a reload, is
    /// worth a try.
    gone: Mutex<HashMap<Text, String>>,
    /// Ends the task that follows the configuration.
    _ended: DropGuard,
}

/// The way to one target.
struct Lane {
    concurrency: NonZeroU32,
    /// One permit for each request that may be under way.
    permits: Arc<Semaphore>,
}

impl HttpOutbound {
    pub(super) async fn open(
        config: Arc<ClientConfig>,
        context: &Context,
    ) -> Result<Arc<Self>, ConnectError> {
        let wire = Wire::read(&config, &context.name).await?;
        let in_flight_max = config.max_in_flight.get();
        let stop = context.stop.child_token();
        let outbound = Arc::new(Self {
            name: context.name.clone(),
            reply_bytes_max: config.max_reply_bytes.as_usize(),
            wire: ArcSwap::from_pointee(wire),
            in_flight: Arc::new(Semaphore::new(in_flight_max as usize)),
            in_flight_max,
            lanes: Mutex::default(),
            gone: Mutex::default(),
            _ended: stop.clone().drop_guard(),
        });
        let follow = follow(Arc::downgrade(&outbound), config, context.updates.clone());
        context.tasks.spawn(async move { stop.run_until_cancelled(follow).await });
        Ok(outbound)
    }

    fn lane(&self, to: Destination<'_, ClientTarget>) -> Arc<Semaphore> {
        let concurrency = to.target.concurrency.0;
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(to.name)
            && lane.concurrency == concurrency
        {
            return Arc::clone(&lane.permits);
        }
        let permits = Arc::new(Semaphore::new(concurrency.get() as usize));
        lanes.insert(to.name.into(), Lane { concurrency, permits: Arc::clone(&permits) });
        permits
    }

    /// Sends a batch in order and stops at the first message that has to be tried again.
    async fn send_in_order(
        &self,
        to: Destination<'_, ClientTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            let result = self.send_one(to, message).await;
            let again = match &result {
                Ok(_) | Err(SendError::Rejected { .. }) => None,
                Err(SendError::Busy { after, .. }) => Some(*after),
                Err(SendError::Failed { .. } | SendError::Disconnected(_)) => Some(None),
            };
            results.push(result);
            if let Some(after) = again {
                let reason = "an earlier message has to be sent first";
                results.resize_with(batch.len(), || {
                    Err(SendError::Busy { after, reason: reason.into() })
                });
                break;
            }
        }
        results
    }

    async fn send_one(
        &self,
        to: Destination<'_, ClientTarget>,
        message: &Outgoing,
    ) -> Result<Sent, SendError> {
        if self.is_gone(to) {
            let reason = "the target answered 410 Gone before and is disabled until the next start";
            return Err(SendError::Rejected { reason: reason.into() });
        }
        let wire = self.wire.load_full();
        let Ok(_permit) = self.in_flight.acquire().await else {
            let reason = "the client is closed";
            return Err(SendError::Busy { after: None, reason: reason.into() });
        };
        let response = exchange(&wire, to.target, message, None).await?;
        if response.status() == StatusCode::GONE {
            self.disable(to, message);
        }
        judge(response).await
    }

    fn is_gone(&self, to: Destination<'_, ClientTarget>) -> bool {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.get(to.name).is_some_and(|path| to.target.path.as_ref() == Some(path))
    }

    /// 410 says that the path is gone for good; a path that depends on the message speaks for that
    /// message only.
    fn disable(&self, to: Destination<'_, ClientTarget>, message: &Outgoing) {
        if let Some(path) = &to.target.path
            && message.arguments.get("path").is_none()
        {
            warn!(destination = to.name, "A target answered 410 Gone and is disabled.");
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.insert(to.name.into(), path.clone());
        }
    }
}

#[async_trait]
impl Outbound<ClientTarget> for HttpOutbound {
    async fn send(
        &self,
        to: Destination<'_, ClientTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let lane = self.lane(to);
        // A lane is never closed, and hands out its permits in the order of asking.
        if to.target.concurrency.0.get() == 1 {
            let _permit = lane.acquire().await;
            return self.send_in_order(to, batch).await;
        }
        let send = async |message| {
            let _permit = lane.acquire().await;
            self.send_one(to, message).await
        };
        join_all(batch.iter().map(send)).await
    }

    /// The response is the reply, whatever its status. Requests do not wait for each other, since
    /// each has a caller of its own.
    async fn request(
        &self,
        to: Destination<'_, ClientTarget>,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let wire = self.wire.load_full();
        let Ok(_permit) = self.in_flight.acquire().await else {
            let reason = "the client is closed";
            return Err(RequestError::Busy { after: None, reason: reason.into() });
        };
        let within = request::within(replies.deadline());
        let response = exchange(&wire, to.target, message, Some(within)).await?;
        let reply = request::reply(response, self.reply_bytes_max, &self.name);
        // One exchange brings one reply, for which there is room.
        let _ = replies.put(reply.await?);
        Ok(())
    }

    async fn close(&self) {
        // Each request under way holds a permit.
        drop(self.in_flight.acquire_many(self.in_flight_max).await);
        self.in_flight.close();
    }
}

/// Reads the files of the settings again whenever the configuration is.
async fn follow(outbound: Weak<HttpOutbound>, config: Arc<ClientConfig>, mut updates: Updates) {
    loop {
        updates.changed().await;
        let Some(outbound) = outbound.upgrade() else { return };
        match Wire::read(&config, &outbound.name).await {
            Ok(wire) => outbound.wire.store(Arc::new(wire)),
            Err(error) => {
                let adapter = &outbound.name;
                warn!(%adapter, %error, "A file cannot be used, what was read before holds.");
            }
        }
    }
}

/// Sends a message, once more with another token where the server refuses the one it had.
async fn exchange(
    wire: &Wire,
    target: &ClientTarget,
    message: &Outgoing,
    within: Option<Duration>,
) -> Result<Response, SendError> {
    let send = async |token: Option<&Token>| {
        let mut request = request(wire, target, message)?;
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.authorization.clone());
        }
        if let Some(within) = within {
            request = request.timeout(within);
        }
        request.send().await.map_err(error::fault)
    };
    let Some(tokens) = &wire.tokens else { return send(None).await };
    let token = tokens.get().await?;
    let response = send(Some(&token)).await?;
    if response.status() != StatusCode::UNAUTHORIZED || !tokens.refused(&token).await {
        return Ok(response);
    }
    let response = send(Some(&tokens.get().await?)).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        tokens.refused_again().await;
    }
    Ok(response)
}

fn request(
    wire: &Wire,
    target: &ClientTarget,
    message: &Outgoing,
) -> Result<RequestBuilder, SendError> {
    let url = url(&wire.base, target, message)?;
    let mut fields = wire.fixed.clone();
    mapping::write_request_headers(&message.envelope, &mut fields);
    if let Some(signer) = &wire.signer {
        signer
            .add(&message.envelope.payload, &mut fields)
            .map_err(|reason| SendError::Rejected { reason: reason.into() })?;
    }
    let request = wire.client.request(target.method.into(), url).headers(fields);
    Ok(request.body(message.envelope.payload.clone()))
}

/// The URL of a message: the base's, with the target's path behind its own.
pub(super) fn url(base: &Url, target: &ClientTarget, message: &Outgoing) -> Result<Url, SendError> {
    let path = message.arguments.get("path").map(|path| &**path).or(target.path.as_deref());
    let path = match path {
        Some(path) => path.strip_prefix('/').unwrap_or(path),
        None => &message.envelope.address,
    };
    let encoded = mapping::encode_path(path).map_err(|error| SendError::Rejected {
        reason: format!("the message cannot be sent to this path: {error}").into(),
    })?;
    let mut url = base.clone();
    url.set_path(&format!("{}{encoded}", base.path().trim_end_matches('/')));
    Ok(url)
}

async fn judge(response: Response) -> Result<Sent, SendError> {
    let status = response.status();
    let retry_after = mapping::read_retry_after(response.headers(), SystemTime::now());
    let location = response.headers().get(LOCATION);
    let location =
        location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
    let excerpt = read(response, if status.is_success() { 0 } else { EXCERPT_BYTES_MAX }).await;
    error::reaction(
        status,
        retry_after,
        location.as_deref(),
        String::from_utf8_lossy(&excerpt).trim(),
    )
}

/// Reads an answer as far as it is bounded, and keeps the start of it. What breaks off here is not
/// missed: the status has said what there is to know.
async fn read(mut response: Response, kept_max: usize) -> Vec<u8> {
    let (mut kept, mut read) = (Vec::new(), 0);
    while read < READ_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read += chunk.len();
        let room = kept_max.saturating_sub(kept.len()).min(chunk.len());
        kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
    }
    kept
}
