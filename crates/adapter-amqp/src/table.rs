//! Header values in both forms.
//!
//! What the broker's types cannot tell apart comes back in one form: integers of any width as one
//! integer, text in its short and its long form as text. Three values change their form, for want
//! of a type that both RabbitMQ and lapin know: decimals arrive as text, unsigned integers above
//! the signed range leave as text, and timestamps leave as whole seconds.

use std::collections::{BTreeMap, HashSet};

use amq_protocol::types::{
    AMQPType, AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, MAX_SHORT_STRING_LENGTH,
    ShortString,
};
use bytes::{Buf as _, BufMut as _, BytesMut};
use transload_envelope::{Headers, Text, Timestamp, Value};

/// How deep header values may be nested, so that neither side can exhaust the other's stack.
pub(crate) const DEPTH_MAX: usize = 32;

/// A header value, as it came in; `None` when it is nested too deeply.
pub(crate) fn value_from_amqp(value: &AMQPValue) -> Option<Value> {
    from_amqp(value, DEPTH_MAX)
}

fn from_amqp(value: &AMQPValue, depth: usize) -> Option<Value> {
    let deeper = depth.checked_sub(1)?;
    Some(match value {
        AMQPValue::Void => Value::Null,
        AMQPValue::Boolean(truth) => Value::Bool(*truth),
        AMQPValue::ShortShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongInt(number) => Value::Int((*number).into()),
        AMQPValue::LongUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongLongInt(number) => Value::Int(*number),
        AMQPValue::Float(number) => Value::Float((*number).into()),
        AMQPValue::Double(number) => Value::Float(*number),
        AMQPValue::DecimalValue(decimal) => Value::Text(decimal_text(*decimal).into()),
        AMQPValue::ShortString(text) => Value::Text(text.as_str().into()),
        AMQPValue::LongString(bytes) => text_or_bytes(bytes.as_bytes()),
        AMQPValue::ByteArray(bytes) => Value::Bytes(bytes.as_slice().to_vec().into()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(timestamp(*seconds)),
        AMQPValue::FieldArray(list) => Value::List(
            list.as_slice().iter().map(|item| from_amqp(item, deeper)).collect::<Option<_>>()?,
        ),
        AMQPValue::FieldTable(table) => Value::Map(
            table
                .into_iter()
                .map(|(name, value)| Some((name.as_str().into(), from_amqp(value, deeper)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// AMQP's "long string" holds any bytes; most hold text.
fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.into()),
        Err(_) => Value::Bytes(bytes.to_vec().into()),
    }
}

fn decimal_text(decimal: DecimalValue) -> String {
    let scale = usize::from(decimal.scale);
    let digits = format!("{:0width$}", decimal.value, width = scale + 1);
    match digits.split_at_checked(digits.len() - scale) {
        Some((whole, fraction)) if scale > 0 => format!("{whole}.{fraction}"),
        _ => digits,
    }
}

/// AMQP counts whole seconds.
pub(crate) fn timestamp(seconds: u64) -> Timestamp {
    Timestamp { unix_ms: i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000) }
}

/// The whole seconds that AMQP can say; what is before 1970 becomes 0.
pub(crate) fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.unix_ms / 1000).unwrap_or(0)
}

/// A header value as the broker takes it; the error names what is at fault.
pub(crate) fn value_to_amqp(value: &Value) -> Result<AMQPValue, Text> {
    to_amqp(value, DEPTH_MAX)
}

fn to_amqp(value: &Value, depth: usize) -> Result<AMQPValue, Text> {
    let deeper = depth
        .checked_sub(1)
        .ok_or_else(|| Text::from(format!("is nested deeper than {DEPTH_MAX} levels")))?;
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(truth) => AMQPValue::Boolean(*truth),
        Value::Int(number) => AMQPValue::LongLongInt(*number),
        Value::UInt(number) => AMQPValue::LongString(number.to_string().into()),
        Value::Float(number) => AMQPValue::Double(*number),
        Value::Text(text) => AMQPValue::LongString(LongString::from(&**text)),
        Value::Bytes(bytes) => AMQPValue::ByteArray(bytes.as_ref().into()),
        Value::Timestamp(time) => AMQPValue::Timestamp(seconds(*time)),
        Value::List(list) => AMQPValue::FieldArray(FieldArray::from(
            list.iter().map(|item| to_amqp(item, deeper)).collect::<Result<Vec<_>, _>>()?,
        )),
        Value::Map(map) => {
            let entries = map
                .iter()
                .map(|(name, value)| Ok((short(name, "has a key that")?, to_amqp(value, deeper)?)))
                .collect::<Result<BTreeMap<_, _>, Text>>()?;
            AMQPValue::FieldTable(entries.into())
        }
    })
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

/// The header that names the headers whose arrays are repeats, and not lists.
const REPEATS: &str = "transload-repeats";

/// The headers of a table; the error names the one that is nested too deeply. An array that
/// [`table_from_headers`] has made of repeats becomes repeats again.
pub(crate) fn headers_from_table(table: &FieldTable) -> Result<Vec<(Text, Value)>, Text> {
    let repeats: HashSet<&[u8]> = match table.inner().get(REPEATS) {
        Some(AMQPValue::FieldArray(names)) => names.as_slice().iter().filter_map(bytes).collect(),
        Some(_) | None => HashSet::new(),
    };
    let mut headers = Vec::new();
    for (name, value) in table.inner() {
        if name.as_str() == REPEATS && !repeats.is_empty() {
            continue;
        }
        let value = value_from_amqp(value).ok_or_else(|| {
            Text::from(format!("header {name} is nested deeper than {DEPTH_MAX} levels"))
        })?;
        let name = Text::from(name.as_str());
        if let (true, Value::List(values)) = (repeats.contains(name.as_bytes()), &value) {
            headers.extend(values.iter().map(|value| (name.clone(), value.clone())));
        } else {
            headers.push((name, value));
        }
    }
    Ok(headers)
}

fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    if let AMQPValue::LongString(text) = value { Some(text.as_bytes()) } else { None }
}

/// The header table. Names are unique in it: the values of a repeated header become an array, at
/// the place of none, since the table has no order. One more header names those arrays.
pub(crate) fn table_from_headers(
    headers: &Headers,
) -> Result<BTreeMap<ShortString, AMQPValue>, Text> {
    let mut table: BTreeMap<ShortString, AMQPValue> = BTreeMap::new();
    let mut repeats: BTreeMap<ShortString, Vec<AMQPValue>> = BTreeMap::new();
    for header in headers {
        let name = short(&header.name, "the name of a header")?;
        let value = value_to_amqp(&header.value)
            .map_err(|reason| Text::from(format!("header {:?} {reason}", &*header.name)))?;
        if let Some(list) = repeats.get_mut(&name) {
            list.push(value);
        } else if let Some(first) = table.remove(&name) {
            repeats.insert(name, vec![first, value]);
        } else {
            table.insert(name, value);
        }
    }
    if repeats.is_empty() {
        return Ok(table);
    }
    let names = repeats.keys().map(|name| AMQPValue::LongString(name.as_str().into()));
    table.insert(REPEATS.into(), AMQPValue::FieldArray(names.collect::<Vec<_>>().into()));
    let arrays = repeats.into_iter().map(|(name, list)| (name, AMQPValue::FieldArray(list.into())));
    table.extend(arrays);
    Ok(table)
}

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
    let at = begin_long(into);
    for (name, value) in table {
        put_bytes_u8(into, name.as_str().as_bytes());
        put_value(into, value);
    }
    end_long(into, at);
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
        AMQPValue::ShortString(text) => put_bytes_u8(into, text.as_str().as_bytes()),
        AMQPValue::LongString(bytes) => put_bytes_u32(into, bytes.as_bytes()),
        AMQPValue::ByteArray(bytes) => put_bytes_u32(into, bytes.as_slice()),
        AMQPValue::FieldArray(list) => {
            let at = begin_long(into);
            for item in list.as_slice() {
                put_value(into, item);
            }
            end_long(into, at);
        }
        AMQPValue::FieldTable(table) => put_table(into, table),
    }
}

fn put_bytes_u8(into: &mut BytesMut, bytes: &[u8]) {
    into.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    into.extend_from_slice(bytes);
}

fn put_bytes_u32(into: &mut BytesMut, bytes: &[u8]) {
    into.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    into.extend_from_slice(bytes);
}

fn begin_long(into: &mut BytesMut) -> usize {
    into.put_u32(0);
    into.len()
}

fn end_long(into: &mut BytesMut, at: usize) {
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
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&str, Value)]) -> Value {
        Value::Map(pairs.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }

    #[test]
    fn values_arrive_in_one_form() {
        let decimal = |scale, value| AMQPValue::DecimalValue(DecimalValue { scale, value });
        for (amqp, value) in [
            (AMQPValue::Void, Value::Null),
            (AMQPValue::ShortShortInt(-1), Value::Int(-1)),
            (AMQPValue::ShortShortUInt(255), Value::Int(255)),
            (AMQPValue::ShortInt(-2), Value::Int(-2)),
            (AMQPValue::ShortUInt(65535), Value::Int(65535)),
            (AMQPValue::LongInt(-3), Value::Int(-3)),
            (AMQPValue::LongUInt(u32::MAX), Value::Int(u32::MAX.into())),
            (AMQPValue::Float(0.5), Value::Float(0.5)),
            (decimal(2, 12345), Value::Text("123.45".into())),
            (decimal(2, 5), Value::Text("0.05".into())),
            (decimal(0, 7), Value::Text("7".into())),
            (AMQPValue::ShortString("s".into()), Value::Text("s".into())),
            (AMQPValue::LongString("text".into()), Value::Text("text".into())),
            (AMQPValue::LongString(vec![0xff].into()), Value::Bytes(vec![0xff].into())),
            (AMQPValue::Timestamp(2), Value::Timestamp(Timestamp { unix_ms: 2000 })),
            (AMQPValue::Timestamp(u64::MAX), Value::Timestamp(Timestamp { unix_ms: i64::MAX })),
        ] {
            assert_eq!(value_from_amqp(&amqp), Some(value), "{amqp:?}");
        }
    }

    #[test]
    fn what_amqp_cannot_say_leaves_as_documented() {
        assert_eq!(
            value_to_amqp(&Value::UInt(u64::MAX)),
            Ok(AMQPValue::LongString("18446744073709551615".into()))
        );
        for (unix_ms, expected) in [(1999, 1), (-1, 0), (0, 0)] {
            let value = Value::Timestamp(Timestamp { unix_ms });
            assert_eq!(value_to_amqp(&value), Ok(AMQPValue::Timestamp(expected)));
        }
    }

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

    #[test]
    fn limits_are_named() {
        let long = "k".repeat(256);
        let error = value_to_amqp(&map(&[(&long, Value::Null)])).unwrap_err();
        assert_eq!(&*error, "has a key that has 256 bytes, and AMQP takes 255 at most");

        let mut headers = Headers::default();
        headers.push(long, Value::Null);
        assert!(table_from_headers(&headers).unwrap_err().starts_with("the name of a header has"));

        let mut deep = Value::Null;
        let mut deep_amqp = AMQPValue::Void;
        for _ in 0..DEPTH_MAX {
            deep = Value::List(vec![deep]);
            deep_amqp = AMQPValue::FieldArray(vec![deep_amqp].into());
        }
        assert!(value_to_amqp(&deep).unwrap_err().contains("deeper"));
        assert_eq!(value_from_amqp(&deep_amqp), None);
    }

    #[test]
    fn repeats_become_an_array() {
        let mut headers = Headers::default();
        for (name, value) in [("a", "1"), ("b", "x"), ("a", "2"), ("a", "3")] {
            headers.push(name, value);
        }
        let table = table_from_headers(&headers).unwrap();
        let array = value_from_amqp(table.get("a").unwrap()).unwrap();
        assert_eq!(array, Value::List(vec!["1".into(), "2".into(), "3".into()]));
        assert_eq!(table.get("b"), Some(&AMQPValue::LongString("x".into())));
        let back = headers_from_table(&table.into()).unwrap();
        let back: Vec<_> = back.iter().map(|(name, value)| (&**name, value.clone())).collect();
        assert_eq!(
            back,
            [("a", "1".into()), ("a", "2".into()), ("a", "3".into()), ("b", "x".into())]
        );
        // An array that somebody else has made, or that was one value, stays one.
        let list = Value::List(vec!["1".into()]);
        let mut headers = Headers::default();
        headers.push("a", list.clone());
        let table = table_from_headers(&headers).unwrap();
        assert_eq!(headers_from_table(&table.into()).unwrap(), [("a".into(), list)]);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>()
                .prop_filter("NaN is not equal to itself", |n| !n.is_nan())
                .prop_map(Value::Float),
            "\\PC{0,12}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(|b| Value::Bytes(b.into())),
            (0..i64::from(u32::MAX))
                .prop_map(|s| Value::Timestamp(Timestamp { unix_ms: s * 1000 })),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|entries| {
                    Value::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_survives_the_round_trip(value in values()) {
            let amqp = value_to_amqp(&value).unwrap();
            prop_assert_eq!(value_from_amqp(&amqp), Some(value));
        }
    }
}
