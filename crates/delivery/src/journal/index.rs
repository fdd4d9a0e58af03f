//! Where the waiting messages of one queue are in the log.
//!
//! All but the first and the last entries are packed in blocks, in which an entry takes seven to
//! ten bytes: the log is written in order, so most of its fields are what the entry before says.
//!
//! ```text
//! packed entry   each against the entry before, the first one against zeros
//!                position varint, difference
//!                segment zigzag, difference
//!                offset zigzag, difference from the end of the record before
//!                length varint
//!                size zigzag, difference from the length
//!                stored-at zigzag, difference in ms
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use bytes::Bytes;
use transload_envelope::{
    Timestamp,
    codec::{DecodeError, Reader, put_varint, put_zigzag},
};

use super::runs::Runs;
use crate::backlog::{Entry, Waiting};

/// How many entries a block has at most.
const BLOCK: usize = 128;

/// Where a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// A message in a queue on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: u64,
    pub(crate) location: Location,
    /// By `Envelope::size`; what is beyond 4 GiB counts as 4 GiB.
    pub(crate) size: u32,
    pub(crate) stored_at: Timestamp,
}

impl Entry for Place {
    fn position(&self) -> u64 {
        self.position
    }

    fn size(&self) -> u64 {
        u64::from(self.size)
    }

    fn stored_at(&self) -> Timestamp {
        self.stored_at
    }
}

/// Entries in a packed form.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    first: u64,
    last: u64,
    packed: Bytes,
}

impl Block {
    /// Packs entries; there has to be one at least.
    pub(crate) fn pack(entries: &[Place]) -> Option<Self> {
        let mut packed = Vec::with_capacity(entries.len().saturating_mul(10));
        let mut before = Place::default();
        for entry in entries {
            put(entry, &before, &mut packed);
            before = *entry;
        }
        // A box has no spare room, which a vector would keep.
        let packed = Bytes::from(packed.into_boxed_slice());
        Some(Self { first: entries.first()?.position, last: before.position, packed })
    }

    /// Reads packed entries, as they are found in a checkpoint.
    pub(crate) fn read(packed: Bytes) -> Result<(Self, Vec<Place>), DecodeError> {
        let entries = unpack(&packed)?;
        let ends = entries.first().zip(entries.last());
        let (first, last) = ends.ok_or(DecodeError::Unknown("an empty block"))?;
        Ok((Self { first: first.position, last: last.position, packed }, entries))
    }

    pub(crate) fn packed(&self) -> &Bytes {
        &self.packed
    }

    fn entries(&self) -> Vec<Place> {
        // It was packed or checked by this process, so it can be read.
        unpack(&self.packed).unwrap_or_default()
    }
}

fn put(entry: &Place, before: &Place, into: &mut Vec<u8>) {
    let (at, was) = (entry.location, before.location);
    let end = i64::from(was.offset).saturating_add(i64::from(was.length));
    put_varint(entry.position.wrapping_sub(before.position), into);
    put_zigzag(i64::from(at.segment).wrapping_sub(i64::from(was.segment)), into);
    put_zigzag(i64::from(at.offset).wrapping_sub(end), into);
    put_varint(u64::from(at.length), into);
    put_zigzag(i64::from(entry.size).wrapping_sub(i64::from(at.length)), into);
    put_zigzag(entry.stored_at.unix_ms.wrapping_sub(before.stored_at.unix_ms), into);
}

fn unpack(packed: &Bytes) -> Result<Vec<Place>, DecodeError> {
    let mut reader = Reader::new(packed);
    let mut entries = Vec::with_capacity(BLOCK);
    let mut before = Place::default();
    while !reader.rest().is_empty() {
        before = take(&mut reader, &before)?;
        entries.push(before);
    }
    Ok(entries)
}

fn take(reader: &mut Reader, before: &Place) -> Result<Place, DecodeError> {
    let narrow = |number: i64| u32::try_from(number).map_err(|_| DecodeError::Unknown("an entry"));
    let was = before.location;
    let end = i64::from(was.offset).saturating_add(i64::from(was.length));
    let position = before.position.wrapping_add(reader.varint()?);
    let segment = narrow(i64::from(was.segment).wrapping_add(reader.zigzag()?))?;
    let offset = narrow(end.wrapping_add(reader.zigzag()?))?;
    let length = narrow(reader.varint()?.cast_signed())?;
    let size = narrow(i64::from(length).wrapping_add(reader.zigzag()?))?;
    let unix_ms = before.stored_at.unix_ms.wrapping_add(reader.zigzag()?);
    let location = Location { segment, offset, length };
    Ok(Place { position, location, size, stored_at: Timestamp { unix_ms } })
}

/// The entries of a queue in the order of their positions.
///
/// Invariant: `head` is empty only if everything is.
#[derive(Debug, Default)]
pub(crate) struct Index {
    head: VecDeque<Place>,
    blocks: VecDeque<Block>,
    tail: Vec<Place>,
}

impl Waiting for Index {
    type Entry = Place;

    fn push_back(&mut self, entry: Place) {
        if self.blocks.is_empty() && self.tail.is_empty() && self.head.len() < BLOCK {
            self.head.push_back(entry);
            return;
        }
        self.tail.push(entry);
        if self.tail.len() >= BLOCK {
            self.blocks.extend(Block::pack(&self.tail));
            self.tail.clear();
        }
    }

    fn pop_front(&mut self) -> Option<Place> {
        let first = self.head.pop_front();
        self.fill_head();
        first
    }

    fn front(&self) -> Option<&Place> {
        self.head.front()
    }
}

impl Index {
    fn fill_head(&mut self) {
        if self.head.is_empty() {
            self.head = match self.blocks.pop_front() {
                Some(block) => block.entries().into(),
                None => mem::take(&mut self.tail).into(),
            };
        }
    }

    /// Adds a block behind everything, as it is found in a checkpoint.
    pub(crate) fn push_block(&mut self, block: Block) {
        self.blocks.push_back(block);
        self.fill_head();
    }

    /// The entries as blocks, for a checkpoint.
    pub(crate) fn to_blocks(&self) -> Vec<Block> {
        let head: Vec<_> = self.head.iter().copied().collect();
        let mut blocks: Vec<_> = head.chunks(BLOCK).filter_map(Block::pack).collect();
        blocks.extend(self.blocks.iter().cloned());
        blocks.extend(self.tail.chunks(BLOCK).filter_map(Block::pack));
        blocks
    }

    /// The last position.
    pub(crate) fn last(&self) -> Option<u64> {
        let in_blocks = || self.blocks.back().map(|block| block.last);
        let in_head = || self.head.back().map(|entry| entry.position);
        self.tail.last().map(|entry| entry.position).or_else(in_blocks).or_else(in_head)
    }

    /// Up to `limit` entries behind a position.
    pub(crate) fn after(&self, position: Option<u64>, limit: usize) -> Vec<Place> {
        let behind = |entry: &Place| position.is_none_or(|position| entry.position > position);
        let blocks = self.blocks.iter();
        let blocks = blocks.skip_while(|block| position.is_some_and(|after| block.last <= after));
        let head = self.head.iter().copied();
        let all = head.chain(blocks.flat_map(Block::entries)).chain(self.tail.iter().copied());
        all.filter(behind).take(limit).collect()
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> {
        let blocks = self.blocks.iter().flat_map(Block::entries);
        self.head.iter().copied().chain(blocks).chain(self.tail.iter().copied())
    }

    /// Calls `change` with all entries, in pieces, among which there may be some from `first` to
    /// `last`; what it leaves in the piece is kept.
    fn rewrite(&mut self, first: u64, last: u64, mut change: impl FnMut(&mut Vec<Place>)) {
        let mut head = Vec::from(mem::take(&mut self.head));
        if head.first().is_some_and(|entry| entry.position <= last) {
            change(&mut head);
        }
        self.head = head.into();
        let from = self.blocks.partition_point(|block| block.last < first);
        let to = self.blocks.partition_point(|block| block.first <= last);
        let mut emptied = false;
        for block in self.blocks.range_mut(from..to.max(from)) {
            let mut entries = block.entries();
            change(&mut entries);
            if let Some(changed) = Block::pack(&entries) {
                *block = changed;
            } else {
                emptied = true;
                block.packed = Bytes::new();
            }
        }
        if emptied {
            self.blocks.retain(|block| !block.packed.is_empty());
        }
        if self.tail.last().is_some_and(|entry| entry.position >= first) {
            change(&mut self.tail);
        }
        self.fill_head();
    }

    /// Takes the entries out that are in sorted runs.
    pub(crate) fn remove(&mut self, runs: &Runs) -> Vec<Place> {
        let mut gone = Vec::new();
        if let Some((first, last)) = runs.bounds() {
            self.rewrite(first, last, |entries| {
                gone.extend(entries.extract_if(.., |entry| runs.contains(entry.position)));
            });
        }
        gone
    }

    /// Gives entries new locations, and returns the positions found and where they were.
    pub(crate) fn relocate(&mut self, moved: &BTreeMap<u64, Location>) -> Vec<(u64, Location)> {
        let mut found = Vec::new();
        let ends = moved.keys().next().zip(moved.keys().next_back());
        if let Some((&first, &last)) = ends {
            self.rewrite(first, last, |entries| {
                for entry in entries {
                    if let Some(to) = moved.get(&entry.position) {
                        found.push((entry.position, mem::replace(&mut entry.location, *to)));
                    }
                }
            });
        }
        found
    }

    /// Adds entries anywhere. Slow, for recovery only.
    pub(crate) fn insert(&mut self, entries: Vec<Place>) {
        let mut all: BTreeMap<_, _> = self.iter().map(|entry| (entry.position, entry)).collect();
        all.extend(entries.into_iter().map(|entry| (entry.position, entry)));
        *self = Self::default();
        for entry in all.into_values() {
            self.push_back(entry);
        }
    }

    /// Which of these positions are there, with their locations.
    pub(crate) fn find(&self, wanted: &Runs) -> Vec<(u64, Location)> {
        let Some((first, last)) = wanted.bounds() else { return Vec::new() };
        let from = self.blocks.partition_point(|block| block.last < first);
        let to = self.blocks.partition_point(|block| block.first <= last);
        let blocks = self.blocks.range(from..to.max(from)).flat_map(Block::entries);
        let all = self.head.iter().copied().chain(blocks).chain(self.tail.iter().copied());
        all.filter(|entry| wanted.contains(entry.position))
            .map(|entry| (entry.position, entry.location))
            .collect()
    }

    /// A measure of the memory that the index takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| block.packed.len()).sum();
        self.head.capacity().saturating_mul(size_of::<Place>())
            + self.tail.capacity().saturating_mul(size_of::<Place>())
            + self.blocks.capacity().saturating_mul(size_of::<Block>())
            + blocks
    }
}
