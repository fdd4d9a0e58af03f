//! The keys `max_payload`, `sample`, `rate` and `throttle` of a route.

use std::{fmt, marker::PhantomData, num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};
use serde_spanned::Spanned;
use transload_adapter::units::{ByteSize, HumanDuration};
use transload_routing::{Pattern, Template};

use super::{
    check::Check,
    finding::Finding,
    model::Guarantee,
    settings::RouteKeys,
    source::{FileId, Place},
    targets::unknown_captures,
};
use crate::limits::{
    OverPayload, OverRate, PayloadLimit, RateLimit, RouteLimits, Sample, ThrottleLimit,
};

/// How many keys of a route are told apart where the file does not say.
const KEYS_MAX_DEFAULT: usize = 100_000;

/// How many bytes a throttle holds back where the file does not say.
const BYTES_MAX_DEFAULT: usize = 64 << 20;

/// A setting in brief, or a table of settings.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Brief<T> {
    /// In brief.
    Text(String),
    /// With all settings.
    Table(T),
}

/// How large a payload may be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MaxPayload")]
pub(super) struct PayloadKeys {
    /// The most bytes.
    #[schemars(with = "ByteSize")]
    limit: Spanned<ByteSize>,
    /// What becomes of a larger one. Default: "dead-letter".
    over: Option<OverPayload>,
}

/// How many messages pass in which time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rate")]
pub(super) struct RateKeys {
    /// How many in which time: "100/s", "20/m", "5/h", "1/d" or "100/10s".
    #[schemars(with = "String")]
    limit: Spanned<String>,
    /// A template, such as "{device}": what it comes to has a rate of its own. Default: one rate for
    /// all that the route takes.
    #[schemars(with = "Option<String>")]
    by: Option<Spanned<String>>,
    /// How many may come at once after a quiet time. Default: as many as `limit` says.
    burst: Option<NonZeroU32>,
    /// What becomes of a message that comes too soon. Default: "wait".
    over: Option<OverRate>,
    /// How many keys have a rate of their own; further ones share one. Default: 100000.
    max_keys: Option<NonZeroU32>,
}

/// How often the latest message passes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Throttle")]
pub(super) struct ThrottleKeys {
    /// The least time between two messages of a key.
    #[schemars(with = "HumanDuration")]
    interval: Spanned<HumanDuration>,
    /// A template, such as "{device}": what it comes to is throttled by itself. Default: all that the
    /// route takes is throttled together.
    #[schemars(with = "Option<String>")]
    by: Option<Spanned<String>>,
    /// How many keys are throttled at once; messages of further ones pass. Default: 100000.
    max_keys: Option<NonZeroU32>,
    /// How many bytes may be held back; beyond, messages pass. Default: "64MiB".
    max_bytes: Option<ByteSize>,
}

/// The schema of `sample`.
#[derive(JsonSchema)]
#[schemars(untagged, rename = "Sample")]
#[expect(dead_code, reason = "only the schema matters")]
pub(super) enum SampleSchema {
    /// A fraction.
    Fraction(f64),
    /// One in so many.
    OneIn(String),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Brief<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Brief<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Brief<T>, E> {
                Ok(Brief::Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Brief<T>, E> {
                Ok(Brief::Text(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Brief<T>, E> {
                Ok(Brief::Text(number.to_string()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Brief<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Brief::Table)
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl Check<'_> {
    /// The limits of a route.
    pub(super) fn limits(
        &mut self,
        file: FileId,
        keys: &RouteKeys,
        patterns: &[Pattern],
        guarantee: Guarantee,
    ) -> RouteLimits {
        self.lint_throttled_reply(file, keys);
        RouteLimits {
            payload: keys.max_payload.as_ref().and_then(|keys| self.payload_limit(file, keys)),
            sample: keys.sample.as_ref().and_then(|text| self.sample(file, text)),
            rate: keys.rate.as_ref().and_then(|keys| self.rate_limit(file, keys, patterns)),
            throttle: keys
                .throttle
                .as_ref()
                .and_then(|keys| self.throttle_limit(file, keys, patterns, guarantee)),
        }
    }

    /// A caller waits for its answer, so that its message cannot be held back.
    fn lint_throttled_reply(&mut self, file: FileId, keys: &RouteKeys) {
        if let (Some(throttle), Some(reply)) = (&keys.throttle, &keys.reply) {
            let message =
                "a throttle holds messages back, and callers of this route wait for a reply";
            let help = "use `rate`, or leave `throttle` or `reply` out".to_owned();
            let place = Place { file, span: throttle.span() };
            let other = Place { file, span: reply.span() };
            let finding = Finding::error(place, message).with_help(help);
            self.report(finding.with_related(other, "the reply"));
        }
    }

    fn payload_limit(
        &mut self,
        file: FileId,
        keys: &Spanned<Brief<PayloadKeys>>,
    ) -> Option<PayloadLimit> {
        let (bytes, over) = match keys.get_ref() {
            Brief::Text(text) => match text.parse() {
                Ok(bytes) => (ByteSize::from_bytes(bytes), None),
                Err(_) => (self.parsed::<ByteSize>(file, keys.span(), text)?, None),
            },
            Brief::Table(keys) => (*keys.limit.get_ref(), keys.over),
        };
        Some(PayloadLimit { bytes_max: bytes.get(), over: over.unwrap_or(OverPayload::DeadLetter) })
    }

    fn sample(&mut self, file: FileId, text: &Spanned<Brief<Never>>) -> Option<Sample> {
        let place = Place { file, span: text.span() };
        let Brief::Text(written) = text.get_ref() else { return None };
        let fraction = match written.split_once('/') {
            Some((one, many)) => one
                .trim()
                .parse()
                .ok()
                .zip(many.trim().parse().ok())
                .map(|(one, many): (u32, u32)| f64::from(one) / f64::from(many)),
            None => written.parse().ok(),
        };
        let sample = fraction.and_then(Sample::new);
        if sample.is_none() {
            let message = "expected a fraction above 0 and up to 1, such as 0.1 or \"1/10\"";
            self.report(Finding::error(place, message));
        }
        sample
    }

    fn rate_limit(
        &mut self,
        file: FileId,
        keys: &Spanned<Brief<RateKeys>>,
        patterns: &[Pattern],
    ) -> Option<RateLimit> {
        let (span, text, table) = match keys.get_ref() {
            Brief::Text(text) => (keys.span(), text, None),
            Brief::Table(table) => (table.limit.span(), table.limit.get_ref(), Some(table)),
        };
        let by = table.and_then(|table| table.by.as_ref());
        let by = by.map(|by| self.limit_key(file, by, patterns));
        let Some((messages, per)) = rate(text) else {
            let message = "expected how many messages in which time, such as \"100/s\", \"20/m\" \
                           or \"100/10s\"";
            self.report(Finding::error(Place { file, span }, message));
            return None;
        };
        Some(RateLimit {
            messages,
            per,
            burst: table.and_then(|table| table.burst).map_or(messages, NonZeroU32::get),
            by: by.flatten(),
            keys_max: keys_max(table.and_then(|table| table.max_keys)),
            over: table.and_then(|table| table.over).unwrap_or(OverRate::Wait),
        })
    }

    fn throttle_limit(
        &mut self,
        file: FileId,
        keys: &Spanned<Brief<ThrottleKeys>>,
        patterns: &[Pattern],
        guarantee: Guarantee,
    ) -> Option<ThrottleLimit> {
        if guarantee == Guarantee::Delivered {
            let message = "a throttle holds messages back, and \"delivered\" would let their \
                           sources wait for it";
            let help = "use `guarantee = \"stored\"`, which keeps them on disk meanwhile, or \
                        \"best-effort\"";
            let place = Place { file, span: keys.span() };
            self.report(Finding::error(place, message).with_help(help.to_owned()));
        }
        let (span, interval, table) = match keys.get_ref() {
            Brief::Text(text) => {
                (keys.span(), self.parsed::<HumanDuration>(file, keys.span(), text)?, None)
            }
            Brief::Table(table) => (table.interval.span(), *table.interval.get_ref(), Some(table)),
        };
        if interval.get().is_zero() {
            let message = "expected a duration of more than nothing";
            self.report(Finding::error(Place { file, span }, message));
        }
        let by = table.and_then(|table| table.by.as_ref());
        let by = by.map(|by| self.limit_key(file, by, patterns));
        let bytes = table.and_then(|table| table.max_bytes);
        Some(ThrottleLimit {
            interval: interval.get(),
            by: by.flatten(),
            keys_max: keys_max(table.and_then(|table| table.max_keys)),
            bytes_max: bytes.map_or(BYTES_MAX_DEFAULT, ByteSize::as_usize),
            durable: guarantee != Guarantee::BestEffort,
        })
    }

    /// The template of a key.
    fn limit_key(
        &mut self,
        file: FileId,
        by: &Spanned<String>,
        patterns: &[Pattern],
    ) -> Option<Template> {
        let text = by.get_ref();
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                let place = self.inside(file, by.span(), text, error.range.clone());
                self.report(Finding::error(place, error.message).with_help(error.help));
                return None;
            }
        };
        for (range, finding) in unknown_captures(&template, patterns) {
            let place = self.inside(file, by.span(), text, range);
            self.report(Finding { place: Some(place), ..finding });
        }
        if template.is_constant() {
            let message = "this is the same for every message";
            let help = "write a template, such as \"{device}\", or leave `by` out".to_owned();
            let place = Place { file, span: by.span() };
            self.report(Finding::warning(place, message).with_help(help));
        }
        Some(template)
    }

    /// What a text says that is given in brief.
    fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
        &mut self,
        file: FileId,
        span: std::ops::Range<usize>,
        text: &str,
    ) -> Option<T> {
        text.parse()
            .map_err(|error: T::Err| {
                self.report(Finding::error(Place { file, span }, error.to_string()));
            })
            .ok()
    }
}

/// No table can be given.
#[derive(Debug)]
pub(super) enum Never {}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("expected a fraction such as 0.1 or \"1/10\", found a table"))
    }
}

fn keys_max(given: Option<NonZeroU32>) -> usize {
    given.and_then(|keys| usize::try_from(keys.get()).ok()).unwrap_or(KEYS_MAX_DEFAULT)
}

/// How many in which time; the time may be a unit alone.
fn rate(text: &str) -> Option<(u32, Duration)> {
    let (messages, per) = text.split_once('/')?;
    let messages: u32 = messages.trim().parse().ok().filter(|messages| *messages > 0)?;
    let per = per.trim();
    let bare = per.starts_with(|character: char| !character.is_ascii_digit());
    let per = if bare { format!("1{per}") } else { per.to_owned() };
    let per: HumanDuration = per.parse().ok()?;
    (!per.get().is_zero()).then(|| (messages, per.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, expected) in [
            ("100/s", Some((100, 1_000))),
            ("20/m", Some((20, 60_000))),
            ("5 / h", Some((5, 3_600_000))),
            ("1/d", Some((1, 86_400_000))),
            ("100/10s", Some((100, 10_000))),
            ("0/s", None),
            ("100", None),
            ("100/", None),
            ("100/0s", None),
            ("1.5/s", None),
            ("-1/s", None),
        ] {
            let expected = expected.map(|(many, ms)| (many, Duration::from_millis(ms)));
            assert_eq!(rate(text), expected, "{text}");
        }
    }
}
