use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

/// Up to how many entries are found by comparing.
const FEW_MAX: usize = 8;

/// A map that is small while it has few entries, and hashes when it has many.
///
/// Most nodes of a trie have a child or two, and a few have a hundred thousand.
///
/// The hash is a fast one with a seed of its own for every map: nobody outside sees a hash, and how
/// many entries strangers can make has a bound where they make them.
#[derive(Clone)]
pub(super) enum Map<K, V> {
    Few(SmallVec<[(K, V); 1]>),
    #[expect(clippy::box_collection, reason = "keeps the nodes small, of which few have many")]
    Many(Box<HashMap<K, V, RandomState>>),
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<K, V> Map<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(map) => map.is_empty(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(map) => (None, Some(map)),
        };
        let few = few.into_iter().flatten().map(|(key, value)| (key, value));
        few.chain(many.into_iter().flat_map(|map| map.iter()))
    }
}

impl<K: Eq + Hash, V> Map<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        match self {
            Self::Few(list) => {
                list.iter().find(|(known, _)| known.borrow() == key).map(|(_, value)| value)
            }
            Self::Many(map) => map.get(key),
        }
    }

    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        match self {
            Self::Few(list) => {
                list.iter_mut().find(|(known, _)| (*known).borrow() == key).map(|(_, value)| value)
            }
            Self::Many(map) => map.get_mut(key),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(std::mem::replace(old, value));
        }
        match self {
            Self::Few(list) if list.len() < FEW_MAX => list.push((key, value)),
            Self::Few(list) => {
                let mut map: HashMap<K, V, RandomState> =
                    std::mem::take(list).into_iter().collect();
                map.insert(key, value);
                *self = Self::Many(Box::new(map));
            }
            Self::Many(map) => {
                map.insert(key, value);
            }
        }
        None
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        match self {
            Self::Few(list) => {
                let place = list.iter().position(|(known, _)| known.borrow() == key)?;
                let (_, value) = list.swap_remove(place);
                if list.is_empty() {
                    list.shrink_to_fit();
                }
                Some(value)
            }
            Self::Many(map) => {
                let value = map.remove(key)?;
                // Walking a map takes time in its capacity, so that must follow its size.
                if map.len() <= FEW_MAX / 2 {
                    *self = Self::Few(std::mem::take(&mut **map).into_iter().collect());
                } else if map.len() < map.capacity() / 4 {
                    map.shrink_to(map.len() * 2);
                }
                Some(value)
            }
        }
    }
}
