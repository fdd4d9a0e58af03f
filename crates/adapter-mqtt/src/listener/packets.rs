use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use transload_adapter::store::{Position, StoreError, Table};
use transload_envelope::Text;

/// The packet identifiers of `QoS` 2 that a session has to know again after a restart, in the store.
///
/// ```text
/// key: client id, U+0000, `i`, packet id (2 bytes)  value: 1
/// key: client id, U+0000, `o`, packet id (2 bytes)  value: 1, position in the session's queue (8 bytes)
/// ```
///
/// `i`: the message was taken, PUBREC is sent once this is durable, and PUBCOMP once it is durably
/// gone. `o`: the client has the message, and PUBREL is sent once this is durable. That a message is on
/// its way needs no entry: its identifier follows from its place in the queue.
#[derive(Debug)]
pub(super) struct PacketTable {
    table: Arc<dyn Table>,
}

const FORMAT: u8 = 1;
const TAKEN: u8 = b'i';
const RELEASED: u8 = b'o';

/// A fact about a packet identifier that is to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// A message from the client was taken under this identifier.
    Taken(u16),
    /// The client knows that, and may use the identifier again.
    Forgotten(u16),
    /// The client has the message of this place in the queue.
    Released(u16, Position),
    /// The client knows that we know.
    Completed(u16),
}

/// What is known of one client.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) taken: BTreeSet<u16>,
    pub(super) released: BTreeMap<Position, u16>,
}

impl PacketTable {
    pub(super) fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Everything that is stored, by client.
    pub(super) fn load(&self) -> BTreeMap<Text, Packets> {
        let mut all = BTreeMap::new();
        for (key, value) in self.table.entries() {
            if load_entry(&mut all, &key, value).is_none() {
                tracing::error!("A stored packet identifier cannot be read.");
            }
        }
        all
    }

    /// Writes facts in their order; resolves when all are durable.
    pub(super) async fn note(&self, client_id: &Text, facts: &[Fact]) -> Result<(), StoreError> {
        let written = facts.iter().map(|fact| self.write(client_id, *fact));
        join_all(written).await.into_iter().collect()
    }

    /// Forgets everything of a client; resolves when that is durable.
    pub(super) async fn forget(
        &self,
        client_id: &Text,
        taken: impl Iterator<Item = u16>,
        released: impl Iterator<Item = u16>,
    ) -> Result<(), StoreError> {
        let facts: Vec<_> =
            taken.map(Fact::Forgotten).chain(released.map(Fact::Completed)).collect();
        self.note(client_id, &facts).await
    }

    async fn write(&self, client_id: &Text, fact: Fact) -> Result<(), StoreError> {
        match fact {
            Fact::Taken(id) => {
                self.table.put(key(client_id, TAKEN, id), Bytes::from_static(&[FORMAT])).await
            }
            Fact::Released(id, position) => {
                let mut value = BytesMut::with_capacity(9);
                value.put_u8(FORMAT);
                value.put_u64(position.0);
                self.table.put(key(client_id, RELEASED, id), value.freeze()).await
            }
            Fact::Forgotten(id) => self.table.delete(key(client_id, TAKEN, id)).await,
            Fact::Completed(id) => self.table.delete(key(client_id, RELEASED, id)).await,
        }
    }
}

fn key(client_id: &Text, kind: u8, packet_id: u16) -> Bytes {
    let mut key = BytesMut::with_capacity(client_id.len() + 4);
    key.extend_from_slice(client_id.as_bytes());
    key.put_u8(0);
    key.put_u8(kind);
    key.put_u16(packet_id);
    key.freeze()
}

fn load_entry(all: &mut BTreeMap<Text, Packets>, key: &Bytes, mut value: Bytes) -> Option<()> {
    let (client_id, mut rest) = key.split_at_checked(key.len().checked_sub(4)?)?;
    let client_id = Text::try_from(Bytes::copy_from_slice(client_id)).ok()?;
    let (zero, kind, packet_id) = (rest.get_u8(), rest.get_u8(), rest.get_u16());
    if zero != 0 || value.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let packets = all.entry(client_id).or_default();
    match kind {
        TAKEN => drop(packets.taken.insert(packet_id)),
        RELEASED => {
            let position = Position(value.try_get_u64().ok()?);
            packets.released.insert(position, packet_id);
        }
        _ => return None,
    }
    Some(())
}
