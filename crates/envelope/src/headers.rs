use std::sync::Arc;

use crate::{Text, Value};

/// One header: a name and a typed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// As the source wrote it; letter case is kept.
    pub name: Text,
    /// Typed where the source's protocol has types, otherwise text.
    pub value: Value,
}

/// The user headers of a message, in order and with repeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

impl Headers {
    /// The headers in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.as_deref().map_or(&[][..], Vec::as_slice).iter()
    }

    /// The number of headers, repeats included.
    pub fn len(&self) -> usize {
        self.0.as_deref().map_or(0, Vec::len)
    }

    /// Whether there is no header at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value under exactly this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|header| *header.name == *name).map(|header| &header.value)
    }

    /// The first value under this name, in any letter case.
    pub fn get_ignoring_case(&self, name: &str) -> Option<&Value> {
        self.iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| &header.value)
    }

    /// Adds a header behind the others; a repeat stays a repeat.
    pub fn push(&mut self, name: impl Into<Text>, value: impl Into<Value>) {
        self.list_mut().push(Header { name: name.into(), value: value.into() });
    }

    /// Replaces every header of this name by one, at the place of the first.
    pub fn set(&mut self, name: impl Into<Text>, value: impl Into<Value>) {
        let name = name.into();
        let list = self.list_mut();
        let place = list.iter().position(|header| header.name == name).unwrap_or(list.len());
        list.retain(|header| header.name != name);
        list.insert(place, Header { name, value: value.into() });
    }

    /// Removes every header of this name and returns the first of their values.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let first = self.get(name)?.clone();
        self.list_mut().retain(|header| *header.name != *name);
        Some(first)
    }

    /// A measure of the memory and disk that the headers take, in bytes.
    pub fn size(&self) -> usize {
        self.iter().map(|header| header.name.len() + header.value.size() + 4).sum()
    }

    fn list_mut(&mut self) -> &mut Vec<Header> {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        let list: Vec<_> = headers.into_iter().collect();
        Self((!list.is_empty()).then(|| Arc::new(list)))
    }
}
