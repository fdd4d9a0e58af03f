//! Settings that can be written in more than one form, read so that a fault inside one form is
//! reported as what it is, and not as «no form matches».

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

use crate::config::{AddressSource, Declare, QueueDeclaration};

/// One or several, written as the thing itself or as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T> {
    items: Vec<T>,
    listed: bool,
}

impl<T> OneOrMany<T> {
    /// The items, each with its path in the file if `path` is that of the whole.
    pub(crate) fn with_paths(&self, path: &str) -> impl Iterator<Item = (String, &T)> {
        self.items.iter().enumerate().map(move |(number, item)| {
            (if self.listed { format!("{path}.{number}") } else { path.to_owned() }, item)
        })
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> From<Vec<T>> for OneOrMany<T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, listed: true }
    }
}

impl<T> Deref for OneOrMany<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forms<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts, or a table or a list of tables")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(one(T::deserialize(StrDeserializer::new(text))?))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(one(T::deserialize(MapAccessDeserializer::new(map))?))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut many = Vec::new();
                while let Some(item) = list.next_element()? {
                    many.push(item);
                }
                Ok(many.into())
            }
        }

        deserializer.deserialize_any(Forms(PhantomData))
    }
}

fn one<T>(item: T) -> OneOrMany<T> {
    OneOrMany { items: vec![item], listed: false }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<'de> Deserialize<'de> for Declare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = Declare;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a table of the queue's settings")
            }

            fn visit_bool<E: Error>(self, truth: bool) -> Result<Declare, E> {
                Ok(if truth { Declare::Yes(QueueDeclaration::default()) } else { Declare::No })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Declare, A::Error> {
                QueueDeclaration::deserialize(MapAccessDeserializer::new(map)).map(Declare::Yes)
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for Declare {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Declare".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = generator.subschema_for::<QueueDeclaration>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, settings] })
    }
}

impl<'de> Deserialize<'de> for AddressSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "routing_key" => Self::RoutingKey,
            "queue" => Self::Queue,
            address => Self::Fixed(address.to_owned()),
        })
    }
}

impl JsonSchema for AddressSource {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AddressSource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["routing_key", "queue", "orders/new"] })
    }
}
