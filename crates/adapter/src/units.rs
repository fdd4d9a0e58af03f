//! Durations and sizes as people write them in `adapters.toml`.
//!
//! Error messages never repeat the text at fault, since it may have come from the environment; the
//! loader shows the place in the file.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `"250ms"`, `"5s"`, `"2m"`, `"1h30m"`, `"1d"`.
///
/// Units are `ms`, `s`, `m` (minutes), `h` and `d` (24 hours); several are written from the longest
/// to the shortest. A bare number is refused, since nobody could tell its unit.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

/// Names of the units of time with their milliseconds, from the longest to the shortest.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl HumanDuration {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A duration of whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A duration of whole minutes.
    pub const fn from_mins(minutes: u64) -> Self {
        Self(Duration::from_secs(minutes.saturating_mul(60)))
    }

    /// A duration of whole hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours.saturating_mul(3_600)))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut total_ms: u64 = 0;
        let mut rest = text;
        let mut longest = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = leading_number(rest).ok_or(UnitError::Duration)?;
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let factor = TIME_UNITS
                .iter()
                .find_map(|(name, factor)| (*name == unit).then_some(*factor))
                .filter(|factor| *factor < longest)
                .ok_or(UnitError::Duration)?;
            total_ms = number
                .checked_mul(factor)
                .and_then(|more| total_ms.checked_add(more))
                .ok_or(UnitError::TooLarge)?;
            longest = factor;
            rest = after;
        }
        // Only an empty text has named no unit.
        if longest == u64::MAX { Err(UnitError::Duration) } else { Ok(Self::from_millis(total_ms)) }
    }
}

impl fmt::Display for HumanDuration {
    /// Writes the form that it is read from; what is below a millisecond is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in TIME_UNITS {
            if left >= factor {
                write!(f, "{}{unit}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HumanDuration {
    /// As it is displayed; the JSON Schema shows defaults so.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED_DURATION)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<HumanDuration, E> {
                Err(E::custom(UnitError::Duration))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<HumanDuration, E> {
                Err(E::custom(UnitError::Duration))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time, such as \"250ms\", \"5s\", \"2m\", \"1h30m\" or \"1d\".",
            "pattern": "^(?=.)(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?$",
        })
    }
}

/// A number of bytes: `"64KiB"`, `"1MiB"`, `"2GB"`, or a plain integer of bytes.
///
/// `KiB`, `MiB`, `GiB` and `TiB` are powers of 1024; `kB` (or `KB`), `MB`, `GB` and `TB` powers of
/// 1000; `B` is a byte.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Names of the units of size with their bytes; of two names, the later is the one that is written.
const SIZE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Units of 1024 bytes.
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// Units of 1024 KiB.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// Units of 1024 MiB.
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a size in memory; on a 32-bit system a larger one becomes the largest
    /// that there is.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, after) = leading_number(text).ok_or(UnitError::Size)?;
        let unit = after.strip_prefix(' ').unwrap_or(after);
        let factor = SIZE_UNITS
            .iter()
            .find_map(|(name, factor)| (*name == unit).then_some(*factor))
            .ok_or(UnitError::Size)?;
        number.checked_mul(factor).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// Writes the form that it is read from, in the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        let (unit, factor) = SIZE_UNITS
            .iter()
            .copied()
            .filter(|(_, factor)| fits(*factor))
            .max_by_key(|(_, factor)| *factor)
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ByteSize {
    /// As it is displayed; the JSON Schema shows defaults so.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED_SIZE)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom(UnitError::Size))
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: \"64KiB\", \"1MiB\", \"2GB\", or a plain integer.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^\\d+ ?([KMGT]iB|[kKMGT]?B)$" },
            ],
        })
    }
}

const EXPECTED_DURATION: &str = "a duration such as \"250ms\", \"5s\", \"2m\", \"1h30m\" or \"1d\"";
const EXPECTED_SIZE: &str = "a size such as \"64KiB\", \"1MiB\" or \"2GB\", or a number of bytes";

/// Why a text is no duration or size. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("expected {EXPECTED_DURATION}")]
    Duration,
    /// Not a size.
    #[error("expected {EXPECTED_SIZE}")]
    Size,
    /// More milliseconds or bytes than can be counted.
    #[error("the value is too large")]
    TooLarge,
}

/// Splits the decimal number at the start from what follows.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, milliseconds, written) in [
            ("250ms", 250, "250ms"),
            ("5s", 5_000, "5s"),
            ("2m", 120_000, "2m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d", 86_400_000, "1d"),
            ("90s", 90_000, "1m30s"),
            ("1m5ms", 60_005, "1m5ms"),
            ("0s", 0, "0s"),
        ] {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration, HumanDuration::from_millis(milliseconds), "{text}");
            assert_eq!(duration.to_string(), written);
            assert_eq!(written.parse(), Ok(duration), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "5sec", "30m1h", "1s1s", "1h ", "é"]
        {
            assert_eq!(text.parse::<HumanDuration>(), Err(UnitError::Duration), "{text}");
        }
        for text in ["18446744073709551615d", "18446744073709551615ms1"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1_048_576, "1MiB"),
            ("1024MiB", 1 << 30, "1GiB"),
            ("2GB", 2_000_000_000, "2GB"),
            ("10kB", 10_000, "10kB"),
            ("10 KB", 10_000, "10kB"),
            ("17B", 17, "17B"),
            ("0B", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.get(), bytes, "{text}");
            assert_eq!(size.to_string(), written);
            assert_eq!(written.parse(), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "1", "KiB", "1Kib", "1 Mi", "-1B", "1.5MiB", "1MiB ", "1  MiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(UnitError::Size), "{text}");
        }
        assert_eq!("17000000000TiB".parse::<ByteSize>(), Err(UnitError::TooLarge));
    }

    #[derive(Debug, Deserialize)]
    struct Settings {
        wait: Option<HumanDuration>,
        size: Option<ByteSize>,
    }

    #[test]
    fn both_are_read_from_toml() {
        let settings: Settings = toml::from_str("wait = \"5s\"\nsize = 4096").unwrap();
        assert_eq!(settings.wait, Some(HumanDuration::from_secs(5)));
        assert_eq!(settings.size, Some(ByteSize::from_kib(4)));
    }

    #[test]
    fn faults_say_what_is_expected_and_not_what_was_there() {
        for (text, expected) in [
            ("wait = 5", EXPECTED_DURATION),
            ("wait = \"5sec\"", EXPECTED_DURATION),
            ("wait = true", EXPECTED_DURATION),
            ("size = -1", EXPECTED_SIZE),
            ("size = \"5sec\"", EXPECTED_SIZE),
            ("size = 1.5", EXPECTED_SIZE),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err();
            assert!(error.message().contains(expected), "{text}: {}", error.message());
            assert!(!error.message().contains("5sec"), "{}", error.message());
        }
    }
}
