//! A message to HTTP and back without a server, for tests of what comes through.

use http::{HeaderMap, HeaderName, HeaderValue};
use transload_adapter::SendError;
use transload_envelope::{Envelope, Origin, Outgoing};

use crate::mapping;

/// The path and the message that our own listener makes of the request which our client makes of a
/// message, by way of the lines of its fields; or why there is no such request.
pub fn round_trip(outgoing: &Outgoing) -> Result<(String, Envelope), SendError> {
    let rejected = |reason: String| SendError::Rejected { reason: reason.into() };
    let Outgoing { envelope, .. } = outgoing;
    let path =
        mapping::encode_path(&envelope.address).map_err(|error| rejected(error.to_string()))?;
    let mut fields = HeaderMap::new();
    mapping::write_request_headers(envelope, &mut fields);
    let fields = read(&written(&fields)).map_err(rejected)?;
    let address = mapping::read_path(&path).map_err(|error| rejected(error.to_string()))?;
    let mut read = Envelope::new(Origin::new("http", "http", address), envelope.payload.clone());
    mapping::read_headers(&fields, &mut read);
    Ok((path, read))
}

fn written(fields: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in fields {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Reads lines as a server does (RFC 9112, section 5): up to each line break, without the spaces
/// around a value.
fn read(bytes: &[u8]) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for line in lines {
        let line = line.strip_suffix(b"\r").ok_or("a line feed stands alone")?;
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a line has no name")?;
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        let name = HeaderName::from_bytes(name).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
        fields.append(name, value);
    }
    Ok(fields)
}
