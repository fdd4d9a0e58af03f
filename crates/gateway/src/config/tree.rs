//! Looking things up in a parsed TOML document.
//!
//! The span of a table that has a header is the header, and that of a dotted key's table the key:
//! the span of what a table holds is not inside it.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// A table with the place where it begins.
pub(super) type Table<'t> = Spanned<DeTable<'t>>;
/// A value with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Element(usize),
}

/// The way to the smallest entry of the table, or of what is in it, whose key or value is where
/// the span is.
pub(super) fn entry_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    let mut search = Search { span, way: Vec::new(), best: None };
    search.table(table);
    search.best.map(|(_, way)| way)
}

struct Search<'a> {
    span: &'a Range<usize>,
    way: Vec<Step>,
    best: Option<(usize, Vec<Step>)>,
}

impl Search<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.way.push(Step::Key(key.get_ref().to_string()));
            self.consider(&key.span());
            self.value(value);
            self.way.pop();
        }
    }

    fn value(&mut self, value: &Value<'_>) {
        self.consider(&value.span());
        match value.get_ref() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => {
                for (number, element) in array.iter().enumerate() {
                    self.way.push(Step::Element(number));
                    self.value(element);
                    self.way.pop();
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn consider(&mut self, candidate: &Range<usize>) {
        let covers = candidate.start <= self.span.start && self.span.end <= candidate.end;
        let smaller = self.best.as_ref().is_none_or(|(size, _)| candidate.len() <= *size);
        if covers && smaller && !candidate.is_empty() {
            self.best = Some((candidate.len(), self.way.clone()));
        }
    }
}

/// Takes the entry or element at the end of the way out of the table.
pub(super) fn remove(table: &mut DeTable<'_>, way: &[Step]) -> bool {
    match way {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => {
            table.get_mut(key.as_str()).is_some_and(|value| remove_in(value.get_mut(), rest))
        }
        [] | [Step::Element(_), ..] => false,
    }
}

fn remove_in(value: &mut DeValue<'_>, way: &[Step]) -> bool {
    match (value, way) {
        (DeValue::Table(table), way) => remove(table, way),
        (DeValue::Array(array), [Step::Element(number)]) => {
            let all = std::mem::replace(array, DeArray::new());
            let before = all.len();
            let rest = all.into_iter().enumerate().filter(|(place, _)| place != number);
            *array = rest.map(|(_, element)| element).collect::<DeArray<'_>>();
            array.len() < before
        }
        (DeValue::Array(array), [Step::Element(number), rest @ ..]) => {
            array.get_mut(*number).is_some_and(|element| remove_in(element.get_mut(), rest))
        }
        _ => false,
    }
}

/// The place of a setting below the table by its path `consume.0.queue`; where the path leads
/// nowhere, the nearest place on the way; the table's own place for an empty path.
pub(super) fn place(table: &Table<'_>, path: &str) -> Range<usize> {
    let mut nearest = table.span();
    let mut parts = path.split('.').filter(|part| !part.is_empty());
    let Some(first) = parts.next() else { return nearest };
    let Some(mut value) = table.get_ref().get(first) else { return nearest };
    nearest = value.span();
    for part in parts {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(array) => part.parse().ok().and_then(|number: usize| array.get(number)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        };
        let Some(next) = next else { return nearest };
        value = next;
        nearest = value.span();
    }
    nearest
}

/// The place of a key itself.
pub(super) fn key_span(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    table.keys().find(|known| known.get_ref() == key).map(Spanned::span)
}

/// The opening bracket of an array or inline table that is not closed, and so takes in what follows.
pub(super) fn unclosed(table: &DeTable<'_>, text: &str) -> Option<Range<usize>> {
    let open = |value: &Value<'_>| {
        let span = value.span();
        let part = text.get(span.clone())?.trim_end();
        let closed = match value.get_ref() {
            // The span of an array of tables is its header, of which this is the start.
            DeValue::Array(_) => part.ends_with(']') || part == "[[" || !part.starts_with('['),
            DeValue::Table(_) => part.ends_with('}') || !part.starts_with('{'),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => true,
        };
        (!closed).then(|| span.start..span.start + 1)
    };
    let inner = |value: &Value<'_>| match value.get_ref() {
        DeValue::Table(table) => unclosed(table, text),
        DeValue::Array(list) => list.iter().find_map(|element| {
            element.get_ref().as_table().and_then(|table| unclosed(table, text))
        }),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    };
    table.values().find_map(|value| open(value).or_else(|| inner(value)))
}

/// Is called with the key that a string stands under, its place and the string.
pub(super) type StringVisitor<'v, 't> = dyn FnMut(&str, Range<usize>, &mut Cow<'t, str>) + 'v;

/// Calls `visit` for every string value, with the key that it stands under.
pub(super) fn strings<'t>(table: &mut DeTable<'t>, visit: &mut StringVisitor<'_, 't>) {
    for (key, value) in table {
        strings_of(key.get_ref(), value, visit);
    }
}

fn strings_of<'t>(key: &str, value: &mut Value<'t>, visit: &mut StringVisitor<'_, 't>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => visit(key, span, text),
        DeValue::Table(table) => strings(table, visit),
        DeValue::Array(array) => {
            for element in array.iter_mut() {
                strings_of(key, element, visit);
            }
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// The table in a value, with its place; any other value is given back.
pub(super) fn into_table(value: Value<'_>) -> Result<Table<'_>, Value<'_>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(Spanned::new(span, table)),
        other @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)) => Err(Spanned::new(span, other)),
    }
}
