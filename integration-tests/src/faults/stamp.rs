use std::fmt;

/// Which message it is: its producer, and its place in what that producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's number.
    pub lane: u16,
    /// The message's number, from 0.
    pub number: u32,
}

const SHORTEST_BYTES: usize = 40;
const SPREAD_BYTES: usize = 400;

impl Stamp {
    /// The payload: it says which message it is, and every byte of it follows from that, so that a
    /// damaged one is noticed.
    pub fn payload(self) -> Vec<u8> {
        let mixed = (self.number as usize).wrapping_mul(2_654_435_761) ^ usize::from(self.lane);
        let length = SHORTEST_BYTES + mixed % SPREAD_BYTES;
        let mut payload = format!("{}/{}/", self.lane, self.number).into_bytes();
        let filler = (b'a'..=b'z').cycle().skip(mixed % 26);
        payload.extend(filler.take(length.saturating_sub(payload.len())));
        payload
    }

    /// Reads a payload; `None` if it is not one that [`Stamp::payload`] makes.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let mut parts = payload.splitn(3, |byte| *byte == b'/');
        let lane = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let number = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stamp = Self { lane, number };
        (stamp.payload() == payload).then_some(stamp)
    }
}

/// The message's id, where a protocol carries one.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault-{}-{}", self.lane, self.number)
    }
}
