//! What may stand in a data directory, for fuzzing: nothing here may panic, whatever the bytes are.
//!
//! Headers and checksums are right: they would keep a fuzzer from everything behind them, and
//! what is not right in them is the matter of the tests.

use std::{fs, io, path::Path};

use bytes::Bytes;
use transload_envelope::codec::Reader;

use super::{
    JournalSettings, OnDamage, checkpoint,
    disk::RealDisk,
    record::{self, HEAD, Kind},
    recovery::recover,
    runs::Runs,
    segment::{self, Header},
};

/// How many messages one record may say to have failed. It is believed, and each takes memory.
const FAILED_MAX: usize = 4_096;

/// Opens a directory whose only segment, and whose checkpoint, are made of the bytes. What the
/// directory held before is removed.
///
/// # Errors
///
/// If the files cannot be written.
pub fn open(bytes: &[u8], directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    let Some((flags, mut rest)) = bytes.split_first() else { return Ok(()) };
    let mut next_sequence = 1;
    if flags & 1 != 0 {
        let body;
        (body, rest) = piece(rest);
        fs::write(checkpoint::path(directory), saved(body))?;
        next_sequence = checkpoint::load(directory).ok().flatten().map_or(1, |it| it.next_sequence);
    }
    fs::write(segment::path(directory, 1), log(rest, next_sequence))?;
    let on_damage = if flags & 2 == 0 { OnDamage::Stop } else { OnDamage::SetAside };
    let settings =
        JournalSettings { verify: flags & 4 != 0, on_damage, ..JournalSettings::default() };
    // What is damaged is told, and that is well.
    let _ = recover(directory, settings, &RealDisk);
    Ok(())
}

/// Two bytes say how long the piece is that follows.
fn piece(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return (bytes, &[]) };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    rest.split_at(length)
}

fn saved(body: &[u8]) -> Vec<u8> {
    let mut file = checkpoint::MAGIC.to_vec();
    file.extend(checkpoint::VERSION.to_le_bytes());
    file.extend(body);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file
}

/// A segment of records, each from a byte for its kind and a piece for its body. A kind that is none
/// ends it, and the rest stands there as it is.
fn log(mut bytes: &[u8], mut sequence: u64) -> Vec<u8> {
    let header = Header { number: 1, first_sequence: sequence, salt: 0 };
    let mut file = header.encode();
    while let Some((kind, rest)) = bytes.split_first() {
        let (body, rest) = piece(rest);
        let Some(kind) = Kind::of(*kind) else { break };
        if kind != Kind::Failed || are_few(body) {
            let start = file.len();
            record::write(kind, &mut file, |file| file.extend(body));
            record::seal(file.get_mut(start..).unwrap_or_default(), sequence, header.salt);
            sequence = sequence.saturating_add(1);
        }
        bytes = rest;
    }
    file.extend(bytes.iter().take(HEAD));
    file
}

fn are_few(failed: &[u8]) -> bool {
    let mut reader = Reader::new(&Bytes::copy_from_slice(failed));
    let numbers = reader.varint().and_then(|_| reader.varint());
    let runs = numbers.and_then(|_| Runs::decode(&mut reader));
    runs.is_ok_and(|runs| runs.positions().nth(FAILED_MAX).is_none())
}
