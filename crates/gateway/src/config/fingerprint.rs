//! Tells whether a table says the same as another one, without keeping what it says.

use std::hash::{DefaultHasher, Hash as _, Hasher};

use toml::de::{DeTable, DeValue};

/// Stands for everything that a table says, its secrets included. Two tables with the same
/// fingerprint say the same: 128 bits make an accident unlikely enough, and nobody gains by one,
/// since both tables are the operator's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// The fingerprint of a table whose variables and secrets have been filled in. The order of
    /// its keys counts, the places and the form of its values do not.
    pub(super) fn of(what: &str, table: &DeTable<'_>) -> Self {
        let mut said = Said::default();
        what.hash(&mut said);
        hash_table(table, &mut said);
        let hash = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(seed);
            hasher.write(&said.0);
            hasher.finish()
        };
        Self(hash(0), hash(1))
    }
}

/// Keeps what it is told, which is hashed faster as a whole than in its many parts.
#[derive(Default)]
struct Said(Vec<u8>);

impl Hasher for Said {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        // Nobody asks in between.
        0
    }
}

fn hash_table(table: &DeTable<'_>, hasher: &mut Said) {
    table.len().hash(hasher);
    for (key, value) in table {
        key.get_ref().hash(hasher);
        hash_value(value.get_ref(), hasher);
    }
}

fn hash_value(value: &DeValue<'_>, hasher: &mut Said) {
    value.type_str().hash(hasher);
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => (number.radix(), number.as_str()).hash(hasher),
        DeValue::Float(number) => number.as_str().hash(hasher),
        DeValue::Boolean(truth) => truth.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(list) => {
            list.len().hash(hasher);
            for element in list {
                hash_value(element.get_ref(), hasher);
            }
        }
        DeValue::Table(table) => hash_table(table, hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Fingerprint {
        Fingerprint::of("", DeTable::parse(text).unwrap().get_ref())
    }

    #[test]
    fn what_a_table_says_counts_and_how_it_is_written_does_not() {
        let first = of("a = 1\nb = { c = [\"x\", 'y'], d = true }");
        assert_eq!(first, of("# a remark\na   = 1\n[b]\nc = ['x',\n \"y\"]\nd = true"));
        for other in [
            "a = 2\nb = { c = [\"x\", 'y'], d = true }",
            "a = '1'\nb = { c = [\"x\", 'y'], d = true }",
            "a = 1\nb = { c = [\"xy\"], d = true }",
            "a = 1\nb = { c = [\"x\", 'y'] }\nd = true",
            "a = 1",
            "",
        ] {
            assert_ne!(first, of(other), "{other}");
        }
        assert_ne!(Fingerprint::of("mqtt", &DeTable::new()), Fingerprint::of("", &DeTable::new()));
    }
}
