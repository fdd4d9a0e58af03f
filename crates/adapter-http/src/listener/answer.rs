//! Responses.

use std::{convert::Infallible, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use http::{
    HeaderValue, Response, StatusCode, Version,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::json;
use transload_envelope::{Envelope, MessageId, Value};

use super::verify::Challenge;
use crate::{
    error::Answer,
    mapping::{STATUS_HEADER, write_response_headers},
};

pub(super) type EventFrames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;
pub(super) type Body = Either<Full<Bytes>, StreamBody<EventFrames>>;

/// The response of an answer; `id` is the message's, as soon as there is one.
pub(super) fn respond(answer: Answer, id: Option<&MessageId>) -> Response<Body> {
    match answer {
        Answer::Accepted => {
            let mut response = full(StatusCode::ACCEPTED, accepted(id));
            set(&mut response, CONTENT_TYPE, "application/json");
            response
        }
        Answer::Reply(reply) => reply_with(&reply),
        Answer::Problem { status, detail, retry_after } => {
            let mut response = problem(status, &detail, id);
            if let Some(after) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds(after).into());
            }
            response
        }
    }
}

/// The body of an answer to a message that is accepted.
fn accepted(id: Option<&MessageId>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Accepted<'a> {
        id: Option<&'a str>,
    }

    // Writing text to memory does not fail.
    serde_json::to_vec(&Accepted { id: id.map(MessageId::as_str) }).unwrap_or_default()
}

/// 405 with the methods that are allowed.
pub(super) fn not_allowed(allow: &str) -> Response<Body> {
    let detail = format!("the methods of this path are {allow}");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &detail, None);
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// 401 with what is to be shown.
pub(super) fn unauthorized(challenge: &'static str) -> Response<Body> {
    let detail = "this path asks for credentials";
    let mut response = problem(StatusCode::UNAUTHORIZED, detail, None);
    set(&mut response, WWW_AUTHENTICATE, challenge);
    response
}

/// 401 that tells nothing: whoever forges signatures is not to learn what is wrong with them.
pub(super) fn bad_signature() -> Response<Body> {
    full(StatusCode::UNAUTHORIZED, Bytes::new())
}

/// The answer to a provider's question.
pub(super) fn challenge(challenge: Challenge) -> Response<Body> {
    let mut response = full(StatusCode::OK, challenge.body);
    set(&mut response, CONTENT_TYPE, challenge.content_type);
    response
}

/// The answer to `OPTIONS`.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    full(status, Bytes::new())
}

/// 200 with events.
pub(super) fn events(frames: EventFrames) -> Response<Body> {
    let mut response = Response::new(Either::Right(StreamBody::new(frames)));
    set(&mut response, CONTENT_TYPE, "text/event-stream");
    set(&mut response, CACHE_CONTROL, "no-store");
    // Tells nginx and others not to collect the response before they pass it on.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Ends the connection after the response: the rest of the request will not be read. With HTTP/2 only
/// the request ends.
pub(super) fn and_close(mut response: Response<Body>, version: Version) -> Response<Body> {
    if version < Version::HTTP_2 {
        set(&mut response, CONNECTION, "close");
    }
    response
}

/// Problem details (RFC 9457).
fn problem(status: StatusCode, detail: &str, id: Option<&MessageId>) -> Response<Body> {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let (Some(id), Some(body)) = (id, body.as_object_mut()) {
        body.insert("id".to_owned(), id.as_str().into());
    }
    let mut response = full(status, body.to_string());
    set(&mut response, CONTENT_TYPE, "application/problem+json");
    response
}

fn reply_with(reply: &Envelope) -> Response<Body> {
    let told = reply.headers.get_ignoring_case(STATUS_HEADER).and_then(read_status);
    let status = told.unwrap_or(StatusCode::OK);
    // These have no body (RFC 9110, section 6.4.1).
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let body = if bodiless { Bytes::new() } else { reply.payload.clone() };
    let mut response = full(status, body);
    write_response_headers(reply, response.headers_mut());
    if told.is_some() {
        // It is the status of the response, and no field.
        response.headers_mut().remove(STATUS_HEADER);
    }
    response
}

/// The status that a reply asks for. Interim ones (1xx) are no answer.
fn read_status(value: &Value) -> Option<StatusCode> {
    let number = match value {
        Value::Int(number) => u16::try_from(*number).ok()?,
        Value::Text(text) => text.parse().ok()?,
        Value::Null
        | Value::Bool(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_)
        | Value::Map(_) => return None,
    };
    StatusCode::from_u16(number).ok().filter(|status| (200..600).contains(&status.as_u16()))
}

fn full(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response<Body>, name: http::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Whole seconds, at least one: a client told to come back at once would only come back too early.
pub(super) fn seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_id_its_answer_is_json() {
        for id in ["a-1", "", "a\"b", "a\\b", "é", "a\u{1}b", "a\u{7f}b"] {
            let body = accepted(Some(&MessageId::from_source(id)));
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body, json!({ "id": id }));
        }
        assert_eq!(accepted(None), b"{\"id\":null}");
    }
}
