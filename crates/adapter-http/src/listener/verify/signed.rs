//! A request whose signature is to be checked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use serde::de::DeserializeOwned;

/// A request whose signature is to be checked.
#[derive(Debug)]
pub(in crate::listener) struct Signed<'a> {
    headers: &'a HeaderMap,
    body: &'a [u8],
    /// Seconds since the epoch.
    now: u64,
}

/// Why a request is refused. Not for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::listener) enum Refused {
    #[error("a field of the signature is missing")]
    Missing,
    #[error("a field of the signature is there more than once")]
    Repeated,
    #[error("a field of the signature has another form")]
    Malformed,
    #[error("the signature is too old, or from the future")]
    Stale,
    #[error("the signature is another one")]
    Different,
}

impl<'a> Signed<'a> {
    pub(in crate::listener) fn new(headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { headers, body, now: now.as_secs() }
    }

    #[cfg(test)]
    pub(super) fn at(headers: &'a HeaderMap, body: &'a [u8], now: u64) -> Self {
        Self { headers, body, now }
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    /// The value of a field that must be there exactly once.
    pub(super) fn only(&self, name: &str) -> Result<&'a str, Refused> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().ok_or(Refused::Missing)?;
        if values.next().is_some() {
            return Err(Refused::Repeated);
        }
        value.to_str().map_err(|_| Refused::Malformed)
    }

    /// What a field says, if it is there exactly once and holds text.
    pub(super) fn told(&self, name: &str) -> Option<String> {
        self.only(name).ok().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// What the body says, if it is JSON of this form. Only for requests that were found good.
    pub(super) fn read_body<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body).ok()
    }

    /// Whether a time in seconds since the epoch is near enough.
    pub(super) fn fresh(&self, time: &str, tolerance: Duration) -> Result<(), Refused> {
        // Parsing alone would take a sign too.
        if !time.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refused::Malformed);
        }
        self.near(time.parse().map_err(|_| Refused::Malformed)?, tolerance)
    }

    /// The same for a time in the form of RFC 3339.
    pub(super) fn fresh_date(&self, time: &str, tolerance: Duration) -> Result<(), Refused> {
        let format = &time::format_description::well_known::Rfc3339;
        let time = time::OffsetDateTime::parse(time, format).map_err(|_| Refused::Malformed)?;
        self.near(time.unix_timestamp().try_into().map_err(|_| Refused::Stale)?, tolerance)
    }

    fn near(&self, time: u64, tolerance: Duration) -> Result<(), Refused> {
        if self.now.abs_diff(time) <= tolerance.as_secs() { Ok(()) } else { Err(Refused::Stale) }
    }
}
