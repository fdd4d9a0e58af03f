//! The response to a subscriber.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, Method, Response, request::Parts};
use hyper::body::Frame;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use transload_envelope::Address;

use super::hub::{Hub, Place};
use crate::{
    error::Answer,
    listener::answer::{self, Body, EventFrames},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Sent at once, so that clients and proxies see the head of the response before the first event.
const OPENING: Bytes = Bytes::from_static(b": transload\n\n");
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");
const RETRY: Duration = Duration::from_secs(5);

/// Answers a subscriber.
pub(in crate::listener) fn subscribe(
    hub: &Arc<Hub>,
    address: &Address,
    head: &Parts,
    end: &CancellationToken,
) -> Response<Body> {
    if head.method == Method::HEAD {
        return answer::events(Box::pin(stream::empty()));
    }
    let after = head.headers.get(LAST_EVENT_ID);
    let after = after.and_then(|id| std::str::from_utf8(id.as_bytes()).ok());
    match hub.subscribe(address.as_text(), after.filter(|id| !id.is_empty())) {
        Some(place) => answer::events(frames(hub, place, end.clone())),
        None => answer::respond(Answer::later(RETRY, "there are too many subscribers"), None),
    }
}

struct Reader {
    place: Place,
    ready: VecDeque<Bytes>,
    keep_alive: Duration,
    end: CancellationToken,
}

fn frames(hub: &Hub, place: Place, end: CancellationToken) -> EventFrames {
    let keep_alive = hub.settings.keep_alive.get();
    let reader = Reader { place, ready: VecDeque::from([OPENING]), keep_alive, end };
    Box::pin(stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), reader))
    }))
}

impl Reader {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            self.place.take(&mut self.ready);
            if !self.ready.is_empty() {
                continue;
            }
            if self.end.is_cancelled() {
                return None;
            }
            tokio::select! {
                () = self.place.published() => {}
                () = self.end.cancelled() => {}
                () = sleep(self.keep_alive) => return Some(KEEP_ALIVE),
            }
        }
    }
}
