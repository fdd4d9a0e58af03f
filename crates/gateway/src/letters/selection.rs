//! Which dead letters are meant.

use serde::Deserialize;
use transload_adapter::units::HumanDuration;
use transload_delivery::dead_letters::DeadLetter;
use transload_envelope::Timestamp;
use transload_routing::Pattern;

use crate::times;

/// How many letters one request may be about.
pub(crate) const LIMIT_MAX: usize = 1_000;

/// How many letters a request is about that does not say.
const LIMIT_DEFAULT: usize = 100;

/// What a client asks for; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Request {
    /// The route.
    pub(crate) route: Option<String>,
    /// A part of the reason, in any letter case.
    reason: Option<String>,
    /// A pattern for the address.
    address: Option<String>,
    /// The id of the message.
    id: Option<String>,
    /// The earliest last failure, in the form of RFC 3339.
    since: Option<String>,
    /// The latest last failure, in the form of RFC 3339.
    until: Option<String>,
    /// How long the last failure must be past, such as `2h`.
    older_than: Option<HumanDuration>,
    /// Exactly these letters of the route.
    positions: Option<Vec<u64>>,
    /// Says in so many words that no filter is wanted, where something is to be changed.
    all: bool,
    /// How many letters at most.
    limit: Option<usize>,
    /// Where the request before this one ended.
    after: Option<String>,
    /// The route that a replay goes to, where it is not to go back to its destination.
    pub(crate) to_route: Option<String>,
}

/// A request that has been understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) route: Option<String>,
    reason: Option<String>,
    address: Option<Pattern>,
    id: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// In ascending order.
    pub(crate) positions: Option<Vec<u64>>,
    pub(crate) limit: usize,
    pub(crate) after: Option<Cursor>,
}

/// Where a walk through the dead letters is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) route: String,
    pub(crate) position: u64,
}

impl Cursor {
    /// As clients see it; what it is made of is none of their business.
    pub(crate) fn write(&self) -> String {
        format!("{}/{}", self.route, self.position)
    }

    fn read(text: &str) -> Option<Self> {
        let (route, position) = text.rsplit_once('/')?;
        Some(Self { route: route.to_owned(), position: position.parse().ok()? })
    }
}

impl Request {
    /// Whether it filters at all, or says that it does not want to.
    fn is_deliberate(&self) -> bool {
        let texts = [&self.route, &self.reason, &self.address, &self.id, &self.since, &self.until];
        let other = self.older_than.is_some() || self.positions.is_some();
        self.all || other || texts.iter().any(|text| text.is_some())
    }

    /// The same for a request that changes something, which has to say what.
    pub(crate) fn deliberate(self) -> Result<Selection, String> {
        if self.is_deliberate() {
            return self.understand();
        }
        Err("give at least one filter, or `\"all\": true`".to_owned())
    }

    /// Reads the parts.
    pub(crate) fn understand(self) -> Result<Selection, String> {
        let address = self.address.map(|text| {
            Pattern::parse(&text).map_err(|error| format!("`{text}` is no pattern: {error}"))
        });
        let mut positions = self.positions;
        if let Some(positions) = &mut positions {
            if self.route.is_none() {
                return Err("`positions` needs `route`".to_owned());
            }
            if positions.len() > LIMIT_MAX {
                return Err(format!("`positions` has more than {LIMIT_MAX} entries"));
            }
            positions.sort_unstable();
            positions.dedup();
        }
        let limit =
            self.limit.unwrap_or(if positions.is_some() { LIMIT_MAX } else { LIMIT_DEFAULT });
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(format!("`limit` is between 1 and {LIMIT_MAX}"));
        }
        let after = match self.after {
            None => None,
            Some(text) => {
                Some(Cursor::read(&text).ok_or_else(|| format!("`{text}` is no `next`"))?)
            }
        };
        let mut selection = Selection {
            route: self.route,
            reason: self.reason.map(|text| text.to_lowercase()),
            address: address.transpose()?,
            id: self.id,
            since: self.since.as_deref().map(times::read).transpose()?,
            until: self.until.as_deref().map(times::read).transpose()?,
            positions,
            limit,
            after,
        };
        if let Some(age) = self.older_than {
            let age_ms = i64::try_from(age.get().as_millis()).unwrap_or(i64::MAX);
            let now_ms = Timestamp::now().unix_ms;
            selection.not_later_than(Timestamp { unix_ms: now_ms.saturating_sub(age_ms) });
        }
        Ok(selection)
    }
}

impl Selection {
    /// Leaves out what fails after this time, so that a replay does not meet its own failures.
    pub(crate) fn not_later_than(&mut self, now: Timestamp) {
        self.until = Some(self.until.map_or(now, |until| until.min(now)));
    }

    /// Whether the letter is meant, as far as its content says.
    pub(crate) fn matches(&self, letter: &DeadLetter) -> bool {
        let envelope = &letter.outgoing.envelope;
        let at = letter.last_failure_at;
        self.reason.as_ref().is_none_or(|part| letter.reason.to_lowercase().contains(part))
            && self.id.as_ref().is_none_or(|id| envelope.id.as_str() == id)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
            && self
                .address
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&envelope.address).is_some())
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{Arguments, Envelope, MessageId, Origin, Outgoing};

    use super::*;

    fn letter() -> DeadLetter {
        let envelope = Envelope::new(Origin::new("a", "fake", "devices/d7/alarm"), "x")
            .with_id(MessageId::from_source("m-1"));
        DeadLetter {
            destination: "r/t".into(),
            reason: "404 Not Found".into(),
            attempts: 1,
            first_failure_at: Timestamp { unix_ms: 0 },
            last_failure_at: Timestamp { unix_ms: 60_000 },
            planned: true,
            outgoing: Outgoing { envelope, arguments: Arguments::default() },
        }
    }

    fn request(json: &str) -> Request {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn all_filters_must_hold() {
        for (json, expected) in [
            ("{}", true),
            (r#"{"reason":"not found"}"#, true),
            (r#"{"reason":"500"}"#, false),
            (r#"{"address":"devices/+/alarm"}"#, true),
            (r#"{"address":"devices/+"}"#, false),
            (r#"{"id":"m-1"}"#, true),
            (r#"{"id":"m"}"#, false),
            (r#"{"since":"1970-01-01T00:01:00Z"}"#, true),
            (r#"{"since":"1970-01-01T00:01:01Z"}"#, false),
            (r#"{"until":"1970-01-01T00:01:00Z"}"#, true),
            (r#"{"until":"1970-01-01T00:00:59Z"}"#, false),
            (r#"{"older_than":"1h"}"#, true),
            (r#"{"older_than":"36500d"}"#, false),
            (r#"{"id":"m-1","reason":"500"}"#, false),
        ] {
            let selection = request(json).understand().unwrap();
            assert_eq!(selection.matches(&letter()), expected, "{json}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (json, part) in [
            (r#"{"positions":[1]}"#, "route"),
            (r#"{"limit":0}"#, "between"),
            (r#"{"limit":1001}"#, "between"),
            (r#"{"after":"x"}"#, "next"),
            (r#"{"since":"now"}"#, "RFC 3339"),
            (r#"{"address":"a/#/b"}"#, "pattern"),
        ] {
            let refused = request(json).understand().unwrap_err();
            assert!(refused.contains(part), "{json}: {refused}");
        }
        assert!(request("{}").deliberate().is_err());
        assert!(request(r#"{"limit":5}"#).deliberate().is_err());
        assert!(request(r#"{"all":true}"#).deliberate().is_ok());
        assert!(request(r#"{"id":"x"}"#).deliberate().is_ok());
    }

    #[test]
    fn a_replay_does_not_meet_its_own_failures() {
        let mut selection = request("{}").understand().unwrap();
        selection.not_later_than(Timestamp { unix_ms: 59_999 });
        assert!(!selection.matches(&letter()));
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { route: "a".to_owned(), position: 7 };
        assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
    }
}
