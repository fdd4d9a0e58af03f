//! Requests to services, and answers to requests.
//!
//! Invariants:
//! - All replies of one connection come by one subscription; the last token of their subject says
//!   whose they are.
//! - The subscription and the waiter are there before a request goes out.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;
use transload_adapter::{Context, Observer, Replies, RequestError, Waiters, Waiting};
use transload_envelope::{Envelope, Origin, Text, Timestamp};

use crate::{
    client::{Client, Message, NO_RESPONDERS, Sink},
    link::Link,
    mapping::{self, AddressMapping},
};

/// Where the replies of one connection arrive.
pub(crate) struct ReplyDesk {
    client: Client,
    link: Arc<Link>,
    observer: Arc<dyn Observer>,
    name: Text,
    mapping: AddressMapping,
    /// Made with the first request, since most connections make none.
    open: OnceCell<Open>,
}

struct Open {
    inbox: String,
    waiters: Arc<Waiters>,
}

impl ReplyDesk {
    pub(crate) fn new(
        client: &Client,
        link: &Arc<Link>,
        context: &Context,
        mapping: AddressMapping,
    ) -> Self {
        Self {
            client: client.clone(),
            link: Arc::clone(link),
            observer: Arc::clone(&context.observer),
            name: context.name.clone(),
            mapping,
            open: OnceCell::new(),
        }
    }

    /// Registers a waiter, and tells the subject that is to be replied to.
    pub(crate) async fn wait(&self, replies: &Replies) -> Result<(String, Waiting), RequestError> {
        let Open { inbox, waiters } = self.open.get_or_try_init(|| self.subscribe()).await?;
        let token = Waiters::token();
        let subject = format!("{inbox}.{token}");
        Ok((subject, waiters.wait(token, replies)))
    }

    async fn subscribe(&self) -> Result<Open, RequestError> {
        let inbox = self.client.new_inbox();
        let waiters = Waiters::new(Arc::clone(&self.observer));
        let sink = Box::new(RepliesIn {
            waiters: Arc::clone(&waiters),
            name: self.name.clone(),
            mapping: self.mapping,
        });
        let subscribed = self.client.subscribe(&format!("{inbox}.*"), None, sink).await;
        subscribed.map_err(|_| RequestError::Disconnected(self.link.reason()))?;
        Ok(Open { inbox, waiters })
    }
}

struct RepliesIn {
    waiters: Arc<Waiters>,
    name: Text,
    mapping: AddressMapping,
}

impl Sink for RepliesIn {
    fn take(&mut self, message: Message<'_>) {
        let token = message.last_token();
        if message.status().is_some_and(|(code, _)| code == NO_RESPONDERS) {
            self.waiters.nobody(token);
        } else {
            self.waiters.reply(token, self.reply(&message));
        }
    }
}

impl RepliesIn {
    fn reply(&self, message: &Message<'_>) -> Envelope {
        let mut incoming = mapping::incoming(message.headers, Timestamp::now());
        mapping::read_service_error(&mut incoming.headers);
        let origin = Origin::new(self.name.clone(), "nats", self.mapping.address(&message.subject));
        let payload = Bytes::copy_from_slice(message.payload);
        let mut envelope =
            Envelope::identified(incoming.id, origin, payload).with_properties(incoming.properties);
        envelope.headers = incoming.headers;
        envelope.hops = incoming.hops;
        envelope
    }
}
