use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use transload_adapter::store::{StoreError, Table};
use transload_envelope::Text;

use super::subscriptions::Subscription;
use crate::{codec::SubscribeOptions, topic::Filter};

/// The sessions that outlive their connections, and their subscriptions, in the store.
///
/// Two kinds of entries:
///
/// ```text
/// key: client id                  value: 2, seconds that the session is kept (8 bytes), user (rest)
///                                 value: 1, seconds that the session is kept (8 bytes)
/// key: client id, U+0000, filter  value: 1, options byte of SUBSCRIBE, subscription id (4 bytes, 0: none)
/// ```
///
/// A client identifier holds no U+0000, so the two cannot be mixed up, and an entry of a session
/// comes before those of its subscriptions.
#[derive(Debug)]
pub(super) struct SessionTable {
    table: Arc<dyn Table>,
}

const FORMAT: u8 = 1;
/// Of a session that has a user, who has a name.
const FORMAT_USER: u8 = 2;

/// A session as it was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) keep_for: Duration,
    pub(super) user: Option<Text>,
    pub(super) subscriptions: BTreeMap<Text, (Filter, Subscription)>,
}

impl SessionTable {
    pub(super) fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// All sessions that are stored.
    pub(super) fn load(&self) -> BTreeMap<Text, Stored> {
        let mut sessions: BTreeMap<Text, Stored> = BTreeMap::new();
        for (key, value) in self.table.entries() {
            if load_entry(&mut sessions, key, value).is_none() {
                tracing::error!("An entry of a stored session cannot be read.");
            }
        }
        sessions
    }

    /// Keeps a session; resolves when that is durable.
    pub(super) async fn keep(
        &self,
        client_id: &Text,
        keep_for: Duration,
        user: Option<&Text>,
    ) -> Result<(), StoreError> {
        let mut value = BytesMut::with_capacity(9 + user.map_or(0, |user| user.len()));
        value.put_u8(if user.is_some() { FORMAT_USER } else { FORMAT });
        value.put_u64(keep_for.as_secs());
        value.extend_from_slice(user.map_or(&[], |user| user.as_bytes()));
        self.table.put(client_id.clone().into_bytes(), value.freeze()).await
    }

    /// Keeps a subscription of a session; resolves when that is durable.
    pub(super) async fn subscribe(
        &self,
        client_id: &Text,
        filter: &Text,
        subscription: Subscription,
    ) -> Result<(), StoreError> {
        let mut value = BytesMut::with_capacity(6);
        value.put_u8(FORMAT);
        value.put_u8(subscription.options.to_byte());
        value.put_u32(subscription.id.unwrap_or(0));
        self.table.put(subscription_key(client_id, filter), value.freeze()).await
    }

    /// Forgets a subscription; resolves when that is durable.
    pub(super) async fn unsubscribe(
        &self,
        client_id: &Text,
        filter: &Text,
    ) -> Result<(), StoreError> {
        self.table.delete(subscription_key(client_id, filter)).await
    }

    /// Forgets a session, of which the subscriptions are forgotten already; resolves when that is
    /// durable.
    pub(super) async fn forget(&self, client_id: &Text) -> Result<(), StoreError> {
        self.table.delete(client_id.clone().into_bytes()).await
    }
}

fn subscription_key(client_id: &Text, filter: &Text) -> Bytes {
    [client_id.as_bytes(), b"\0", filter.as_bytes()].concat().into()
}

fn load_entry(sessions: &mut BTreeMap<Text, Stored>, key: Bytes, mut value: Bytes) -> Option<()> {
    let key = Text::try_from(key).ok()?;
    let format = value.try_get_u8().ok()?;
    let Some((client_id, filter)) = key.split_once('\0') else {
        let keep_for = Duration::from_secs(value.try_get_u64().ok()?);
        let user = match format {
            FORMAT => None,
            FORMAT_USER => Some(Text::try_from(value).ok()?),
            _ => return None,
        };
        sessions.insert(key, Stored { keep_for, user, subscriptions: BTreeMap::new() });
        return Some(());
    };
    if format != FORMAT {
        return None;
    }
    let options = SubscribeOptions::from_byte(value.try_get_u8().ok()?)?;
    let id = Some(value.try_get_u32().ok()?).filter(|id| *id > 0);
    let session = sessions.get_mut(client_id)?;
    let filter_text = Text::from(filter);
    session
        .subscriptions
        .insert(filter_text, (Filter::parse(filter)?, Subscription { options, id }));
    Some(())
}
