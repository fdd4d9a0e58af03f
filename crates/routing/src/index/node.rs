use std::hash::Hash;

use super::map::Map;
use crate::{Affix, Level};

/// A prefix that stored patterns have in common.
///
/// A node is at most [`LEVELS_MAX`](crate::LEVELS_MAX) levels deep, so recursion over nodes, as in
/// dropping them, is bounded by that and not by any address.
#[derive(Clone)]
pub(super) struct Node<K, V> {
    /// Entries of the pattern that ends here.
    pub(super) here: Map<K, V>,
    /// Entries of the pattern that goes on with `#`.
    pub(super) rest: Map<K, V>,
    literals: Children<K, V>,
    any: Option<Box<Node<K, V>>>,
    affixed: Vec<Shape<K, V>>,
}

type Children<K, V> = Map<Box<str>, Box<Node<K, V>>>;

/// The children with text around a capture, for one pair of lengths of these texts: given the
/// lengths, the texts of a level are known, so that one lookup finds the child.
#[derive(Clone)]
struct Shape<K, V> {
    prefix_len: usize,
    suffix_len: usize,
    /// By prefix and suffix, joined.
    children: Children<K, V>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            here: Map::default(),
            rest: Map::default(),
            literals: Map::default(),
            any: None,
            affixed: Vec::new(),
        }
    }
}

impl<K, V> Node<K, V> {
    /// Visits the children that a level of an address leads to. `joined` is a buffer.
    pub(super) fn step<'node>(
        &'node self,
        level: &str,
        wildcards: bool,
        joined: &mut String,
        mut visit: impl FnMut(&'node Self),
    ) {
        if let Some(child) = self.literals.get(level) {
            visit(child);
        }
        if !wildcards {
            return;
        }
        if let Some(child) = self.any.as_deref() {
            visit(child);
        }
        for shape in &self.affixed {
            if let Some(child) = shape.child_of(level, joined) {
                visit(child);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.rest.is_empty()
            && self.literals.is_empty()
            && self.any.is_none()
            && self.affixed.is_empty()
    }

    /// The child for this level of a pattern; [`Level::Rest`] leads to none.
    pub(super) fn child(&self, level: &Level) -> Option<&Self> {
        match level {
            Level::Literal(text) => self.literals.get(text).map(|child| &**child),
            Level::Any { .. } => self.any.as_deref(),
            Level::Affixed(affix) => {
                let shape = self.affixed.iter().find(|shape| shape.is_of(affix))?;
                shape.children.get(&*affix.joined()).map(|child| &**child)
            }
            Level::Rest { .. } => None,
        }
    }

    /// As [`Self::child`].
    pub(super) fn child_mut(&mut self, level: &Level) -> Option<&mut Self> {
        match level {
            Level::Literal(text) => self.literals.get_mut(text).map(|child| &mut **child),
            Level::Any { .. } => self.any.as_deref_mut(),
            Level::Affixed(affix) => {
                let shape = self.affixed.iter_mut().find(|shape| shape.is_of(affix))?;
                shape.children.get_mut(&*affix.joined()).map(|child| &mut **child)
            }
            Level::Rest { .. } => None,
        }
    }

    /// As [`Self::child_mut`], with a new child where there is none; [`Level::Rest`] stays here.
    pub(super) fn child_or_new(&mut self, level: &Level) -> &mut Self {
        match level {
            Level::Literal(text) => self.literals.get_or_new(text),
            Level::Any { .. } => self.any.get_or_insert_default(),
            Level::Affixed(affix) => self.shape_or_new(affix).children.get_or_new(&affix.joined()),
            Level::Rest { .. } => self,
        }
    }

    fn shape_or_new(&mut self, affix: &Affix) -> &mut Shape<K, V> {
        let place = self.affixed.iter().position(|shape| shape.is_of(affix));
        let place = place.unwrap_or(self.affixed.len());
        if place == self.affixed.len() {
            self.affixed.push(Shape::new(affix));
        }
        #[expect(clippy::indexing_slicing, reason = "was found or pushed just now")]
        &mut self.affixed[place]
    }

    /// Removes an entry below this node, and the nodes that have nothing left.
    pub(super) fn remove(&mut self, levels: &[Level], key: &K) -> Option<V>
    where
        K: Eq + Hash,
    {
        let Some((level, below)) = levels.split_first() else {
            return self.here.remove(key);
        };
        if matches!(level, Level::Rest { .. }) {
            return self.rest.remove(key);
        }
        let child = self.child_mut(level)?;
        let removed = child.remove(below, key)?;
        if child.is_empty() {
            self.remove_child(level);
        }
        Some(removed)
    }

    fn remove_child(&mut self, level: &Level) {
        match level {
            Level::Literal(text) => {
                self.literals.remove(text);
            }
            Level::Any { .. } => self.any = None,
            Level::Affixed(affix) => {
                for shape in self.affixed.iter_mut().filter(|shape| shape.is_of(affix)) {
                    shape.children.remove(&*affix.joined());
                }
                self.affixed.retain(|shape| !shape.children.is_empty());
            }
            Level::Rest { .. } => {}
        }
    }
}

impl<K, V> Children<K, V> {
    fn get_or_new(&mut self, text: &str) -> &mut Node<K, V> {
        if self.get(text).is_none() {
            self.insert(text.into(), Box::default());
        }
        #[expect(clippy::expect_used, reason = "was found or inserted just now")]
        self.get_mut(text).expect("the child is there")
    }
}

impl<K, V> Shape<K, V> {
    fn new(affix: &Affix) -> Self {
        Self {
            prefix_len: affix.prefix.len(),
            suffix_len: affix.suffix.len(),
            children: Map::default(),
        }
    }

    fn is_of(&self, affix: &Affix) -> bool {
        self.prefix_len == affix.prefix.len() && self.suffix_len == affix.suffix.len()
    }

    fn child_of(&self, level: &str, joined: &mut String) -> Option<&Node<K, V>> {
        let behind = level.len().checked_sub(self.suffix_len)?;
        if behind < self.prefix_len {
            return None;
        }
        // A length that ends inside a character cannot be that of a text which the level has.
        let (prefix, suffix) = (level.get(..self.prefix_len)?, level.get(behind..)?);
        let key = if suffix.is_empty() {
            prefix
        } else if prefix.is_empty() {
            suffix
        } else {
            joined.clear();
            joined.push_str(prefix);
            joined.push_str(suffix);
            joined
        };
        self.children.get(key).map(|child| &**child)
    }
}

impl Affix {
    fn joined(&self) -> String {
        [&*self.prefix, &*self.suffix].concat()
    }
}
