//! Requests to services, and answers to requests.
//!
//! Invariants:
//! - All replies of one connection come by one subscription; the last token of their subject says
//!   whose they are.
//! - The subscription and the waiter are there before a request goes out.

use std::sync::Arc;

use async_nats::{Client, Message, StatusCode, Subject};
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use transload_adapter::{Context, Observer, Replies, RequestError, Waiters, Waiting};
use transload_envelope::{Envelope, Origin, Text, Timestamp};

use crate::{
    link::Link,
    mapping::{self, AddressMapping},
};

/// Where the replies of one connection arrive.
pub(crate) struct ReplyDesk {
    client: Client,
    link: Arc<Link>,
    tasks: TaskTracker,
    observer: Arc<dyn Observer>,
    name: Text,
    mapping: AddressMapping,
    /// Made with the first request, since most connections make none.
    open: OnceCell<Open>,
}

struct Open {
    inbox: Text,
    waiters: Arc<Waiters>,
    /// Ends the task that reads; the subscription would keep the connection open.
    _reading: DropGuard,
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
            tasks: context.tasks.clone(),
            observer: Arc::clone(&context.observer),
            name: context.name.clone(),
            mapping,
            open: OnceCell::new(),
        }
    }

    /// Registers a waiter, and tells the subject that is to be replied to.
    pub(crate) async fn wait(&self, replies: &Replies) -> Result<(Subject, Waiting), RequestError> {
        let Open { inbox, waiters, .. } = self.open.get_or_try_init(|| self.subscribe()).await?;
        let token = Waiters::token();
        let subject = Subject::from(format!("{inbox}.{token}"));
        Ok((subject, waiters.wait(token, replies)))
    }

    async fn subscribe(&self) -> Result<Open, RequestError> {
        let inbox = Text::from(self.client.new_inbox());
        let mut replies = self
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| RequestError::Disconnected(error.into()))?;
        let waiters = Waiters::new(Arc::clone(&self.observer));
        let over = CancellationToken::new();
        let reading = over.clone().drop_guard();
        let open = Open { inbox, waiters: Arc::clone(&waiters), _reading: reading };
        let (link, name, mapping) = (Arc::clone(&self.link), self.name.clone(), self.mapping);
        self.tasks.spawn(async move {
            loop {
                let message = tokio::select! {
                    message = replies.next() => message,
                    () = link.lost() => return,
                    () = over.cancelled() => return,
                };
                let Some(message) = message else { return };
                take(&waiters, &name, mapping, message);
            }
        });
        Ok(open)
    }
}

fn take(waiters: &Waiters, name: &Text, mapping: AddressMapping, message: Message) {
    let token = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        waiters.nobody(&token);
    } else {
        waiters.reply(&token, reply(name, mapping, message));
    }
}

fn reply(name: &Text, mapping: AddressMapping, message: Message) -> Envelope {
    let mut incoming = mapping::incoming(message.headers.as_ref(), Timestamp::now());
    mapping::read_service_error(&mut incoming.headers);
    let origin = Origin::new(name.clone(), "nats", mapping.address(&message.subject));
    let mut envelope = Envelope::identified(incoming.id, origin, message.payload)
        .with_properties(incoming.properties);
    envelope.headers = incoming.headers;
    envelope.hops = incoming.hops;
    envelope
}
