//! The payloads: JSON of a given length, with everything that the record needs at fixed places.
//!
//! ```text
//! {"lane":00000,"number":0000000,"due":0000000000000000000,"pad":"…"}
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use crate::faults::Stamp;

const LANE: std::ops::Range<usize> = 8..13;
const NUMBER: std::ops::Range<usize> = 23..30;
const DUE: std::ops::Range<usize> = 37..56;
const HEAD: &[u8] = b"{\"lane\":00000,\"number\":0000000,\"due\":0000000000000000000,\"p\":\"";
const TAIL: &[u8] = b"\"}";

/// The shortest payload.
pub(super) const SHORTEST_BYTES: usize = HEAD.len() + TAIL.len();

/// A payload that is filled in anew for each message.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<u8>);

impl Template {
    pub(super) fn new(bytes: usize) -> Self {
        let mut text = HEAD.to_vec();
        let filler = (b'a'..=b'z').cycle();
        text.extend(filler.take(bytes.saturating_sub(SHORTEST_BYTES)));
        text.extend_from_slice(TAIL);
        Self(text)
    }

    pub(super) fn fill(&mut self, stamp: Stamp, due_ns: u64) -> &[u8] {
        write(&mut self.0, LANE, u64::from(stamp.lane));
        write(&mut self.0, NUMBER, u64::from(stamp.number));
        write(&mut self.0, DUE, due_ns);
        &self.0
    }
}

/// A number with leading zeros is no JSON, so they are written as blanks.
fn write(text: &mut [u8], place: std::ops::Range<usize>, mut value: u64) {
    let Some(digits) = text.get_mut(place) else { return };
    let last = digits.len().saturating_sub(1);
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = if value == 0 && at < last {
            b' '
        } else {
            b'0' + u8::try_from(value % 10).unwrap_or(0)
        };
        value /= 10;
    }
}

/// Which message a payload is, and when it was due.
pub(super) fn read(payload: &[u8]) -> Option<(Stamp, u64)> {
    let lane = number(payload.get(LANE)?)?;
    let place = number(payload.get(NUMBER)?)?;
    let due_ns = number(payload.get(DUE)?)?;
    let stamp = Stamp { lane: u16::try_from(lane).ok()?, number: u32::try_from(place).ok()? };
    Some((stamp, due_ns))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().filter(|digit| **digit != b' ').try_fold(0_u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_json() {
        for bytes in [0, 100, 256, 4096] {
            let mut template = Template::new(bytes);
            let (stamp, due) = (Stamp { lane: 63, number: 1_234_567 }, now_ns());
            let payload = template.fill(stamp, due).to_vec();
            assert_eq!(payload.len(), bytes.max(SHORTEST_BYTES));
            assert_eq!(read(&payload), Some((stamp, due)));
            let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(json["number"], 1_234_567);
        }
        assert_eq!(read(b"{}"), None);
    }
}
