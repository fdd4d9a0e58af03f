//! One request, from its head to its answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, EXPECT, HOST},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};
use transload_adapter::Event;
use transload_envelope::{Address, Envelope, Origin, Text};

use super::{
    answer::{self, Body, and_close, not_allowed},
    body::{self, BodyError},
    config::takes,
    inbound::{Closed, Intake},
    serve::Server,
    stream,
};
use crate::{
    error::{self, Answer},
    mapping,
};

const INTAKE_METHODS: &str = "POST, PUT";
const STREAM_METHODS: &str = "GET, HEAD";
const BOTH_METHODS: &str = "GET, HEAD, POST, PUT";
/// How long a request waits for a credit before its sender is told to come again.
const CREDIT_TIMEOUT: Duration = Duration::from_secs(1);
/// When a sender that found no room is to come again.
const COME_AGAIN: Duration = Duration::from_secs(1);
const STOPPING: &str = "the gateway is stopping";
const NO_ROOM: &str = "there is no room for the message now; send it again";

/// Answers a request.
pub(super) async fn respond(
    server: &Arc<Server>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let Some(intake) = server.intake() else {
        return and_close(answer::respond(Answer::later(COME_AGAIN, STOPPING), None));
    };
    let refused = match mapping::read_path(head.uri.path()) {
        Err(error) => problem(StatusCode::BAD_REQUEST, error.to_string()),
        Ok(address) => {
            let wanted = server.wants(&address);
            let streams = server.config.streams.contain(&address);
            if wanted && (head.method == Method::POST || head.method == Method::PUT) {
                return take(server, intake, peer, &head, address, &mut body).await;
            }
            if streams && (head.method == Method::GET || head.method == Method::HEAD) {
                return stream::subscribe(&server.hub, &address, &head, &server.end);
            }
            match (wanted, streams) {
                (false, false) => problem(StatusCode::NOT_FOUND, "no route wants this path"),
                (true, false) => not_allowed(INTAKE_METHODS),
                (false, true) => not_allowed(STREAM_METHODS),
                (true, true) => not_allowed(BOTH_METHODS),
            }
        }
    };
    refuse(server, &head, &mut body, refused).await
}

fn problem(status: StatusCode, detail: impl Into<Text>) -> Response<Body> {
    answer::respond(Answer::problem(status, detail), None)
}

/// Takes a message in.
async fn take(
    server: &Server,
    intake: Arc<Intake>,
    peer: SocketAddr,
    head: &Parts,
    address: Address,
    body: &mut Incoming,
) -> Response<Body> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !takes(&server.config.content_types, content_type) {
        let detail = "messages of this content type are not taken";
        let refused = problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        return refuse(server, head, body, refused).await;
    }
    let bytes_max = server.config.max_body_bytes.as_usize();
    let within = server.config.body_timeout.get();
    let (payload, buffered) = match body::read(body, bytes_max, &server.buffered, within).await {
        Ok(read) => read,
        Err(error) => {
            let refused = answer::respond(body_refused(error, bytes_max), None);
            return refuse(server, head, body, refused).await;
        }
    };
    let mut envelope = Envelope::new(origin(server, peer, head, address), payload);
    mapping::read_headers(&head.headers, &mut envelope);
    let id = envelope.id.clone();
    let answer = deliver(server, intake, envelope, buffered).await;
    answer::respond(answer, Some(&id))
}

/// Hands a message to the gateway and waits for its verdict.
async fn deliver(
    server: &Server,
    intake: Arc<Intake>,
    envelope: Envelope,
    buffered: OwnedSemaphorePermit,
) -> Answer {
    let until = Instant::now() + server.config.response_timeout.get();
    let credit = match timeout(CREDIT_TIMEOUT, intake.credit()).await {
        Ok(Ok(credit)) => credit,
        Ok(Err(Closed)) => return Answer::later(COME_AGAIN, STOPPING),
        Err(_) => return Answer::later(COME_AGAIN, NO_ROOM),
    };
    let waiting = match timeout_at(until, intake.hand_over(envelope, buffered, credit)).await {
        Ok(Ok(waiting)) => waiting,
        Ok(Err(Closed)) => return Answer::later(COME_AGAIN, STOPPING),
        Err(_) => return Answer::later(COME_AGAIN, NO_ROOM),
    };
    // What was handed over must not keep the input from ending while it waits for its verdict.
    drop(intake);
    match timeout_at(until, waiting).await {
        Ok(Ok(settlement)) => error::answer(settlement),
        Ok(Err(_)) => Answer::later(COME_AGAIN, STOPPING),
        Err(_) => Answer::problem(
            StatusCode::GATEWAY_TIMEOUT,
            "the message was not confirmed in time and may still be accepted; send it again with \
             this id as its Idempotency-Key",
        ),
    }
}

fn origin(server: &Server, peer: SocketAddr, head: &Parts, address: Address) -> Origin {
    let mut origin = Origin::new(server.name.clone(), "http", address)
        .with("method", head.method.as_str())
        .with("path", head.uri.path())
        .with("peer", peer.to_string());
    if let Some(query) = head.uri.query() {
        origin = origin.with("query", query);
    }
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host.or(head.uri.host()) {
        origin = origin.with("host", host);
    }
    origin
}

fn body_refused(error: BodyError, bytes_max: usize) -> Answer {
    match error {
        BodyError::TooLarge => Answer::problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {bytes_max} bytes"),
        ),
        BodyError::NoRoom => Answer::later(COME_AGAIN, NO_ROOM),
        BodyError::TimedOut => {
            Answer::problem(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
        }
        BodyError::Broken => Answer::problem(StatusCode::BAD_REQUEST, "the body is incomplete"),
    }
}

/// Refuses a request whose body may not have been read to its end.
async fn refuse(
    server: &Server,
    head: &Parts,
    body: &mut Incoming,
    refused: Response<Body>,
) -> Response<Body> {
    if head.method == Method::POST || head.method == Method::PUT {
        server.observer.count(Event::MessageRefused, 1);
    }
    // Reading on would tell a client that asked first to go ahead (RFC 9110, section 10.1.1).
    if !head.headers.contains_key(EXPECT) {
        body::discard(body).await;
    }
    if body.is_end_stream() { refused } else { and_close(refused) }
}
