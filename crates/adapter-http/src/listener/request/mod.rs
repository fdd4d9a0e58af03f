//! One request, from its head to its answer.
//!
//! What is asked of a request is asked in this order: the rates, the path, credentials, the method,
//! the content type, the size of the body, the signature. So a peer that may not send learns nothing
//! of what there is, and no body is read for it.

mod message;
mod options;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{EXPECT, RETRY_AFTER},
    request::Parts,
    uri::Authority,
};
use hyper::body::{Body as _, Incoming};
use transload_adapter::Event;
use transload_envelope::{Address, Text};

use super::{
    access::{Access, Authenticator, Limits, Peer, Policy, Reading, User, is_foreign},
    answer::{self, Body, and_close, bad_signature, not_allowed, unauthorized},
    body,
    server::Server,
    stream,
};
use crate::{error::Answer, mapping};

const STREAM_METHODS: &str = "GET, HEAD";
/// When a sender that found no room is to come again.
const COME_AGAIN: Duration = Duration::from_secs(1);
const STOPPING: &str = "the gateway is stopping";

/// What is known of a request before its body is read.
struct Call<'a> {
    server: &'a Server,
    peer: &'a Peer,
    /// Where it comes from, as far as trusted proxies tell.
    client: IpAddr,
    head: &'a Parts,
    policy: &'a Policy,
    address: Address,
}

/// Answers a request.
pub(super) async fn respond(
    server: &Arc<Server>,
    peer: &Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let mut response = admit(server, peer, &head, &mut body).await;
    if let Some(cors) = &server.cors {
        cors.open(&head.headers, &mut response);
    }
    response
}

/// Finds out what is asked of a request.
async fn admit(server: &Server, peer: &Peer, head: &Parts, body: &mut Incoming) -> Response<Body> {
    let policies = server.policies();
    let client = server.proxies.client(peer.address.ip(), &head.headers);
    if let Err(refused) = within(policies.limits.as_deref(), client) {
        return refuse(server, head, body, refused).await;
    }
    let address = match mapping::read_path(head.uri.path()) {
        Ok(address) => address,
        Err(error) => {
            let refused = problem(StatusCode::BAD_REQUEST, error.to_string());
            return refuse(server, head, body, refused).await;
        }
    };
    let policy = policies.of(&address);
    if let Err(refused) = within(policy.limits.as_deref(), client) {
        return refuse(server, head, body, refused).await;
    }
    let call = Call { server, peer, client, head, policy, address };
    let refused = match call.method() {
        &Method::OPTIONS => call.options(),
        &Method::GET | &Method::HEAD => call.read(),
        _ => call.take(body).await,
    };
    match refused {
        Ok(response) => response,
        Err(refused) => refuse(server, head, body, refused).await,
    }
}

/// What a request gets: an answer to it, or a refusal, before which the rest of its body is seen to.
type Outcome = Result<Response<Body>, Refused>;
type Refused = Box<Response<Body>>;

impl Call<'_> {
    fn method(&self) -> &Method {
        &self.head.method
    }

    fn fields(&self) -> &HeaderMap {
        &self.head.headers
    }

    fn is_wanted(&self) -> bool {
        self.server.wants(&self.address)
    }

    fn has_stream(&self) -> bool {
        self.server.config.streams.contain(&self.address)
    }

    /// Lets somebody read a stream, or answers the question of a provider of webhooks.
    fn read(&self) -> Outcome {
        if *self.method() == Method::GET
            && let (Some(verifier), Some(query)) = (self.policy.verifier(), self.head.uri.query())
            && let Some(challenge) = verifier.query_challenge(query)
        {
            return Ok(answer::challenge(challenge));
        }
        match self.policy.reading() {
            Reading::Open => self.open_to_all()?,
            Reading::Closed => return Err(self.closed()),
            Reading::Credential(authenticator) => drop(self.user(authenticator)?),
        }
        if self.has_stream() {
            let Server { hub, end, .. } = self.server;
            return Ok(stream::subscribe(hub, &self.address, self.head, end));
        }
        Err(self.no_such())
    }

    /// Takes a message in.
    async fn take(&self, body: &mut Incoming) -> Outcome {
        let (user, verifier) = match self.policy.access() {
            Access::Open => {
                self.open_to_all()?;
                // Where every client must show a certificate, that is enough.
                let identity = self.peer.identity.as_ref();
                (identity.map(|identity| User(identity.name().into())), None)
            }
            Access::Closed => return Err(self.closed()),
            Access::Credential(authenticator) => (Some(self.user(authenticator)?), None),
            Access::Signature(verifier) => (None, Some(verifier)),
            Access::Both(authenticator, verifier) => {
                (Some(self.user(authenticator)?), Some(verifier))
            }
        };
        let Some(intake) = self.server.intake() else {
            let response = answer::respond(Answer::later(COME_AGAIN, STOPPING), None);
            return Err(Box::new(and_close(response, self.head.version)));
        };
        self.message(intake, user, verifier, body).await
    }

    fn user(&self, authenticator: &Authenticator) -> Result<User, Refused> {
        authenticator.user(self.peer, self.fields()).ok_or_else(|| {
            self.server.observer.count(Event::AccessDenied, 1);
            Box::new(unauthorized(authenticator.challenge()))
        })
    }

    fn open_to_all(&self) -> Result<(), Refused> {
        let authority = self.head.uri.authority().map(Authority::as_str);
        if is_foreign(self.server.cors.as_ref(), self.fields(), authority) {
            self.server.observer.count(Event::AccessDenied, 1);
            let detail = "pages of this origin may not use the listener";
            return Err(problem(StatusCode::FORBIDDEN, detail));
        }
        Ok(())
    }

    fn closed(&self) -> Refused {
        self.server.observer.count(Event::AccessDenied, 1);
        problem(StatusCode::FORBIDDEN, "nobody may do this here")
    }

    /// The path is not there, or not with this method.
    fn no_such(&self) -> Refused {
        match (self.is_wanted(), self.has_stream()) {
            (false, false) => problem(StatusCode::NOT_FOUND, "no route wants this path"),
            (false, true) => Box::new(not_allowed(STREAM_METHODS)),
            (true, false) => Box::new(not_allowed(&self.intake_methods())),
            (true, true) => {
                let methods = format!("{STREAM_METHODS}, {}", self.intake_methods());
                Box::new(not_allowed(&methods))
            }
        }
    }

    fn intake_methods(&self) -> String {
        let methods: Vec<_> = self.policy.methods.iter().map(Method::as_str).collect();
        methods.join(", ")
    }
}

/// Refuses a request beyond the rate.
fn within(limits: Option<&Limits>, client: IpAddr) -> Result<(), Refused> {
    let Some(Err(after)) = limits.map(|limits| limits.admit(client)) else { return Ok(()) };
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, "too many requests have come");
    response.headers_mut().insert(RETRY_AFTER, answer::seconds(after).into());
    Err(response)
}

fn problem(status: StatusCode, detail: impl Into<Text>) -> Refused {
    Box::new(answer::respond(Answer::problem(status, detail), None))
}

/// Refuses a request whose body may not have been read to its end.
async fn refuse(
    server: &Server,
    head: &Parts,
    body: &mut Incoming,
    refused: Refused,
) -> Response<Body> {
    if ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&head.method) {
        server.observer.count(Event::MessageRefused, 1);
    }
    // Reading on would tell a client that asked first to go ahead (RFC 9110, section 10.1.1).
    if !head.headers.contains_key(EXPECT) {
        body::discard(body).await;
    }
    if body.is_end_stream() { *refused } else { and_close(*refused, head.version) }
}
