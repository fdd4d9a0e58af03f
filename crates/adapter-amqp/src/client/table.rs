//! Header tables on the wire (AMQP 0-9-1, section 4.2.5.5, with the types as RabbitMQ knows them).

use amq_protocol::types::{AMQPType, AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use bytes::{Buf as _, BufMut as _, BytesMut};

use super::properties::put_text;

/// How deep values may be nested, so that neither side can exhaust the other's stack.
pub(crate) const DEPTH_MAX: usize = 32;

/// Reads a table, as RabbitMQ writes it; `None` if that cannot be. What is nested too deeply is read
/// as an empty list, which is still nested too deeply: whoever sends messages must not be able to
/// exhaust our stack.
pub(crate) fn read_table(bytes: &mut &[u8]) -> Option<FieldTable> {
    table(bytes, DEPTH_MAX)
}

fn table(bytes: &mut &[u8], depth: usize) -> Option<FieldTable> {
    let mut inner = counted(bytes)?;
    let mut table = FieldTable::default();
    while !inner.is_empty() {
        let length = inner.try_get_u8().ok()?.into();
        let name = String::from_utf8_lossy(inner.split_off(..length)?).into_owned();
        table.insert(ShortString::try_new(name).ok()?, read_value(&mut inner, depth)?);
    }
    Some(table)
}

fn list(bytes: &mut &[u8], depth: usize) -> Option<FieldArray> {
    let mut inner = counted(bytes)?;
    let mut list = FieldArray::default();
    while !inner.is_empty() {
        list.push(read_value(&mut inner, depth)?);
    }
    Some(list)
}

fn read_value(bytes: &mut &[u8], depth: usize) -> Option<AMQPValue> {
    let kind = AMQPType::from_id(bytes.try_get_u8().ok()?.into())?;
    Some(match (kind, depth.checked_sub(1)) {
        (AMQPType::Boolean, _) => AMQPValue::Boolean(bytes.try_get_u8().ok()? != 0),
        (AMQPType::ShortShortInt, _) => AMQPValue::ShortShortInt(bytes.try_get_i8().ok()?),
        (AMQPType::ShortShortUInt, _) => AMQPValue::ShortShortUInt(bytes.try_get_u8().ok()?),
        (AMQPType::ShortInt, _) => AMQPValue::ShortInt(bytes.try_get_i16().ok()?),
        (AMQPType::ShortUInt, _) => AMQPValue::ShortUInt(bytes.try_get_u16().ok()?),
        (AMQPType::LongInt, _) => AMQPValue::LongInt(bytes.try_get_i32().ok()?),
        (AMQPType::LongUInt, _) => AMQPValue::LongUInt(bytes.try_get_u32().ok()?),
        (AMQPType::LongLongInt | AMQPType::LongLongUInt, _) => {
            AMQPValue::LongLongInt(bytes.try_get_i64().ok()?)
        }
        (AMQPType::Float, _) => AMQPValue::Float(bytes.try_get_f32().ok()?),
        (AMQPType::Double, _) => AMQPValue::Double(bytes.try_get_f64().ok()?),
        (AMQPType::DecimalValue, _) => AMQPValue::DecimalValue(DecimalValue {
            scale: bytes.try_get_u8().ok()?,
            value: bytes.try_get_u32().ok()?,
        }),
        (AMQPType::Timestamp, _) => AMQPValue::Timestamp(bytes.try_get_u64().ok()?),
        (AMQPType::ShortString | AMQPType::LongString, _) => {
            AMQPValue::LongString(counted(bytes)?.into())
        }
        (AMQPType::ByteArray, _) => AMQPValue::ByteArray(counted(bytes)?.into()),
        (AMQPType::FieldArray | AMQPType::FieldTable, None) => {
            counted(bytes)?;
            AMQPValue::FieldArray(FieldArray::default())
        }
        (AMQPType::FieldArray, Some(deeper)) => AMQPValue::FieldArray(list(bytes, deeper)?),
        (AMQPType::FieldTable, Some(deeper)) => AMQPValue::FieldTable(table(bytes, deeper)?),
        (AMQPType::Void, _) => AMQPValue::Void,
    })
}

/// Bytes with their length in front.
fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    bytes.split_off(..length)
}

/// Writes a table (AMQP 0-9-1, section 4.2.5.5, with the types as RabbitMQ knows them).
pub(crate) fn put_table(into: &mut BytesMut, table: &FieldTable) {
    put_counted(into, |into| {
        for (name, value) in table {
            put_text(into, name.as_str());
            put_value(into, value);
        }
    });
}

fn put_value(into: &mut BytesMut, value: &AMQPValue) {
    into.put_u8(u8::try_from(value.get_type().get_id()).unwrap_or(b'V'));
    match value {
        AMQPValue::Void => {}
        AMQPValue::Boolean(truth) => into.put_u8((*truth).into()),
        AMQPValue::ShortShortInt(number) => into.put_i8(*number),
        AMQPValue::ShortShortUInt(number) => into.put_u8(*number),
        AMQPValue::ShortInt(number) => into.put_i16(*number),
        AMQPValue::ShortUInt(number) => into.put_u16(*number),
        AMQPValue::LongInt(number) => into.put_i32(*number),
        AMQPValue::LongUInt(number) => into.put_u32(*number),
        AMQPValue::LongLongInt(number) => into.put_i64(*number),
        AMQPValue::Float(number) => into.put_f32(*number),
        AMQPValue::Double(number) => into.put_f64(*number),
        AMQPValue::DecimalValue(decimal) => {
            into.put_u8(decimal.scale);
            into.put_u32(decimal.value);
        }
        AMQPValue::Timestamp(seconds) => into.put_u64(*seconds),
        AMQPValue::ShortString(text) => put_text(into, text.as_str()),
        AMQPValue::LongString(bytes) => put_bytes(into, bytes.as_bytes()),
        AMQPValue::ByteArray(bytes) => put_bytes(into, bytes.as_slice()),
        AMQPValue::FieldArray(list) => put_counted(into, |into| {
            for item in list.as_slice() {
                put_value(into, item);
            }
        }),
        AMQPValue::FieldTable(table) => put_table(into, table),
    }
}

fn put_bytes(into: &mut BytesMut, bytes: &[u8]) {
    put_counted(into, |into| into.extend_from_slice(bytes));
}

/// Writes something with its length in bytes in front, which is known once it is written.
pub(super) fn put_counted(into: &mut BytesMut, put: impl FnOnce(&mut BytesMut)) {
    into.put_u32(0);
    let at = into.len();
    put(into);
    let bytes = u32::try_from(into.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = into.get_mut(at - 4..at) {
        place.copy_from_slice(&bytes.to_be_bytes());
    }
}

/// How many bytes a table takes on the wire (AMQP 0-9-1, section 4.2.5.5).
pub(crate) fn table_len(table: &FieldTable) -> usize {
    4 + table
        .into_iter()
        .map(|(name, value)| 1 + name.as_str().len() + value_len(value))
        .sum::<usize>()
}

fn value_len(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(bytes) => 4 + bytes.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(list) => 4 + list.as_slice().iter().map(value_len).sum::<usize>(),
        AMQPValue::FieldTable(table) => table_len(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_as_the_library_writes_it_and_read_back() {
        let decimal = AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 12345 });
        let values = [
            AMQPValue::Void,
            AMQPValue::Boolean(true),
            AMQPValue::ShortShortInt(-1),
            AMQPValue::ShortShortUInt(255),
            AMQPValue::ShortInt(-2),
            AMQPValue::ShortUInt(65535),
            AMQPValue::LongInt(-3),
            AMQPValue::LongUInt(u32::MAX),
            AMQPValue::LongLongInt(i64::MIN),
            AMQPValue::Float(0.5),
            AMQPValue::Double(-0.5),
            decimal,
            AMQPValue::Timestamp(1 << 40),
            AMQPValue::LongString("long".into()),
            AMQPValue::ByteArray(vec![1, 2, 3].into()),
        ];
        let mut table = FieldTable::default();
        for (place, value) in values.iter().enumerate() {
            table.insert(format!("k{place}").into(), value.clone());
        }
        table.insert("list".into(), AMQPValue::FieldArray(values.to_vec().into()));
        table.insert("map".into(), AMQPValue::FieldTable(table.clone()));
        let written = amq_protocol::types::generation::gen_field_table(&table)(Vec::new().into());
        let (expected, _) = written.unwrap().into_inner();
        let mut bytes = BytesMut::new();
        put_table(&mut bytes, &table);
        assert_eq!(bytes, expected);
        assert_eq!(bytes.len(), table_len(&table));
        assert_eq!(read_table(&mut &bytes[..]), Some(table));
        for length in 0..bytes.len() {
            assert_eq!(read_table(&mut &bytes[..length]), None, "{length}");
        }
    }
}
