use crate::{Address, Text, Value};

/// Where a message came in. Never changed on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The adapter's name in `adapters.toml`.
    pub adapter: Text,
    /// The adapter's kind: `mqtt`, `amqp`, `nats`, `http`.
    pub protocol: Text,
    /// The canonical address under which the message came in.
    pub address: Address,
    /// What the protocol knows beside the address, such as `exchange`, `qos`, `method`, `query`
    /// or `peer`: names in the protocol's terms, for rules to read.
    pub attributes: Vec<(Text, Value)>,
}

impl Origin {
    /// An origin without attributes.
    pub fn new(
        adapter: impl Into<Text>,
        protocol: impl Into<Text>,
        address: impl Into<Address>,
    ) -> Self {
        Self {
            adapter: adapter.into(),
            protocol: protocol.into(),
            address: address.into(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<Text>, value: impl Into<Value>) -> Self {
        // Sources have about this many, and growing would copy those that are there.
        if self.attributes.capacity() == 0 {
            self.attributes.reserve_exact(6);
        }
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }
}
