use std::slice::from_ref;

use amq_protocol::types::{
    AMQPValue, DecimalValue, FieldTable, generation::gen_field_table, parsing::parse_field_table,
};
use bytes::BufMut as _;
use proptest::prelude::*;

use super::*;

/// The table as the library writes it.
pub(crate) fn table_of(entries: &[(&str, AMQPValue)]) -> Table {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    let (written, _) = gen_field_table(&table)(Vec::new().into()).unwrap().into_inner();
    Table::new(BytesMut::from(&written[4..]))
}

/// What the library reads in a table.
pub(crate) fn field_table(table: &Table) -> FieldTable {
    let mut bytes = BytesMut::new();
    bytes.put_u32(u32::try_from(table.entries().len()).unwrap());
    bytes.extend_from_slice(table.entries());
    assert_eq!(bytes.len(), table.bytes());
    let (rest, read) = parse_field_table(&bytes[..]).unwrap();
    assert_eq!(rest, b"");
    read
}

fn headers(pairs: &[(&str, Value)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in pairs {
        headers.push(*name, value.clone());
    }
    headers
}

fn write(pairs: &[(&str, Value)]) -> Table {
    table_from_headers(&headers(pairs), &[]).unwrap().unwrap()
}

fn read(table: &Table) -> Vec<(Text, Value)> {
    headers_from_table(table).unwrap()
}

/// What arrives of a value that the library writes.
fn arriving(value: AMQPValue) -> Value {
    read(&table_of(&[("h", value)])).pop().unwrap().1
}

/// What the library reads of a value that leaves.
fn leaving(value: Value) -> AMQPValue {
    field_table(&write(&[("h", value)])).inner().get("h").unwrap().clone()
}

#[test]
fn values_arrive_in_one_form() {
    let decimal = |scale, value| AMQPValue::DecimalValue(DecimalValue { scale, value });
    let list = |items: &[AMQPValue]| AMQPValue::FieldArray(items.to_vec().into());
    let mut map = FieldTable::default();
    map.insert("k".into(), AMQPValue::LongInt(1));
    for (amqp, value) in [
        (AMQPValue::Void, Value::Null),
        (AMQPValue::Boolean(true), Value::Bool(true)),
        (AMQPValue::ShortShortInt(-1), Value::Int(-1)),
        (AMQPValue::ShortShortUInt(255), Value::Int(255)),
        (AMQPValue::ShortInt(-2), Value::Int(-2)),
        (AMQPValue::ShortUInt(65535), Value::Int(65535)),
        (AMQPValue::LongInt(-3), Value::Int(-3)),
        (AMQPValue::LongUInt(u32::MAX), Value::Int(u32::MAX.into())),
        (AMQPValue::LongLongInt(i64::MIN), Value::Int(i64::MIN)),
        (AMQPValue::Float(0.5), Value::Float(0.5)),
        (AMQPValue::Double(-0.5), Value::Float(-0.5)),
        (decimal(2, 12345), Value::Text("123.45".into())),
        (decimal(2, 5), Value::Text("0.05".into())),
        (decimal(0, 7), Value::Text("7".into())),
        (AMQPValue::LongString("text".into()), Value::Text("text".into())),
        (AMQPValue::LongString(vec![0xff].into()), Value::Bytes(vec![0xff].into())),
        (AMQPValue::ByteArray(vec![1, 2].into()), Value::Bytes(vec![1, 2].into())),
        (AMQPValue::Timestamp(2), Value::Timestamp(Timestamp { unix_ms: 2000 })),
        (AMQPValue::Timestamp(u64::MAX), Value::Timestamp(Timestamp { unix_ms: i64::MAX })),
        (
            list(&[AMQPValue::Void, AMQPValue::LongInt(1)]),
            Value::List(vec![Value::Null, Value::Int(1)]),
        ),
        (AMQPValue::FieldTable(map), Value::Map(vec![("k".into(), Value::Int(1))])),
    ] {
        assert_eq!(arriving(amqp.clone()), value, "{amqp:?}");
    }
}

#[test]
fn what_amqp_cannot_say_leaves_as_documented() {
    let text = AMQPValue::LongString("18446744073709551615".into());
    assert_eq!(leaving(Value::UInt(u64::MAX)), text);
    for (unix_ms, expected) in [(1999, 1), (-1, 0), (0, 0)] {
        let value = Value::Timestamp(Timestamp { unix_ms });
        assert_eq!(leaving(value), AMQPValue::Timestamp(expected));
    }
}

#[test]
fn limits_are_named() {
    let error = |pairs: &[(&str, Value)]| table_from_headers(&headers(pairs), &[]).unwrap_err();
    let long = "k".repeat(256);
    assert_eq!(
        error(&[("h", Value::Map(vec![(long.as_str().into(), Value::Null)]))]),
        "header \"h\" has a key that has 256 bytes, and AMQP takes 255 at most"
    );
    assert!(error(&[(&long, Value::Null)]).starts_with("the name of a header has 256 bytes"));
    assert!(write(&[(&long[1..], Value::Null)]).entries().starts_with(&[255, b'k']));
    let mut deep = Value::Null;
    for _ in 0..DEPTH_MAX {
        deep = Value::List(vec![deep]);
    }
    assert_eq!(error(&[("h", deep)]), "header \"h\" is nested deeper than 32 levels");
}

/// A header whose value is lists within lists.
fn nested(depth: usize) -> Table {
    let mut value = BytesMut::from(&b"V"[..]);
    for _ in 0..depth {
        let inner = value.split();
        value.put_u8(b'A');
        value.put_u32(u32::try_from(inner.len()).unwrap());
        value.unsplit(inner);
    }
    let mut entries = BytesMut::from(&b"\x01k"[..]);
    entries.unsplit(value);
    Table::new(entries)
}

#[test]
fn headers_that_are_nested_deeply_exhaust_no_stack() {
    for depth in [1, DEPTH_MAX - 1] {
        assert!(headers_from_table(&nested(depth)).is_ok(), "{depth}");
    }
    for depth in [DEPTH_MAX, 12_000] {
        let error = headers_from_table(&nested(depth)).unwrap_err();
        assert_eq!(error, "header k is nested deeper than 32 levels");
    }
}

#[test]
fn what_is_cut_short_is_refused() {
    let map = Value::Map(vec![("k".into(), "v".into())]);
    let values = vec![Value::Null, true.into(), Value::Int(1), Value::Float(0.5), map];
    let entries = write(&[("h", Value::List(values))]).entries().to_vec();
    for length in 1..entries.len() {
        let cut = Table::new(BytesMut::from(&entries[..length]));
        let error = headers_from_table(&cut).unwrap_err();
        assert_eq!(error, "the headers of the message cannot be read", "{length}");
    }
    // A type that nobody knows is no better.
    assert!(headers_from_table(&Table::new(BytesMut::from(&b"\x01k?"[..]))).is_err());
}

#[test]
fn names_are_sorted_and_the_last_of_each_counts() {
    let mut entries = BytesMut::new();
    for (name, value) in [("b", 1), ("a", 2), ("b", 3), ("a", 4), ("c", 5)] {
        put_text(&mut entries, name);
        put_int(&mut entries, value);
    }
    let expected = [("a", 4), ("b", 3), ("c", 5)];
    let expected: Vec<_> =
        expected.map(|(name, value)| (Text::from(name), Value::Int(value))).into();
    assert_eq!(read(&Table::new(entries)), expected);
}

#[test]
fn repeats_become_an_array() {
    let table = write(&[
        ("a", "1".into()),
        ("b", "x".into()),
        ("a", "2".into()),
        (REPEATS, "of somebody else".into()),
        ("a", "3".into()),
    ]);
    let text = |text: &str| AMQPValue::LongString(text.into());
    let array = AMQPValue::FieldArray(vec![text("1"), text("2"), text("3")].into());
    assert_eq!(field_table(&table).inner().get("a"), Some(&array));
    assert_eq!(field_table(&table).inner().get("b"), Some(&text("x")));
    let back = read(&table);
    let back: Vec<_> = back.iter().map(|(name, value)| (&**name, value.clone())).collect();
    assert_eq!(back, [("a", "1".into()), ("a", "2".into()), ("a", "3".into()), ("b", "x".into())]);
    // An array that somebody else has made, or that was one value, stays one.
    let list = Value::List(vec!["1".into()]);
    assert_eq!(read(&write(&[("a", list.clone())])), [("a".into(), list)]);
}

#[test]
fn what_the_gateway_says_counts_before_a_header_of_the_same_name() {
    let sent = headers(&[("x", Value::Int(1)), ("hops", "many".into()), ("hops", "more".into())]);
    let own = [("hops", Own::Number(3)), ("a", Own::Truth(true)), ("raw", Own::Bytes(&[0xff]))];
    let table = table_from_headers(&sent, &own).unwrap().unwrap();
    let bytes = Value::Bytes(vec![0xff].into());
    let expected =
        [("a", true.into()), ("hops", Value::Int(3)), ("raw", bytes), ("x", Value::Int(1))];
    assert_eq!(read(&table), expected.map(|(name, value)| (Text::from(name), value)));
    assert_eq!(table_from_headers(&Headers::default(), &[]).unwrap(), None);
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
        // Bytes that are text come back as bytes all the same.
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(|b| Value::Bytes(b.into())),
        (0..i64::from(u32::MAX)).prop_map(|s| Value::Timestamp(Timestamp { unix_ms: s * 1000 })),
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
    fn every_value_survives_the_round_trip_and_the_library_reads_it(value in values()) {
        let table = write(from_ref(&("h", value.clone())));
        let written_by_library =
            table_of(&[("h", field_table(&table).inner().get("h").unwrap().clone())]);
        prop_assert_eq!(&table, &written_by_library);
        prop_assert_eq!(read(&table), [(Text::from("h"), value)]);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let table = Table::new(BytesMut::from(&bytes[..]));
        let _read_or_refused = headers_from_table(&table);
    }
}
