//! From a request that may send to a message, and to the gateway's verdict on it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST},
};
use hyper::body::Incoming;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tracing::debug;
use transload_adapter::Event;
use transload_envelope::{Envelope, MessageId, Origin, Text, Value};

use super::{COME_AGAIN, Call, Outcome, Refused, STOPPING, bad_signature, problem};
use crate::{
    error::{self, Answer},
    listener::{
        access::User,
        answer,
        body::{self, BodyError},
        config::takes,
        inbound::{Closed, Intake, Verdict},
        inflate::gunzip,
        verify::{Delivery, Signed, Verified, Verifier},
    },
    mapping,
};

/// How long a request waits for a credit before its sender is told to come again.
const CREDIT_TIMEOUT: Duration = Duration::from_secs(1);
const NO_ROOM: &str = "there is no room for the message now; send it again";
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

impl Call<'_> {
    /// Reads the body of a request, checks its signature, and hands its message over.
    pub(super) async fn message(
        &self,
        intake: Arc<Intake>,
        user: Option<User>,
        verifier: Option<&Verifier>,
        body: &mut Incoming,
    ) -> Outcome {
        // Who has yet to show a signature is not told either what is taken here.
        let known = match verifier {
            None => Some(self.acceptable()?),
            Some(_) => None,
        };
        let (bytes_max, config) = (self.policy.body_bytes_max, &self.server.config);
        let read =
            body::read(body, bytes_max, &self.server.buffered, config.body_timeout.get()).await;
        let (mut payload, mut held) = read.map_err(|error| body_refused(error, bytes_max))?;
        let delivery = match verifier.map(|verifier| self.verify(verifier, &payload)) {
            Some(Ok(Verified::Message(delivery))) => Some(delivery),
            Some(Ok(Verified::Challenge(challenge))) => return Ok(answer::challenge(challenge)),
            Some(Err(refused)) => return Err(refused),
            None => None,
        };
        let packed = match known {
            Some(packed) => packed,
            None => self.acceptable()?,
        };
        if packed {
            let unpacked = gunzip(&payload, bytes_max, &self.server.buffered).await;
            (payload, held) = unpacked.map_err(|error| body_refused(error, bytes_max))?;
        }
        let envelope = self.envelope(payload, user, delivery, packed);
        let id = envelope.id.clone();
        let answer = self.deliver(intake, envelope, held).await;
        Ok(answer::respond(answer, Some(&id)))
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.fields().get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether a message like this is taken here at all, and if so, whether it is to be unpacked.
    fn acceptable(&self) -> Result<bool, Refused> {
        if !self.is_wanted() || !self.policy.methods.contains(self.method()) {
            return Err(self.no_such());
        }
        if !takes(&self.policy.content_types, self.text(&CONTENT_TYPE)) {
            let detail = "messages of this content type are not taken";
            return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        self.is_packed()
    }

    /// Whether the body is to be unpacked.
    fn is_packed(&self) -> Result<bool, Refused> {
        if !self.policy.decode_gzip || !self.fields().contains_key(CONTENT_ENCODING) {
            return Ok(false);
        }
        let encoding = self.text(&CONTENT_ENCODING).unwrap_or_default().trim();
        if encoding.eq_ignore_ascii_case("gzip") || encoding.eq_ignore_ascii_case("x-gzip") {
            return Ok(true);
        }
        if encoding.eq_ignore_ascii_case("identity") {
            return Ok(false);
        }
        let detail = "of content encodings, only gzip is taken";
        let mut refused = problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        refused.headers_mut().insert(ACCEPT_ENCODING, GZIP);
        Err(refused)
    }

    fn verify(&self, verifier: &Verifier, body: &[u8]) -> Result<Verified, Refused> {
        verifier.verify(&Signed::new(self.fields(), body)).map_err(|why| {
            self.server.observer.count(Event::AccessDenied, 1);
            debug!(peer = %self.peer.address, path = %self.address, %why, "A signature is not good.");
            Box::new(bad_signature())
        })
    }

    fn envelope(
        &self,
        payload: Bytes,
        user: Option<User>,
        delivery: Option<Delivery>,
        unpacked: bool,
    ) -> Envelope {
        // Most senders give an id; one is made below where none did.
        let unnamed = MessageId::from_source(Text::new());
        let mut envelope = Envelope::identified(Some(unnamed), self.origin(user), payload);
        let mut named = mapping::read_headers(self.fields(), &mut envelope);
        if unpacked {
            envelope.properties_mut().content_encoding = None;
        }
        if let Some(delivery) = delivery {
            if let Some(id) = delivery.id.as_deref().and_then(mapping::usable_id) {
                envelope.id = id;
                named = true;
            }
            if let Some(event) = delivery.event {
                envelope.properties_mut().kind = Some(event.into());
            }
        }
        if !named {
            envelope.id = MessageId::generate();
        }
        envelope
    }

    fn origin(&self, user: Option<User>) -> Origin {
        let Self { server, peer, head, address, .. } = self;
        let [written, ip] = &peer.written;
        let direct = self.client == peer.address.ip();
        let client = if direct { ip.clone() } else { self.client.to_string().into() };
        let method = match head.method {
            Method::POST => Text::from_static("POST"),
            Method::PUT => Text::from_static("PUT"),
            ref other => other.as_str().into(),
        };
        let mut attributes = Vec::with_capacity(7);
        let mut add = |name, value| attributes.push((Text::from_static(name), Value::Text(value)));
        add("method", method);
        add("path", head.uri.path().into());
        add("peer", written.clone());
        add("client", client);
        if let Some(User(name)) = user {
            add("user", name);
        }
        if let Some(query) = head.uri.query() {
            add("query", query.into());
        }
        if let Some(host) = self.text(&HOST).or(head.uri.host()) {
            add("host", host.into());
        }
        Origin {
            adapter: server.name.clone(),
            protocol: Text::from_static("http"),
            address: address.clone(),
            attributes,
        }
    }

    /// Hands a message to the gateway and waits for its verdict.
    async fn deliver(
        &self,
        intake: Arc<Intake>,
        envelope: Envelope,
        buffered: OwnedSemaphorePermit,
    ) -> Answer {
        let deadline = intake.deadline();
        let credit = match intake.credit_now() {
            Some(credit) => credit,
            None => match timeout(CREDIT_TIMEOUT, intake.credit()).await {
                Ok(Ok(credit)) => credit,
                Ok(Err(Closed)) => return Answer::later(COME_AGAIN, STOPPING),
                Err(_) => return Answer::later(COME_AGAIN, NO_ROOM),
            },
        };
        let place = match intake.place_now() {
            Some(place) => place,
            None => {
                match timeout(self.server.config.response_timeout.get(), intake.place()).await {
                    Ok(Ok(place)) => place,
                    Ok(Err(Closed)) => return Answer::later(COME_AGAIN, STOPPING),
                    Err(_) => return Answer::later(COME_AGAIN, NO_ROOM),
                }
            }
        };
        let waiting = intake.hand_over(place, envelope, buffered, credit, deadline);
        // What was handed over must not keep the input from ending while it waits for its verdict.
        drop(intake);
        match waiting.await {
            Ok(Verdict::Settled(settlement)) => error::answer(settlement),
            Err(_) => Answer::later(COME_AGAIN, STOPPING),
            Ok(Verdict::Late) => Answer::problem(
                StatusCode::GATEWAY_TIMEOUT,
                "the message was not confirmed in time and may still be accepted; send it again \
                 with this id as its Idempotency-Key",
            ),
        }
    }
}

fn body_refused(error: BodyError, bytes_max: usize) -> Refused {
    let answer = match error {
        BodyError::TooLarge => Answer::problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {bytes_max} bytes"),
        ),
        BodyError::NoRoom => Answer::later(COME_AGAIN, NO_ROOM),
        BodyError::TimedOut => {
            Answer::problem(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
        }
        BodyError::Broken => Answer::problem(StatusCode::BAD_REQUEST, "the body is incomplete"),
        BodyError::NotGzip => {
            Answer::problem(StatusCode::BAD_REQUEST, "the body is not packed with gzip")
        }
    };
    Box::new(answer::respond(answer, None))
}
