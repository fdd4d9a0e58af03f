//! Header values in both forms.
//!
//! What the broker's types cannot tell apart comes back in one form: integers of any width as one
//! integer, text in its short and its long form as text. Three values change their form, for want
//! of a type that both RabbitMQ and `amq-protocol` know: decimals arrive as text, unsigned integers above
//! the signed range leave as text, and timestamps leave as whole seconds.

use std::collections::{BTreeMap, HashSet};

use amq_protocol::types::{
    AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, MAX_SHORT_STRING_LENGTH,
    ShortString,
};
use transload_envelope::{Headers, Text, Timestamp, Value};

use crate::client::DEPTH_MAX;

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
