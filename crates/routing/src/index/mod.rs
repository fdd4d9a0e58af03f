//! The match index: a trie over the levels of patterns.

mod map;
mod node;
#[cfg(test)]
mod tests;

use std::{fmt, hash::Hash};

use smallvec::SmallVec;

use self::node::Node;
use crate::{LEVELS_MAX, Level, Pattern};

/// Finds the values of all patterns that match an address. Used for the rules of a gateway and for
/// the subscriptions of a listener; entries come and go at any time.
///
/// An entry is named by its pattern and a key of the caller's, such as a rule's number or a
/// session's name. The names of captures play no part: `a/{x}` and `a/+` are one pattern here.
///
/// # Cost
/// - A match takes one step for each prefix of a stored pattern that matches a prefix of the
///   address, and one for each entry visited. Patterns that share a prefix share its step, and no
///   step is taken twice. So the work at depth *d* is at most the smaller of 2 to the power of *d*
///   and the number of distinct stored prefixes of that length: without wildcards, one step for
///   each level; and whoever wants to make *n* steps out of chains of `+` must first store
///   patterns with *n* distinct prefixes. Levels beyond [`LEVELS_MAX`] cost nothing.
/// - A step is a lookup by hash, or among a few entries by comparison. Patterns with text around a
///   capture add a lookup for each pair of lengths of such texts at that place.
/// - Inserting and removing take one step for each level of the pattern, however many entries one
///   pattern has. Memory goes back when entries go.
/// - Matching allocates nothing while the address has at most 16 levels, at most 16 steps wait, and
///   no pattern has text both before and behind a capture.
///
/// # Example
/// ```
/// use transload_routing::{Index, Pattern};
///
/// let mut index = Index::new();
/// index.insert(&Pattern::parse("devices/+/telemetry").unwrap(), "all", 1);
/// index.insert(&Pattern::parse("devices/d7/#").unwrap(), "one", 2);
///
/// let mut found = Vec::new();
/// index.matches("devices/d7/telemetry", |key, value| found.push((*key, *value)));
/// found.sort();
/// assert_eq!(found, [("all", 1), ("one", 2)]);
/// ```
#[derive(Clone)]
pub struct Index<K, V = ()> {
    root: Node<K, V>,
    len: usize,
}

impl<K, V> Index<K, V> {
    /// An index without entries.
    pub fn new() -> Self {
        Self { root: Node::default(), len: 0 }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Visits every entry whose pattern matches the address, each once, in no particular order. A
    /// key that was inserted with several patterns is visited for each that matches.
    pub fn matches<'index>(&'index self, address: &str, visit: impl FnMut(&'index K, &'index V)) {
        if self.len > 0 {
            self.walk(address, visit);
        }
    }

    /// Does the work of [`Self::matches`] and returns how many steps it took.
    fn walk<'index>(
        &'index self,
        address: &str,
        mut visit: impl FnMut(&'index K, &'index V),
    ) -> usize {
        let mut steps = 0;
        // MQTT 5.0, section 4.7.2: a wildcard at the first level does not match `$…`.
        let dollar = address.starts_with('$');
        let mut levels = SmallVec::new();
        split(address, &mut levels);
        let mut waiting: SmallVec<[(&'index Node<K, V>, usize); 16]> = SmallVec::new();
        let mut joined = String::new();
        waiting.push((&self.root, 0));
        while let Some((node, depth)) = waiting.pop() {
            steps += 1;
            let wildcards = depth > 0 || !dollar;
            if wildcards {
                node.rest.iter().for_each(|(key, value)| visit(key, value));
            }
            match levels.get(depth) {
                Some(level) => node.step(level, wildcards, &mut joined, |child| {
                    waiting.push((child, depth + 1));
                }),
                None => node.here.iter().for_each(|(key, value)| visit(key, value)),
            }
        }
        steps
    }
}

/// The levels of an address, as far as they count. They are short, so that looking at each byte costs
/// less than beginning a search for each slash.
fn split<'address>(address: &'address str, levels: &mut SmallVec<[&'address str; 16]>) {
    let mut start = 0;
    for (place, byte) in address.bytes().enumerate() {
        if byte == b'/' {
            levels.extend(address.get(start..place));
            start = place + 1;
            if levels.len() > LEVELS_MAX {
                return;
            }
        }
    }
    levels.extend(address.get(start..));
}

impl<K: Eq + Hash, V> Index<K, V> {
    /// Adds an entry. One of the same pattern and key is replaced, and its value returned.
    pub fn insert(&mut self, pattern: &Pattern, key: K, value: V) -> Option<V> {
        let mut node = &mut self.root;
        let mut rest = false;
        for level in pattern.levels() {
            if matches!(level, Level::Rest { .. }) {
                rest = true;
            } else {
                node = node.child_or_new(level);
            }
        }
        let entries = if rest { &mut node.rest } else { &mut node.here };
        let replaced = entries.insert(key, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// The value of an entry.
    pub fn get(&self, pattern: &Pattern, key: &K) -> Option<&V> {
        let mut node = &self.root;
        for level in pattern.levels() {
            if matches!(level, Level::Rest { .. }) {
                return node.rest.get(key);
            }
            node = node.child(level)?;
        }
        node.here.get(key)
    }

    /// The value of an entry, to be changed in place.
    pub fn get_mut(&mut self, pattern: &Pattern, key: &K) -> Option<&mut V> {
        let mut node = &mut self.root;
        for level in pattern.levels() {
            if matches!(level, Level::Rest { .. }) {
                return node.rest.get_mut(key);
            }
            node = node.child_mut(level)?;
        }
        node.here.get_mut(key)
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, pattern: &Pattern, key: &K) -> Option<V> {
        let removed = self.root.remove(pattern.levels(), key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for Index<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("len", &self.len).finish_non_exhaustive()
    }
}
