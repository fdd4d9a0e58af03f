//! The latest messages that came in, so that somebody can ask where one of them went.
//!
//! Invariants:
//! - They are in memory only, bounded in bytes; the oldest make room.
//! - They are copies, so that none keeps a larger buffer of its source alive, one behind the other
//!   in one piece of memory, so that keeping one allocates nothing.
//! - In one second no more come in than there is room for: more would push each other out before
//!   anybody could ask, and cost as much as finding their routes.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use transload_envelope::{Envelope, codec};

use crate::sync::lock;

/// The latest messages.
#[derive(Debug)]
pub(crate) struct Recent {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The messages in their binary form, the oldest first.
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    /// Memory in which the next one is encoded.
    encoded: Vec<u8>,
    /// When the present second began.
    second: Option<Instant>,
    /// How many bytes were kept since.
    second_bytes: usize,
}

impl Recent {
    /// Keeps up to this many bytes; none turns it off.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Keeps a message, unless this second has brought too many.
    pub(crate) fn keep(&self, envelope: &Envelope) {
        // One that would push out all others is of no use.
        if self.is_on() && envelope.size() <= self.bytes_max / 4 {
            self.keep_at(envelope, Instant::now());
        }
    }

    fn keep_at(&self, envelope: &Envelope, now: Instant) {
        const SECOND: Duration = Duration::from_secs(1);
        let mut kept = lock(&self.kept);
        let Kept { bytes, lengths, encoded, second, second_bytes } = &mut *kept;
        if second.is_none_or(|begin| now.duration_since(begin) >= SECOND) {
            (*second, *second_bytes) = (Some(now), 0);
        }
        if *second_bytes >= self.bytes_max {
            return;
        }
        encoded.clear();
        codec::encode(envelope, encoded);
        while bytes.len() + encoded.len() > self.bytes_max
            && let Some(oldest) = lengths.pop_front()
        {
            bytes.drain(..oldest);
        }
        bytes.extend(&*encoded);
        lengths.push_back(encoded.len());
        *second_bytes += encoded.len();
    }

    /// The latest message of this id.
    pub(crate) fn find(&self, id: &str) -> Option<Envelope> {
        // A copy, so that no dispatcher waits while they are looked through.
        let (mut bytes, lengths) = {
            let kept = lock(&self.kept);
            let (first, second) = kept.bytes.as_slices();
            (Bytes::from([first, second].concat()), kept.lengths.clone())
        };
        let messages: Vec<_> = lengths.into_iter().map(|length| bytes.split_to(length)).collect();
        let decoded = messages.iter().rev().filter_map(|encoded| codec::decode(encoded).ok());
        decoded.into_iter().find(|envelope| envelope.id.as_str() == id)
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{MessageId, Origin};

    use super::*;

    fn message(id: &str, payload: usize) -> Envelope {
        Envelope::new(Origin::new("a", "fake", "x"), vec![b'x'; payload])
            .with_id(MessageId::from_source(id))
    }

    #[test]
    fn the_latest_are_kept_within_the_bound() {
        let recent = Recent::new(4_000);
        let begin = Instant::now();
        for number in 0..100 {
            recent.keep_at(&message(&number.to_string(), 100), begin + Duration::from_secs(number));
        }
        assert_eq!(recent.find("99"), Some(message("99", 100)));
        assert_eq!(recent.find("50"), None);
        assert!(lock(&recent.kept).bytes.len() <= 4_000);
        recent.keep(&message("large", 5_000));
        assert_eq!(recent.find("large"), None);
        assert!(recent.find("99").is_some());
        recent.keep_at(&message("99", 1), begin + Duration::from_secs(100));
        assert_eq!(recent.find("99"), Some(message("99", 1)), "of two with one id, the later one");
    }

    #[test]
    fn one_second_brings_no_more_than_there_is_room_for() {
        let recent = Recent::new(4_000);
        let begin = Instant::now();
        for number in 0..100 {
            recent.keep_at(&message(&number.to_string(), 100), begin);
        }
        assert!(recent.find("20").is_some());
        assert_eq!(recent.find("99"), None);
        recent.keep_at(&message("100", 100), begin + Duration::from_secs(1));
        assert!(recent.find("100").is_some());
    }

    #[test]
    fn without_a_bound_nothing_is_kept() {
        let recent = Recent::new(0);
        recent.keep(&message("m", 0));
        assert_eq!(recent.find("m"), None);
    }
}
