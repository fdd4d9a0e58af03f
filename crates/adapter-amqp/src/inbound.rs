//! Consuming: one channel for each queue, and one stream of deliveries of all.
//!
//! Invariants:
//! - Each channel has a prefetch before it has a consumer: it is the only bound on what the client
//!   library holds in memory.
//! - A delivery is registered as unacknowledged before anybody can settle it.
//! - The end of any consumer is the loss of the connection: the gateway connects anew, and finds
//!   out what is missing.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::{FutureExt, Stream, StreamExt, stream, stream::SelectAll};
use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::{Map, Value};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;
use transload_adapter::{
    ConnectError, Context, Delivery, Event, Inbound, Receipt, ReceiveError, Refusal, Settlement,
    SettlementSender, Tag, settlement_channel,
};
use transload_envelope::{Text, Timestamp};

use crate::{
    config::{AmqpConfig, Bind, Consume, Declare},
    connect::Link,
    error::connect_error,
    mapping::{self, Source},
    settle::{Settler, SharedUnacked},
    table::short,
};

/// What a consumer's stream brings; `None` is its end, which a merged stream would hide.
type Item = (Arc<Lane>, Option<lapin::Result<lapin::message::Delivery>>);
type Items = Pin<Box<dyn Stream<Item = Item> + Send>>;

/// One consumer, as the receiving side sees it.
struct Lane {
    source: Source,
    unacked: SharedUnacked,
    settle: SettlementSender,
}

/// The deliveries of all consumers.
pub(crate) struct Consumers {
    items: SelectAll<Items>,
    context: Context,
    message_bytes_max: usize,
    /// Found while deliveries were at hand that had to be handed over first.
    failure: Option<ReceiveError>,
    _abandon: DropGuard,
}

impl Consumers {
    /// Starts to consume all queues of the settings.
    pub(crate) async fn start(
        config: &AmqpConfig,
        context: &Context,
        link: &Link,
    ) -> Result<Self, ConnectError> {
        let abandoned = CancellationToken::new();
        let mut items = SelectAll::new();
        let mut settlers = JoinSet::new();
        for (number, consume) in config.consume.iter().enumerate() {
            let channel = link
                .connection
                .create_channel()
                .await
                .map_err(|error| connect_error("channel", error))?;
            let consumer = subscribe(&channel, config, consume, context, number).await?;
            let unacked: SharedUnacked = Arc::new(Mutex::default());
            let (settle, queue) = settlement_channel();
            let consumer_tag = consumer.tag();
            let source = Source {
                adapter: context.name.clone(),
                queue: consume.queue.as_str().into(),
                consumer_tag: consumer_tag.as_str().into(),
                address: consume.address.clone(),
                mapping: config.address_mapping,
            };
            let lane = Arc::new(Lane { source, unacked: Arc::clone(&unacked), settle });
            items.push(items_of(lane, consumer));
            let stop = context.stop.clone();
            let abandoned = abandoned.clone();
            settlers
                .spawn(Settler { channel, consumer_tag, queue, unacked, stop, abandoned }.run());
        }
        let link = link.clone();
        context.tasks.spawn(async move {
            while settlers.join_next().await.is_some() {}
            link.close().await;
        });
        Ok(Self {
            items,
            context: context.clone(),
            message_bytes_max: config.message_bytes_max(),
            failure: None,
            _abandon: abandoned.drop_guard(),
        })
    }

    fn take(
        &mut self,
        item: Option<Item>,
        credit: OwnedSemaphorePermit,
        into: &mut Vec<Delivery>,
    ) -> Result<(), ReceiveError> {
        let (lane, delivery) = match item {
            Some((lane, Some(Ok(delivery)))) => (lane, delivery),
            Some((_, Some(Err(error)))) => return Err(ReceiveError::Disconnected(error.into())),
            Some((lane, None)) => {
                let end = format!("the broker ended the consumer of queue {}", lane.source.queue);
                return Err(ReceiveError::Disconnected(end.into()));
            }
            None => return Err(ReceiveError::Disconnected("no consumer is left".into())),
        };
        let tag = delivery.delivery_tag;
        lane.unacked.lock().unwrap_or_else(PoisonError::into_inner).deliver(tag);
        let receipt = Receipt::new(Tag(tag), credit, lane.settle.clone());
        match self.envelope(&lane.source, delivery) {
            Ok(envelope) => into.push(Delivery { envelope, receipt }),
            Err(reason) => {
                warn!(
                    adapter = %self.context.name, queue = %lane.source.queue, %reason,
                    "a message that came in was rejected"
                );
                self.context.observer.count(Event::MessageRefused, 1);
                receipt.settle(Settlement::Rejected { refusal: Refusal::Invalid, reason });
            }
        }
        Ok(())
    }

    fn envelope(
        &self,
        source: &Source,
        delivery: lapin::message::Delivery,
    ) -> Result<transload_envelope::Envelope, Text> {
        let length = delivery.data.len();
        if length > self.message_bytes_max {
            let max = self.message_bytes_max;
            return Err(format!("it has {length} bytes, and max_message_bytes is {max}").into());
        }
        mapping::envelope(source, delivery, Timestamp::now())
    }
}

#[async_trait]
impl Inbound for Consumers {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let before = into.len();
        while into.len() == before {
            let Some(credit) = self.context.credit().await else {
                return Err(ReceiveError::Ended);
            };
            let item = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return Err(ReceiveError::Ended),
                item = self.items.next() => item,
            };
            self.take(item, credit, into)?;
            while into.len() - before < limit {
                let Some(credit) = self.context.try_credit() else { break };
                let Some(item) = self.items.next().now_or_never() else { break };
                if let Err(failure) = self.take(item, credit, into) {
                    if into.len() == before {
                        return Err(failure);
                    }
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        Ok(into.len() - before)
    }
}

fn items_of(lane: Arc<Lane>, consumer: Consumer) -> Items {
    let end = stream::once(std::future::ready(None));
    consumer.map(Some).chain(end).map(move |item| (Arc::clone(&lane), item)).boxed()
}

async fn subscribe(
    channel: &Channel,
    config: &AmqpConfig,
    consume: &Consume,
    context: &Context,
    number: usize,
) -> Result<Consumer, ConnectError> {
    let what = format!("queue {}", consume.queue);
    let failed = |error| connect_error(&what, error);
    let queue = fitting(&consume.queue)?;
    let prefetch = consume.prefetch.unwrap_or(config.prefetch);
    channel.basic_qos(prefetch, BasicQosOptions { global: false }).await.map_err(failed)?;
    if let Declare::Yes(settings) = &consume.declare {
        let options = QueueDeclareOptions {
            durable: settings.durable,
            exclusive: settings.exclusive,
            auto_delete: settings.auto_delete,
            ..QueueDeclareOptions::default()
        };
        let arguments = arguments(&settings.arguments)?;
        channel.queue_declare(queue.clone(), options, arguments).await.map_err(failed)?;
    }
    for bind in consume.bind.iter() {
        bind_to(channel, &queue, bind).await?;
    }
    let tag = consume.consumer_tag.clone();
    let tag = tag.unwrap_or_else(|| format!("transload-{}-{number}", context.name));
    let mut arguments = FieldTable::default();
    if let Some(priority) = consume.priority {
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
    }
    let options =
        BasicConsumeOptions { exclusive: consume.exclusive, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue, fitting(&tag)?, options, arguments).await.map_err(failed)
}

async fn bind_to(channel: &Channel, queue: &ShortString, bind: &Bind) -> Result<(), ConnectError> {
    let exchange = fitting(&bind.exchange)?;
    let key = fitting(&bind.key)?;
    let arguments = arguments(&bind.arguments)?;
    let bound =
        channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), arguments);
    bound.await.map_err(|error| {
        connect_error(&format!("binding of queue {queue} to exchange {}", bind.exchange), error)
    })
}

fn fitting(text: &str) -> Result<ShortString, ConnectError> {
    short(text, "a name").map_err(|reason| ConnectError::Unusable { reason })
}

/// The broker's own settings in its types.
fn arguments(settings: &Map<String, Value>) -> Result<FieldTable, ConnectError> {
    let mut table = FieldTable::default();
    for (name, value) in settings {
        table.insert(fitting(name)?, argument(value)?);
    }
    Ok(table)
}

fn argument(value: &Value) -> Result<AMQPValue, ConnectError> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(truth) => AMQPValue::Boolean(*truth),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => AMQPValue::LongLongInt(whole),
            (None, Some(fraction)) => AMQPValue::Double(fraction),
            (None, None) => AMQPValue::Void,
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(argument).collect::<Result<_, _>>()?;
            AMQPValue::FieldArray(list.into())
        }
        Value::Object(map) => AMQPValue::FieldTable(arguments(map)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QueueDeclaration;

    #[test]
    fn queue_arguments_keep_their_types() {
        let settings: QueueDeclaration = toml::from_str(
            "arguments = { x-max-length = 5, x-queue-type = 'quorum', a = [true, 0.5], m = { k = 1 } }",
        )
        .unwrap();
        let table = arguments(&settings.arguments).unwrap();
        let get = |name: &str| table.inner().get(name).cloned();
        assert_eq!(get("x-max-length"), Some(AMQPValue::LongLongInt(5)));
        assert_eq!(get("x-queue-type"), Some(AMQPValue::LongString("quorum".into())));
        let list = vec![AMQPValue::Boolean(true), AMQPValue::Double(0.5)];
        assert_eq!(get("a"), Some(AMQPValue::FieldArray(list.into())));
        let mut map = FieldTable::default();
        map.insert("k".into(), AMQPValue::LongLongInt(1));
        assert_eq!(get("m"), Some(AMQPValue::FieldTable(map)));
    }
}
