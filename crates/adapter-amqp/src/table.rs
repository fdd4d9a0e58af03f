//! Header tables and the headers of a message.

mod value;

#[cfg(test)]
pub(crate) mod tests;

use amq_protocol::types::{MAX_SHORT_STRING_LENGTH, ShortString};
use bytes::BytesMut;
use transload_envelope::{Headers, Text, Timestamp, Value};

use self::value::{
    DEPTH_MAX, Fault, put_bool, put_int, put_long_string, put_value, read_entries, read_value,
};
use crate::client::{Table, put_counted, put_text};

/// The header that names the headers whose arrays are repeats, and not lists.
const REPEATS: &str = "transload-repeats";
/// About what one header takes.
const HEADER_BYTES: usize = 48;

/// AMQP counts whole seconds.
pub(crate) fn timestamp(seconds: u64) -> Timestamp {
    Timestamp { unix_ms: i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000) }
}

/// The whole seconds that AMQP can say; what is before 1970 becomes 0.
pub(crate) fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.unix_ms / 1000).unwrap_or(0)
}

/// A short string, or what is wrong with it as a sentence that begins with `subject`.
pub(crate) fn short(text: &str, subject: &str) -> Result<ShortString, Text> {
    check_short(text, subject)?;
    Ok(text.into())
}

/// The same of a text that stays one.
pub(crate) fn check_short(text: &str, subject: &str) -> Result<(), Text> {
    if text.len() > MAX_SHORT_STRING_LENGTH {
        let length = text.len();
        let max = MAX_SHORT_STRING_LENGTH;
        return Err(format!("{subject} has {length} bytes, and AMQP takes {max} at most").into());
    }
    Ok(())
}

/// The headers of a table, or why they cannot be read. An array that [`table_from_headers`] has made
/// of repeats becomes repeats again.
pub(crate) fn headers_from_table(table: &Table) -> Result<Vec<(Text, Value)>, Text> {
    let mut deep = None;
    let read = read_entries(table.entries(), |name, bytes| {
        let value = read_value(bytes, DEPTH_MAX);
        if value == Err(Fault::TooDeep) {
            deep = Some(format!("header {name} is nested deeper than {DEPTH_MAX} levels"));
        }
        value
    });
    let mut headers = read.map_err(|_| match deep {
        Some(reason) => Text::from(reason),
        None => "the headers of the message cannot be read".into(),
    })?;
    let repeats = headers.iter().position(|(name, _)| *name == REPEATS);
    match repeats.and_then(|place| names(&headers.get(place)?.1)) {
        Some(names) => {
            headers.retain(|(name, _)| *name != REPEATS);
            Ok(headers.into_iter().flat_map(|header| repeated(header, &names)).collect())
        }
        None => Ok(headers),
    }
}

/// The names of the headers whose arrays are repeats; none if this is no list of names.
fn names(value: &Value) -> Option<Vec<Text>> {
    let Value::List(list) = value else { return None };
    let mut names: Vec<_> = list.iter().filter_map(Value::as_text).cloned().collect();
    names.sort();
    (!names.is_empty()).then_some(names)
}

fn repeated(header: (Text, Value), names: &[Text]) -> Vec<(Text, Value)> {
    if let (name, Value::List(values)) = &header
        && names.binary_search(name).is_ok()
    {
        return values.iter().map(|value| (name.clone(), value.clone())).collect();
    }
    vec![header]
}

/// The value of a header that the gateway writes itself.
#[derive(Clone, Debug)]
pub(crate) enum Own<'a> {
    Truth(bool),
    Number(i64),
    /// A long string holds any bytes.
    Bytes(&'a [u8]),
}

/// One entry of a table while it is made.
#[derive(Clone, Copy, Debug)]
enum Entry<'a> {
    Own(&'a Own<'a>),
    Header(&'a Value),
}

impl Entry<'_> {
    fn put(self, into: &mut BytesMut, depth: usize) -> Result<(), Text> {
        match self {
            Self::Own(Own::Truth(truth)) => put_bool(into, *truth),
            Self::Own(Own::Number(number)) => put_int(into, *number),
            Self::Own(Own::Bytes(bytes)) => put_long_string(into, bytes),
            Self::Header(value) => put_value(into, value, depth)?,
        }
        Ok(())
    }
}

/// The header table; none if it would be empty. Names are unique in it: what the gateway writes itself
/// counts before a header of the same name, and the values of a repeated header become an array. One
/// more header names those arrays.
pub(crate) fn table_from_headers(
    headers: &Headers,
    own: &[(&'static str, Own<'_>)],
) -> Result<Option<Table>, Text> {
    let is_own = |name: &str| own.iter().any(|(own, _)| name == *own);
    let sent = headers.iter().filter(|header| !is_own(&header.name));
    let mut entries = Vec::with_capacity(headers.len() + own.len());
    entries.extend(sent.map(|header| (&*header.name, Entry::Header(&header.value))));
    entries.extend(own.iter().map(|(name, value)| (*name, Entry::Own(value))));
    if entries.is_empty() {
        return Ok(None);
    }
    // The sort is stable: repeats keep their order.
    entries.sort_by_key(|(name, _)| *name);
    let repeats = entries.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b));
    if repeats {
        entries.retain(|(name, _)| *name != REPEATS);
    }
    let mut into = BytesMut::with_capacity(HEADER_BYTES * entries.len());
    let mut names = Vec::new();
    for same in entries.chunk_by(|(name, _), (next, _)| name == next) {
        let Some((name, _)) = same.first() else { continue };
        check_short(name, "the name of a header")?;
        put_text(&mut into, name);
        put_header(&mut into, same)
            .map_err(|reason| Text::from(format!("header {name:?} {reason}")))?;
        if same.len() > 1 {
            names.push(*name);
        }
    }
    if repeats {
        put_text(&mut into, REPEATS);
        put_list(&mut into, &names, |into, name| {
            put_long_string(into, name.as_bytes());
            Ok(())
        })?;
    }
    Ok(Some(Table::new(into)))
}

/// Writes the value of a header, or an array of its values.
fn put_header(into: &mut BytesMut, same: &[(&str, Entry<'_>)]) -> Result<(), Text> {
    match same {
        [(_, entry)] => entry.put(into, DEPTH_MAX),
        repeats => put_list(into, repeats, |into, (_, entry)| entry.put(into, DEPTH_MAX)),
    }
}

fn put_list<T>(
    into: &mut BytesMut,
    list: &[T],
    mut put: impl FnMut(&mut BytesMut, &T) -> Result<(), Text>,
) -> Result<(), Text> {
    into.extend_from_slice(b"A");
    put_counted(into, |into| list.iter().try_for_each(|item| put(into, item)))
}
