//! The records of the log.
//!
//! ```text
//! record   length u32    of the whole record
//!          crc u32       CRC-32 of the segment's salt, the length and what follows
//!          kind u8
//!          sequence u64  one more than the record before, across segments
//!          body
//!
//! kind     body (forms as in transload_envelope::codec)
//! 1 batch    1 if everything before was synced before this was written, otherwise 0
//! 2 append   position varint: 0 for the record's own sequence; in a copy, the first record's
//!            stored-at zigzag ms, list of (queue varint, arguments bytes), envelope
//! 3 done     queue varint, runs of positions
//! 4 failed   queue varint, attempts varint, runs of positions
//! 5 created  queue varint, name bytes
//! 6 removed  queue varint
//! 7 put      table bytes, key bytes, value bytes
//! 8 deleted  table bytes, key bytes
//! ```
//!
//! Fixed numbers are little-endian. The salt is random per segment, so that bytes of a payload, or
//! of a file that lay in the same place before, are no records.

use bytes::Bytes;
use transload_envelope::{
    Timestamp,
    codec::{self, DecodeError, Reader, put_bytes, put_varint, put_zigzag},
};

use super::runs::Runs;

/// Length of what precedes the body.
pub(crate) const HEAD: usize = 17;
/// Length of a batch record.
pub(crate) const BATCH: usize = HEAD + 1;
/// The longest record that is written or read.
pub(crate) const RECORD_BYTES_MAX: usize = 256 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Batch = 1,
    Append = 2,
    Done = 3,
    Failed = 4,
    Created = 5,
    Removed = 6,
    Put = 7,
    Deleted = 8,
}

impl Kind {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        use Kind::{Append, Batch, Created, Deleted, Done, Failed, Put, Removed};
        [Batch, Append, Done, Failed, Created, Removed, Put, Deleted]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A record that was found whole.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    /// Length of the whole record.
    pub(crate) length: usize,
    pub(crate) body: Bytes,
}

/// Writes a record whose sequence and checksum are filled in by [`seal`].
pub(crate) fn write(kind: Kind, into: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend([0; HEAD]);
    body(into);
    let length = into.len().saturating_sub(start);
    let Some(head) = into.get_mut(start..).and_then(|record| record.first_chunk_mut::<HEAD>())
    else {
        return;
    };
    let [l0, l1, l2, l3, _, _, _, _, as_kind, ..] = head;
    // Whoever writes a record has seen to it that it is not longer than it may be.
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [*l0, *l1, *l2, *l3] = length;
    *as_kind = kind as u8;
}

/// The length that the record at the front of `bytes` says it has.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()
}

/// Fills sequence and checksum into a whole record.
pub(crate) fn seal(record: &mut [u8], sequence: u64, salt: u64) {
    let Some((length, rest)) = record.split_first_chunk_mut::<4>() else { return };
    let Some((crc, rest)) = rest.split_first_chunk_mut::<4>() else { return };
    if let Some((_, behind)) = rest.split_first_mut()
        && let Some(place) = behind.first_chunk_mut::<8>()
    {
        *place = sequence.to_le_bytes();
    }
    *crc = checksum(*length, rest, salt).to_le_bytes();
}

fn checksum(length: [u8; 4], rest: &[u8], salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&length);
    hasher.update(rest);
    hasher.finalize()
}

/// Reads the record at the front of `bytes`, or says why there is none.
pub(crate) fn parse(bytes: &Bytes, salt: u64) -> Result<Record, &'static str> {
    const SHORT: &str = "a record is cut off";
    let length = length(bytes).ok_or(SHORT)?;
    if !(HEAD..=RECORD_BYTES_MAX).contains(&length) {
        return Err("the length of a record makes no sense");
    }
    let whole = bytes.get(..length).ok_or(SHORT)?;
    let (as_length, rest) = whole.split_first_chunk::<4>().ok_or(SHORT)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    if u32::from_le_bytes(*crc) != checksum(*as_length, rest, salt) {
        return Err("the checksum of a record is wrong");
    }
    let (kind, rest) = rest.split_first().ok_or(SHORT)?;
    let sequence = u64::from_le_bytes(*rest.first_chunk().ok_or(SHORT)?);
    let kind = Kind::of(*kind).ok_or("a record is of a kind that is not known")?;
    Ok(Record { kind, sequence, length, body: bytes.slice(HEAD..length) })
}

/// Writes a batch record.
pub(crate) fn write_batch(synced_before: bool, into: &mut Vec<u8>) {
    write(Kind::Batch, into, |into| into.push(u8::from(synced_before)));
}

/// Whether there is anywhere in `bytes` a batch record that was written after everything before it
/// had been synced: then what is in front of it is damaged and not torn.
pub(crate) fn proves_sync(bytes: &Bytes, salt: u64) -> bool {
    let first = u32::try_from(BATCH).unwrap_or(u32::MAX).to_le_bytes();
    bytes.windows(BATCH).enumerate().any(|(at, window)| {
        window.starts_with(&first)
            && parse(&bytes.slice(at..at.saturating_add(BATCH)), salt)
                .is_ok_and(|record| record.kind == Kind::Batch && record.body.first() == Some(&1))
    })
}

/// The body of an append, without its envelope being read.
#[derive(Clone, Debug)]
pub(crate) struct AppendBody {
    pub(crate) position: u64,
    pub(crate) stored_at: Timestamp,
    /// The queues and their encoded arguments.
    pub(crate) targets: Vec<(u32, Bytes)>,
    pub(crate) envelope: Bytes,
}

impl AppendBody {
    pub(crate) fn decode(record: &Record) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&record.body);
        let position = match reader.varint()? {
            0 => record.sequence,
            first => first,
        };
        let stored_at = Timestamp { unix_ms: reader.zigzag()? };
        let count = reader.varint()?;
        let mut targets = Vec::new();
        for _ in 0..count {
            targets.push((queue(&mut reader)?, reader.bytes()?));
        }
        Ok(Self { position, stored_at, targets, envelope: reader.rest().clone() })
    }

    /// Writes the record of a copy.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        write(Kind::Append, into, |into| {
            put_varint(self.position, into);
            put_zigzag(self.stored_at.unix_ms, into);
            put_varint(u64::try_from(self.targets.len()).unwrap_or(u64::MAX), into);
            for (queue, arguments) in &self.targets {
                put_varint(u64::from(*queue), into);
                put_bytes(arguments, into);
            }
            into.extend_from_slice(&self.envelope);
        });
    }

    /// The message for one queue.
    pub(crate) fn outgoing(&self, queue: u32) -> Result<transload_envelope::Outgoing, DecodeError> {
        let arguments = self.targets.iter().find(|(id, _)| *id == queue);
        let (_, arguments) = arguments.ok_or(DecodeError::Unknown("the queue of a message"))?;
        Ok(transload_envelope::Outgoing {
            envelope: codec::decode(&self.envelope)?,
            arguments: codec::decode_arguments(arguments)?,
        })
    }
}

/// Reads the number of a queue.
pub(crate) fn queue(reader: &mut Reader) -> Result<u32, DecodeError> {
    u32::try_from(reader.varint()?).map_err(|_| DecodeError::Unknown("the number of a queue"))
}

/// Writes a `done`, or with attempts a `failed` record.
pub(crate) fn write_runs(queue: u32, attempts: Option<u32>, runs: &Runs, into: &mut Vec<u8>) {
    let kind = if attempts.is_some() { Kind::Failed } else { Kind::Done };
    write(kind, into, |into| {
        put_varint(u64::from(queue), into);
        if let Some(attempts) = attempts {
            put_varint(u64::from(attempts), into);
        }
        runs.encode(into);
    });
}
