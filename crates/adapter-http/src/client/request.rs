//! The response of a server as the reply to a message.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::Instant;
use transload_adapter::RequestError;
use transload_envelope::{Envelope, Origin, Text, Value};

use crate::{
    error,
    mapping::{self, STATUS_HEADER},
};

/// How much longer than its caller a request lasts, so that it is the caller's end that is told.
const LATER: Duration = Duration::from_secs(1);

/// How long a request may take whose caller waits until then.
pub(super) fn within(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()) + LATER
}

/// Makes a message of a response.
pub(super) async fn reply(
    mut response: Response,
    bytes_max: usize,
    adapter: &Text,
) -> Result<Envelope, RequestError> {
    let payload = read(&mut response, bytes_max).await?;
    let status = response.status().as_u16();
    let origin =
        Origin::new(adapter.clone(), "http", response.url().path().trim_start_matches('/'))
            .with("status", i64::from(status));
    let mut reply = Envelope::new(origin, payload);
    mapping::read_headers(response.headers(), &mut reply);
    reply.headers.set(STATUS_HEADER, Value::Int(status.into()));
    Ok(reply)
}

async fn read(response: &mut Response, bytes_max: usize) -> Result<Bytes, RequestError> {
    let mut payload = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(error::fault)? {
        if payload.len() + chunk.len() > bytes_max {
            let reason = format!("the reply is larger than {bytes_max} bytes (max_reply_bytes)");
            return Err(RequestError::Rejected { reason: reason.into() });
        }
        payload.extend_from_slice(&chunk);
    }
    Ok(payload.freeze())
}
