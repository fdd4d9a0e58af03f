//! A JSON text as one flat list of nodes.
//!
//! Invariants:
//! - A text is read to its end or not at all, and what is no JSON for `serde_json::Value` is none
//!   here: the same parser calls both.
//! - Nodes hold places in the text and no copies of it, except for strings with escapes. The list
//!   keeps its memory from message to message.
//! - Where a map has a key twice, the last one counts, as in `serde_json::Value`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One value, or one key in front of its value.
///
/// Lists and maps are followed by what is in them, up to the node at `end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// Stands in the text as it is.
    Text {
        start: u32,
        len: u32,
    },
    /// Has escapes in the text, and stands without them in the tape.
    Decoded {
        start: u32,
        len: u32,
    },
    List {
        end: u32,
    },
    Map {
        end: u32,
    },
}

/// The nodes of one JSON text. The first is the value as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tape {
    nodes: Vec<Node>,
    decoded: String,
}

impl Tape {
    /// Reads a text and forgets the one before; false when it is no JSON.
    pub(crate) fn read(&mut self, payload: &[u8]) -> bool {
        self.nodes.clear();
        self.decoded.clear();
        // Places have 32 bits, and a node is never shorter than a byte.
        if u32::try_from(payload.len()).is_err() {
            return false;
        }
        let Ok(text) = str::from_utf8(payload) else { return false };
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = Builder { tape: self, text }.deserialize(&mut reader);
        let whole = read.is_ok() && reader.end().is_ok();
        if !whole {
            self.nodes.clear();
        }
        whole
    }

    pub(crate) fn node(&self, at: u32) -> Node {
        self.nodes.get(at as usize).copied().unwrap_or(Node::Null)
    }

    /// The place behind a value.
    fn behind(&self, at: u32) -> u32 {
        match self.node(at) {
            Node::List { end } | Node::Map { end } => end,
            Node::Null
            | Node::Bool(_)
            | Node::Int(_)
            | Node::UInt(_)
            | Node::Float(_)
            | Node::Text { .. }
            | Node::Decoded { .. } => at + 1,
        }
    }

    /// The text of a node that is one.
    pub(crate) fn text<'a>(&'a self, node: Node, payload: &'a [u8]) -> Option<&'a [u8]> {
        let (within, start, len) = match node {
            Node::Text { start, len } => (payload, start, len),
            Node::Decoded { start, len } => (self.decoded.as_bytes(), start, len),
            Node::Null
            | Node::Bool(_)
            | Node::Int(_)
            | Node::UInt(_)
            | Node::Float(_)
            | Node::List { .. }
            | Node::Map { .. } => return None,
        };
        within.get(start as usize..start as usize + len as usize)
    }

    /// The value under a key of the map at this place.
    pub(crate) fn member(&self, map: u32, key: &str, payload: &[u8]) -> Option<u32> {
        let Node::Map { end } = self.node(map) else { return None };
        let mut found = None;
        let mut at = map + 1;
        while at < end {
            if self.text(self.node(at), payload) == Some(key.as_bytes()) {
                found = Some(at + 1);
            }
            at = self.behind(at + 1);
        }
        found
    }

    /// An element of the list at this place.
    pub(crate) fn element(&self, list: u32, number: usize) -> Option<u32> {
        self.elements(list).nth(number)
    }

    /// The elements of the list at this place.
    pub(crate) fn elements(&self, list: u32) -> impl Iterator<Item = u32> + '_ {
        let end = if let Node::List { end } = self.node(list) { end } else { 0 };
        let next = move |at: u32| (at < end).then_some(at);
        std::iter::successors(next(list + 1), move |at| next(self.behind(*at)))
    }

    /// The places of the keys of the map at this place; each value is behind its key.
    pub(crate) fn keys(&self, map: u32) -> impl Iterator<Item = u32> + '_ {
        let end = if let Node::Map { end } = self.node(map) { end } else { 0 };
        let next = move |at: u32| (at < end).then_some(at);
        std::iter::successors(next(map + 1), move |key| next(self.behind(*key + 1)))
    }
}

/// Appends what a parser finds to a tape.
struct Builder<'t, 'de> {
    tape: &'t mut Tape,
    text: &'de str,
}

impl Builder<'_, '_> {
    #[expect(clippy::unnecessary_wraps, reason = "it is the last word of most visits")]
    fn push<E: Error>(&mut self, node: Node) -> Result<(), E> {
        self.tape.nodes.push(node);
        Ok(())
    }

    /// The place of the next node. A text of 32 bits has no more nodes than that.
    fn here<E: Error>(&self) -> Result<u32, E> {
        u32::try_from(self.tape.nodes.len()).map_err(|_| E::custom("too many values"))
    }

    fn close(&mut self, start: u32, node: Node) {
        if let Some(open) = self.tape.nodes.get_mut(start as usize) {
            *open = node;
        }
    }
}

impl<'de> DeserializeSeed<'de> for Builder<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.push(Node::Null)
    }

    fn visit_bool<E: Error>(mut self, truth: bool) -> Result<(), E> {
        self.push(Node::Bool(truth))
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<(), E> {
        self.push(Node::Int(number))
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.push(i64::try_from(number).map_or(Node::UInt(number), Node::Int))
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        self.push(Node::Float(number))
    }

    fn visit_borrowed_str<E: Error>(mut self, text: &'de str) -> Result<(), E> {
        let start = (text.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        let place = u32::try_from(start).ok().zip(u32::try_from(text.len()).ok());
        let (start, len) = place.ok_or_else(|| E::custom("the text is elsewhere"))?;
        self.push(Node::Text { start, len })
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        let place = u32::try_from(self.tape.decoded.len()).ok().zip(u32::try_from(text.len()).ok());
        let (start, len) = place.ok_or_else(|| E::custom("the text is too long"))?;
        self.tape.decoded.push_str(text);
        self.push(Node::Decoded { start, len })
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let start = self.here()?;
        self.push(Node::List { end: 0 })?;
        while list.next_element_seed(Builder { tape: self.tape, text: self.text })?.is_some() {}
        let end = self.here()?;
        self.close(start, Node::List { end });
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let start = self.here()?;
        self.push(Node::Map { end: 0 })?;
        while map.next_key_seed(Builder { tape: self.tape, text: self.text })?.is_some() {
            map.next_value_seed(Builder { tape: self.tape, text: self.text })?;
        }
        let end = self.here()?;
        self.close(start, Node::Map { end });
        Ok(())
    }
}
