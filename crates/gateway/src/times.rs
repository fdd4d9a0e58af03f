//! Points in time as people and programs write them: RFC 3339, in UTC.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use transload_envelope::Timestamp;

/// The time with its milliseconds, such as `2026-05-04T03:02:01.234Z`; what RFC 3339 cannot say is
/// said in milliseconds since 1970.
pub(crate) fn write(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.unix_ms) * 1_000_000;
    let written = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    let written = written.and_then(|time| time.format(&Rfc3339).ok());
    written.unwrap_or_else(|| format!("{} ms", time.unix_ms))
}

/// Reads what RFC 3339 allows.
pub(crate) fn read(text: &str) -> Result<Timestamp, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!("`{text}` is no time: expected one such as 2026-05-04T03:02:01Z (RFC 3339)")
    })?;
    let milliseconds = time.unix_timestamp_nanos().div_euclid(1_000_000);
    Ok(Timestamp { unix_ms: i64::try_from(milliseconds).unwrap_or(i64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, unix_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(read(text), Ok(Timestamp { unix_ms }));
            assert_eq!(write(Timestamp { unix_ms }), text);
        }
        assert_eq!(read("2023-11-14T23:13:20+01:00").unwrap().unix_ms, 1_700_000_000_000);
        assert!(read("yesterday").unwrap_err().contains("RFC 3339"));
        assert_eq!(write(Timestamp { unix_ms: i64::MAX }), format!("{} ms", i64::MAX));
    }
}
