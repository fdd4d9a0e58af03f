//! Where the replies to requests arrive: one exclusive queue, on a connection of its own.
//!
//! Invariants:
//! - The queue is there and consumed before a request goes out that names it.
//! - Replies are not acknowledged: one is of use only to whoever waits now, and a task always reads
//!   them, so that the client library holds none.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::sync::{OnceCell, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use transload_adapter::{Context, Event, Observer, RequestError, Waiters};
use transload_envelope::{Text, Timestamp};

use crate::{
    config::{AddressSource, AmqpConfig},
    connect::{Link, LinkState, Purpose},
    mapping::{self, Source},
};

const CONSUMER_TAG: &str = "transload-replies";

/// Where the replies of one adapter arrive.
#[derive(Debug)]
pub(crate) struct ReplyDesk {
    /// How the connection fares, once there is one.
    state: watch::Sender<LinkState>,
    config: Arc<AmqpConfig>,
    name: Text,
    tasks: TaskTracker,
    observer: Arc<dyn Observer>,
    /// Made with the first request, since most connections make none.
    open: OnceCell<Open>,
}

/// The queue, and who waits.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    link: Link,
    pub(crate) queue: ShortString,
    pub(crate) waiters: Arc<Waiters>,
    /// Fires when nothing more can come.
    pub(crate) ended: CancellationToken,
}

impl ReplyDesk {
    /// The receiver tells of the loss of its connection, which there is once it is needed.
    pub(crate) fn new(
        config: Arc<AmqpConfig>,
        context: &Context,
    ) -> (Self, watch::Receiver<LinkState>) {
        let (state, lost) = watch::channel(LinkState::Open);
        let desk = Self {
            state,
            config,
            name: context.name.clone(),
            tasks: context.tasks.clone(),
            observer: Arc::clone(&context.observer),
            open: OnceCell::new(),
        };
        (desk, lost)
    }

    /// The queue, declared and consumed.
    pub(crate) async fn open(&self) -> Result<&Open, RequestError> {
        self.open.get_or_try_init(|| self.connect()).await
    }

    /// Ends the connection, if there is one.
    pub(crate) async fn close(&self) {
        if let Some(open) = self.open.get() {
            open.link.close().await;
        }
    }

    async fn connect(&self) -> Result<Open, RequestError> {
        let link = Link::open(&self.config, &self.name, &self.tasks, Purpose::Replies).await;
        let link = link.map_err(|error| RequestError::Disconnected(error.into()))?;
        let open = self.consume(link).await;
        let open = open.map_err(|error| RequestError::Disconnected(error.into()))?;
        let (state, mut seen) = (self.state.clone(), open.link.state.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = state.closed() => {}
                lost = seen.wait_for(|state| matches!(state, LinkState::Lost(_))) => {
                    if let Ok(lost) = lost {
                        state.send_replace(lost.clone());
                    }
                }
            }
        });
        Ok(open)
    }

    async fn consume(&self, link: Link) -> lapin::Result<Open> {
        let channel = link.connection.create_channel().await?;
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        let queue = queue.name().clone();
        let options =
            BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = channel
            .basic_consume(queue.clone(), CONSUMER_TAG.into(), options, FieldTable::default())
            .await?;
        let waiters = Waiters::new(Arc::clone(&self.observer));
        let open = Open { link, queue, waiters, ended: CancellationToken::new() };
        let source = Source {
            adapter: self.name.clone(),
            queue: open.queue.as_str().into(),
            consumer_tag: CONSUMER_TAG.into(),
            address: AddressSource::Queue,
            mapping: self.config.address_mapping,
        };
        let bytes_max = self.config.message_bytes_max();
        let observer = Arc::clone(&self.observer);
        self.tasks.spawn(read(channel, consumer, open.clone(), source, bytes_max, observer));
        Ok(open)
    }
}

/// Reads until the channel ends.
async fn read(
    channel: Channel,
    mut consumer: Consumer,
    open: Open,
    source: Source,
    bytes_max: usize,
    observer: Arc<dyn Observer>,
) {
    let _ended = open.ended.clone().drop_guard();
    while let Some(Ok(delivery)) = consumer.next().await {
        let made = if delivery.data.len() > bytes_max {
            Err(format!("it is larger than max_message_bytes, {bytes_max}").into())
        } else {
            mapping::envelope(&source, delivery, Timestamp::now())
        };
        match made {
            Ok(reply) => {
                let key = reply.properties().correlation.clone().unwrap_or_default();
                open.waiters.reply(&String::from_utf8_lossy(&key), reply);
            }
            Err(reason) => {
                warn!(adapter = %source.adapter, %reason, "a reply was rejected");
                observer.count(Event::MessageRefused, 1);
            }
        }
    }
    drop(channel);
}
