//! Header values in both forms.
//!
//! What the broker's types cannot tell apart comes back in one form: integers of any width as one
//! integer, text in its short and its long form as text. Three values change their form, for want
//! of a type that both RabbitMQ and its clients know: decimals arrive as text, unsigned integers above
//! the signed range leave as text, and timestamps leave as whole seconds.

use amq_protocol::types::AMQPType;
use bytes::{Buf as _, BufMut as _, BytesMut};
use transload_envelope::{Text, Value};

use super::{check_short, seconds, timestamp};
use crate::client::{counted, put_counted, put_text};

/// How deep values may be nested, so that neither side can exhaust the other's stack.
pub(super) const DEPTH_MAX: usize = 32;

/// Why a value is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no value of AMQP.
    Broken,
    /// It is nested too deeply.
    TooDeep,
}

/// Reads entries to their end. They are sorted by their names, of which the last of each counts.
pub(super) fn read_entries(
    mut bytes: &[u8],
    mut read: impl FnMut(&str, &mut &[u8]) -> Result<Value, Fault>,
) -> Result<Vec<(Text, Value)>, Fault> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.get_u8().into();
        let name = bytes.split_off(..length).ok_or(Fault::Broken)?;
        let name = String::from_utf8_lossy(name);
        let value = read(&name, &mut bytes)?;
        entries.push((Text::from(&*name), value));
    }
    if !entries.is_sorted_by(|(name, _), (next, _)| name < next) {
        entries.sort_by(|(name, _), (next, _)| name.cmp(next));
        // Of two that are equal, what is kept is the earlier one, which is to be the last.
        entries.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
    }
    Ok(entries)
}

/// Reads a value that may be nested so deep.
pub(super) fn read_value(bytes: &mut &[u8], depth: usize) -> Result<Value, Fault> {
    let deeper = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
    let kind = number(bytes.try_get_u8())?;
    let kind = AMQPType::from_id(kind.into()).ok_or(Fault::Broken)?;
    Ok(match kind {
        AMQPType::Void => Value::Null,
        AMQPType::Boolean => Value::Bool(number(bytes.try_get_u8())? != 0),
        AMQPType::ShortShortInt => Value::Int(number(bytes.try_get_i8())?.into()),
        AMQPType::ShortShortUInt => Value::Int(number(bytes.try_get_u8())?.into()),
        AMQPType::ShortInt => Value::Int(number(bytes.try_get_i16())?.into()),
        AMQPType::ShortUInt => Value::Int(number(bytes.try_get_u16())?.into()),
        AMQPType::LongInt => Value::Int(number(bytes.try_get_i32())?.into()),
        AMQPType::LongUInt => Value::Int(number(bytes.try_get_u32())?.into()),
        AMQPType::LongLongInt | AMQPType::LongLongUInt => Value::Int(number(bytes.try_get_i64())?),
        AMQPType::Float => Value::Float(number(bytes.try_get_f32())?.into()),
        AMQPType::Double => Value::Float(number(bytes.try_get_f64())?),
        AMQPType::DecimalValue => {
            let scale = number(bytes.try_get_u8())?;
            Value::Text(decimal_text(scale, number(bytes.try_get_u32())?).into())
        }
        AMQPType::Timestamp => Value::Timestamp(timestamp(number(bytes.try_get_u64())?)),
        AMQPType::ShortString | AMQPType::LongString => text_or_bytes(part(bytes)?),
        AMQPType::ByteArray => Value::Bytes(part(bytes)?.to_vec().into()),
        AMQPType::FieldArray => {
            let mut inner = part(bytes)?;
            let mut list = Vec::new();
            while !inner.is_empty() {
                list.push(read_value(&mut inner, deeper)?);
            }
            Value::List(list)
        }
        AMQPType::FieldTable => {
            Value::Map(read_entries(part(bytes)?, |_, bytes| read_value(bytes, deeper))?)
        }
    })
}

fn number<T, E>(read: Result<T, E>) -> Result<T, Fault> {
    read.map_err(|_| Fault::Broken)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    counted(bytes).ok_or(Fault::Broken)
}

/// AMQP's "long string" holds any bytes; most hold text.
fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.into()),
        Err(_) => Value::Bytes(bytes.to_vec().into()),
    }
}

fn decimal_text(scale: u8, value: u32) -> String {
    let scale = usize::from(scale);
    let digits = format!("{value:0width$}", width = scale + 1);
    match digits.split_at_checked(digits.len() - scale) {
        Some((whole, fraction)) if scale > 0 => format!("{whole}.{fraction}"),
        _ => digits,
    }
}

/// Writes a value that may be nested so deep; the error says what is wrong with it.
pub(super) fn put_value(into: &mut BytesMut, value: &Value, depth: usize) -> Result<(), Text> {
    let deeper = depth
        .checked_sub(1)
        .ok_or_else(|| Text::from(format!("is nested deeper than {DEPTH_MAX} levels")))?;
    match value {
        Value::Null => into.put_u8(b'V'),
        Value::Bool(truth) => put_bool(into, *truth),
        Value::Int(number) => put_int(into, *number),
        Value::UInt(number) => put_long_string(into, number.to_string().as_bytes()),
        Value::Float(number) => {
            into.put_u8(b'd');
            into.put_f64(*number);
        }
        Value::Text(text) => put_long_string(into, text.as_bytes()),
        Value::Bytes(bytes) => {
            into.put_u8(b'x');
            put_counted(into, |into| into.extend_from_slice(bytes));
        }
        Value::Timestamp(time) => {
            into.put_u8(b'T');
            into.put_u64(seconds(*time));
        }
        Value::List(list) => {
            into.put_u8(b'A');
            put_counted(into, |into| {
                list.iter().try_for_each(|item| put_value(into, item, deeper))
            })?;
        }
        Value::Map(map) => {
            into.put_u8(b'F');
            put_counted(into, |into| put_map(into, map, deeper))?;
        }
    }
    Ok(())
}

/// Names are unique in a table: the last of each counts.
fn put_map(into: &mut BytesMut, map: &[(Text, Value)], depth: usize) -> Result<(), Text> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| name);
    for same in entries.chunk_by(|(name, _), (next, _)| name == next) {
        let Some((name, value)) = same.last() else { continue };
        check_short(name, "has a key that")?;
        put_text(into, name);
        put_value(into, value, depth)?;
    }
    Ok(())
}

pub(super) fn put_bool(into: &mut BytesMut, truth: bool) {
    into.put_u8(b't');
    into.put_u8(truth.into());
}

pub(super) fn put_int(into: &mut BytesMut, number: i64) {
    // RabbitMQ takes it for signed, whatever the specification has.
    into.put_u8(b'l');
    into.put_i64(number);
}

pub(super) fn put_long_string(into: &mut BytesMut, bytes: &[u8]) {
    into.put_u8(b'S');
    put_counted(into, |into| into.extend_from_slice(bytes));
}
