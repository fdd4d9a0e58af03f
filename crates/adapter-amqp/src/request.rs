//! Where the replies to requests arrive: one exclusive queue of this connection.
//!
//! Invariants:
//! - The queue is there and consumed before a request goes out that names it.
//! - Replies are not acknowledged: one is of use only to whoever waits now, and a task always reads
//!   them, so that they never hold up what comes on the same connection.

use std::sync::{Arc, Mutex, PoisonError};

use amq_protocol::{
    protocol::{
        AMQPClass,
        basic::{self, Consume},
        queue::{self, Declare},
    },
    types::FieldTable,
};
use tokio::sync::{OnceCell, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use transload_adapter::{Context, Event, Observer, RequestError, Waiters};
use transload_envelope::{Text, Timestamp};

use crate::{
    client::{Arrival, Channel, Client, Error, Result},
    config::{AddressSource, AmqpConfig},
    mapping::{self, Source},
};

const CONSUMER_TAG: &str = "transload-replies";

/// Where the replies of one connection arrive.
#[derive(Debug)]
pub(crate) struct ReplyDesk {
    client: Client,
    /// Until the queue is there.
    arrivals: Mutex<Option<mpsc::Receiver<Arrival>>>,
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
    pub(crate) queue: Text,
    pub(crate) waiters: Arc<Waiters>,
    /// Fires when nothing more can come.
    pub(crate) ended: CancellationToken,
}

impl ReplyDesk {
    pub(crate) fn new(
        client: Client,
        arrivals: mpsc::Receiver<Arrival>,
        config: Arc<AmqpConfig>,
        context: &Context,
    ) -> Self {
        Self {
            client,
            arrivals: Mutex::new(Some(arrivals)),
            config,
            name: context.name.clone(),
            tasks: context.tasks.clone(),
            observer: Arc::clone(&context.observer),
            open: OnceCell::new(),
        }
    }

    /// The queue, declared and consumed.
    pub(crate) async fn open(&self) -> std::result::Result<&Open, RequestError> {
        let open = self.open.get_or_try_init(|| self.consume()).await;
        open.map_err(|error| RequestError::Disconnected(error.into()))
    }

    async fn consume(&self) -> Result<Open> {
        let channel = self.client.open_channel().await?;
        let declare = queue::AMQPMethod::Declare(Declare {
            queue: "".into(),
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: true,
            nowait: false,
            arguments: FieldTable::default(),
        });
        let declared = self.client.call(&channel, AMQPClass::Queue(declare)).await?;
        let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(declared)) = declared else {
            return Err(Error::protocol("the broker answers queue.declare with something else"));
        };
        let consume = basic::AMQPMethod::Consume(Consume {
            queue: declared.queue.clone(),
            consumer_tag: CONSUMER_TAG.into(),
            no_local: false,
            no_ack: true,
            exclusive: true,
            nowait: false,
            arguments: FieldTable::default(),
        });
        self.client.call(&channel, AMQPClass::Basic(consume)).await?;
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only one call at a time gets here, and none after one that succeeded.
        let arrivals = arrivals.ok_or(Error::Closed)?;
        let queue = Text::from(declared.queue.as_str());
        let waiters = Waiters::new(Arc::clone(&self.observer));
        let open = Open { queue, waiters, ended: CancellationToken::new() };
        let source = Source {
            adapter: self.name.clone(),
            queue: open.queue.clone(),
            consumer_tag: CONSUMER_TAG.into(),
            address: AddressSource::Queue,
            mapping: self.config.address_mapping,
        };
        let bytes_max = self.config.message_bytes_max();
        let observer = Arc::clone(&self.observer);
        self.tasks.spawn(read(channel, arrivals, open.clone(), source, bytes_max, observer));
        Ok(open)
    }
}

/// Reads until the channel ends.
async fn read(
    channel: Arc<Channel>,
    mut arrivals: mpsc::Receiver<Arrival>,
    open: Open,
    source: Source,
    bytes_max: usize,
    observer: Arc<dyn Observer>,
) {
    let _ended = open.ended.clone().drop_guard();
    while let Some(Arrival::Message(_, delivery, _)) = arrivals.recv().await {
        let made = if delivery.data_bytes > bytes_max as u64 {
            Err(format!("it is larger than max_message_bytes, {bytes_max}").into())
        } else {
            mapping::envelope(&source, *delivery, Timestamp::now())
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
