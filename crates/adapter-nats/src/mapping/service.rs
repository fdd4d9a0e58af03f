//! The status of a reply, in the form that services and their callers know (ADR-32 of NATS).
//!
//! | reply | NATS |
//! |---|---|
//! | header `status` | header `status`; 400 and above also as `Nats-Service-Error-Code` |
//! | header `reply-error` | also as `Nats-Service-Error`, which such a code needs |

use transload_envelope::{Headers, Value};

use super::{headers::fits_line, value};
use crate::client::HeaderLines;

const STATUS: &str = "status";
const ERROR: &str = "reply-error";
const SERVICE_ERROR: &str = "Nats-Service-Error";
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// Adds what callers of services look for when the reply tells of an error.
pub(crate) fn write_service_error(answer: &Headers, into: &mut HeaderLines) {
    let status = answer.get_ignoring_case(STATUS).map(value::text);
    let Some(code) = status.and_then(|text| text.parse::<u16>().ok()).filter(|code| *code >= 400)
    else {
        return;
    };
    let named = answer.get(ERROR).or_else(|| answer.get_ignoring_case(SERVICE_ERROR));
    let description = named.map_or_else(|| format!("status {code}"), value::text);
    into.push(SERVICE_ERROR_CODE, &code.to_string());
    if fits_line(&description) {
        into.push(SERVICE_ERROR, &description);
    }
}

/// Takes the status of a reply from a service's error code, if it has one.
pub(crate) fn read_service_error(headers: &mut Headers) {
    let Some(code) = headers.get_ignoring_case(SERVICE_ERROR_CODE).map(value::text) else {
        return;
    };
    if let Ok(code) = code.parse::<i64>()
        && headers.get_ignoring_case(STATUS).is_none()
    {
        headers.remove(SERVICE_ERROR_CODE);
        headers.set(STATUS, Value::Int(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::HeaderBlock;

    #[test]
    fn errors_are_told_both_ways() {
        let mut answer = Headers::default();
        let mut lines = HeaderLines::default();
        answer.set("status", Value::Int(200));
        write_service_error(&answer, &mut lines);
        assert_eq!(lines.len(), 0);
        answer.set("status", "504");
        answer.set("reply-error", "timed-out");
        write_service_error(&answer, &mut lines);
        let block = HeaderBlock(lines.as_bytes());
        let wanted: [(&[u8], &[u8]); 2] =
            [(b"Nats-Service-Error-Code", b"504"), (b"Nats-Service-Error", b"timed-out")];
        assert!(block.lines().eq(wanted));

        let mut headers = Headers::default();
        headers.push("Nats-Service-Error-Code", "404");
        headers.push("Nats-Service-Error", "no such thing");
        read_service_error(&mut headers);
        assert_eq!(headers.get("status"), Some(&Value::Int(404)));
        assert_eq!(headers.len(), 2);
    }
}
