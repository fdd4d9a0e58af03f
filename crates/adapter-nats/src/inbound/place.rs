//! Where a message stands in its stream, by the subject for its acknowledgement
//! (<https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-15.md>).
//!
//! The client reads it too, but with the time as a date, which costs more than all the rest.

use transload_envelope::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place<'a> {
    pub(super) stream: &'a str,
    pub(super) consumer: &'a str,
    /// How often it was delivered, this time included.
    pub(super) delivered: i64,
    /// Its number in the stream.
    pub(super) sequence: u64,
    pub(super) published: Timestamp,
}

impl<'a> Place<'a> {
    /// Reads both forms: with nine tokens, and with domain and account before the stream and perhaps
    /// more behind.
    pub(super) fn read(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        // The short form has a stream, a consumer and five numbers.
        let short = rest.split('.').take(8).count() == 7;
        let mut tokens = rest.split('.').skip(if short { 0 } else { 2 });
        let (stream, consumer) = (tokens.next()?, tokens.next()?);
        let delivered = tokens.next()?.parse().ok()?;
        let sequence = tokens.next()?.parse().ok()?;
        let _of_the_consumer: u64 = tokens.next()?.parse().ok()?;
        let published_ns: i64 = tokens.next()?.parse().ok()?;
        let _pending: u64 = tokens.next()?.parse().ok()?;
        let published = Timestamp { unix_ms: published_ns.div_euclid(1_000_000) };
        Some(Self { stream, consumer, delivered, sequence, published })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_say_the_same() {
        let place = Place {
            stream: "S",
            consumer: "c",
            delivered: 2,
            sequence: 7,
            published: Timestamp { unix_ms: 1_700_000_000_123 },
        };
        for reply in [
            "$JS.ACK.S.c.2.7.6.1700000000123456789.0",
            "$JS.ACK._.acc.S.c.2.7.6.1700000000123456789.0",
            "$JS.ACK.hub.acc.S.c.2.7.6.1700000000123456789.0.random.more",
        ] {
            assert_eq!(Place::read(reply), Some(place), "{reply}");
        }
    }

    #[test]
    fn what_is_no_acknowledgement_says_nothing() {
        for reply in [
            "",
            "_INBOX.a.b",
            "$JS.ACK.",
            "$JS.ACK.S.c.2.7.6.1700000000123456789",
            "$JS.ACK.S.c.two.7.6.1700000000123456789.0",
            "$JS.ACK._.acc.S.c.2.7.6.1700000000123456789",
        ] {
            assert_eq!(Place::read(reply), None, "{reply}");
        }
    }
}
