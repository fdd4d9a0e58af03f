use std::fmt;

/// A part of all messages, which is chosen by their ids: a message that comes again is in it or out of
/// it as before, in this process and in any other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    fraction: f64,
    /// Hashes up to this one are in the sample.
    hash_max: u64,
}

impl Sample {
    /// A fraction above 0 and up to 1.
    pub fn new(fraction: f64) -> Option<Self> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the fraction is between 0 and 1, and a cast saturates"
        )]
        let hash_max = (fraction * u64::MAX as f64) as u64;
        Some(Self { fraction, hash_max })
    }

    /// Whether the message of this id is in the sample.
    pub(super) fn takes(self, id: &str) -> bool {
        hash(id.as_bytes()) <= self.hash_max
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fraction)
    }
}

/// FNV-1a, and the finalizer of `MurmurHash3`, since ids differ in their last bytes and FNV leaves its
/// high bits to the first ones. It must stay as it is: it decides on messages that come again.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
