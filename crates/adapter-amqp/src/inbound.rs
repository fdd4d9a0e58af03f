//! Consuming: one channel for each queue, and one stream of deliveries of all.
//!
//! Invariants:
//! - Each channel has a prefetch before it has a consumer: it bounds how many messages are
//!   unacknowledged. How much of that waits in memory the client bounds.
//! - A delivery is registered as unacknowledged before anybody can settle it.
//! - The end of any consumer is the loss of the connection: the gateway connects anew, and finds
//!   out what is missing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use amq_protocol::{
    protocol::{AMQPClass, basic, queue},
    types::{AMQPValue, FieldTable, ShortString},
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;
use transload_adapter::{
    ConnectError, Context, Delivery, Event, Inbound, Receipt, ReceiveError, Refusal, Settlement,
    SettlementSender, Tag, settlement_channel,
};
use transload_envelope::{Text, Timestamp};

use crate::{
    client::{self, Arrival, Channel, Client},
    config::{AmqpConfig, Bind, Consume, Declare},
    error::connect_error,
    mapping::{self, Source},
    settle::{Settler, SharedUnacked},
    table::short,
};

/// One consumer, as the receiving side sees it.
struct Lane {
    source: Source,
    unacked: SharedUnacked,
    settle: SettlementSender,
}

/// The deliveries of all consumers.
pub(crate) struct Consumers {
    client: Client,
    arrivals: mpsc::Receiver<Arrival>,
    /// What came while the consumers were started.
    early: VecDeque<Arrival>,
    /// By the number of the channel.
    lanes: HashMap<u16, Arc<Lane>>,
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
        client: Client,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> Result<Self, ConnectError> {
        let abandoned = CancellationToken::new();
        let mut this = Self {
            client,
            arrivals,
            early: VecDeque::new(),
            lanes: HashMap::new(),
            context: context.clone(),
            message_bytes_max: config.message_bytes_max(),
            failure: None,
            _abandon: abandoned.clone().drop_guard(),
        };
        let mut settlers = JoinSet::new();
        for (number, consume) in config.consume.iter().enumerate() {
            settlers.spawn(this.consume(config, consume, number, abandoned.clone()).await?.run());
        }
        let client = this.client.clone();
        context.tasks.spawn(async move {
            while settlers.join_next().await.is_some() {}
            client.close().await;
        });
        Ok(this)
    }

    /// Starts to consume one queue.
    async fn consume(
        &mut self,
        config: &AmqpConfig,
        consume: &Consume,
        number: usize,
        abandoned: CancellationToken,
    ) -> Result<Settler, ConnectError> {
        let tag = consume.consumer_tag.clone();
        let tag = tag.unwrap_or_else(|| format!("transload-{}-{number}", self.context.name));
        let consumer_tag = fitting(&tag)?;
        let client = self.client.clone();
        let subscribing = subscribe(client.clone(), config, consume, consumer_tag.clone());
        let mut subscribing = std::pin::pin!(subscribing);
        // The answers come behind messages of the consumers that were started before, of which
        // there are as many as their prefetch says.
        let channel = loop {
            tokio::select! {
                biased;
                Some(arrival) = self.arrivals.recv() => self.early.push_back(arrival),
                subscribed = &mut subscribing => break subscribed?,
            }
        };
        let unacked: SharedUnacked = Arc::new(Mutex::default());
        let (settle, queue) = settlement_channel();
        let source = Source {
            adapter: self.context.name.clone(),
            queue: consume.queue.as_str().into(),
            consumer_tag: tag.into(),
            address: consume.address.clone(),
            mapping: config.address_mapping,
        };
        let lane = Arc::new(Lane { source, unacked: Arc::clone(&unacked), settle });
        self.lanes.insert(channel.number(), lane);
        let stop = self.context.stop.clone();
        Ok(Settler { client, channel, consumer_tag, queue, unacked, stop, abandoned })
    }

    /// The next thing that comes; waits for it. Cancel-safe.
    async fn next(&mut self) -> Option<Arrival> {
        match self.early.pop_front() {
            Some(arrival) => Some(arrival),
            None => self.arrivals.recv().await,
        }
    }

    fn try_next(&mut self) -> Option<Arrival> {
        self.early.pop_front().or_else(|| self.arrivals.try_recv().ok())
    }

    fn take(
        &mut self,
        arrival: Option<Arrival>,
        credit: OwnedSemaphorePermit,
        into: &mut Vec<Delivery>,
    ) -> Result<(), ReceiveError> {
        let (number, delivery) = match arrival {
            Some(Arrival::Message(number, delivery, _)) => (number, delivery),
            Some(Arrival::End(_, Some(error))) => {
                return Err(ReceiveError::Disconnected(error.into()));
            }
            Some(Arrival::End(number, None)) => {
                let queue = self.lanes.get(&number).map_or("?", |lane| &*lane.source.queue);
                let end = format!("the broker ended the consumer of queue {queue}");
                return Err(ReceiveError::Disconnected(end.into()));
            }
            None => return Err(ReceiveError::Disconnected(self.client.loss().into())),
        };
        let Some(lane) = self.lanes.get(&number).cloned() else {
            return Err(ReceiveError::Disconnected("a message came on an unknown channel".into()));
        };
        let tag = delivery.tag;
        lane.unacked.lock().unwrap_or_else(PoisonError::into_inner).deliver(tag);
        let receipt = Receipt::new(Tag(tag), credit, lane.settle.clone());
        match self.envelope(&lane.source, *delivery) {
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
        delivery: client::Delivery,
    ) -> Result<transload_envelope::Envelope, Text> {
        let length = delivery.data_bytes;
        if length > self.message_bytes_max as u64 {
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
            let stop = self.context.stop.clone();
            let arrival = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ReceiveError::Ended),
                arrival = self.next() => arrival,
            };
            self.take(arrival, credit, into)?;
            while into.len() - before < limit {
                let Some(credit) = self.context.try_credit() else { break };
                let Some(arrival) = self.try_next() else { break };
                if let Err(failure) = self.take(Some(arrival), credit, into) {
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

async fn subscribe(
    client: Client,
    config: &AmqpConfig,
    consume: &Consume,
    consumer_tag: ShortString,
) -> Result<Arc<Channel>, ConnectError> {
    let channel = client.open_channel().await.map_err(|error| connect_error("channel", error))?;
    let what = format!("queue {}", consume.queue);
    let queue = fitting(&consume.queue)?;
    let prefetch_count = consume.prefetch.unwrap_or(config.prefetch);
    let qos = basic::AMQPMethod::Qos(basic::Qos { prefetch_count, global: false });
    call(&client, &channel, &what, AMQPClass::Basic(qos)).await?;
    if let Declare::Yes(settings) = &consume.declare {
        let declare = queue::AMQPMethod::Declare(queue::Declare {
            queue: queue.clone(),
            passive: false,
            durable: settings.durable,
            exclusive: settings.exclusive,
            auto_delete: settings.auto_delete,
            nowait: false,
            arguments: arguments(&settings.arguments)?,
        });
        call(&client, &channel, &what, AMQPClass::Queue(declare)).await?;
    }
    for bind in consume.bind.iter() {
        bind_to(&client, &channel, &queue, bind).await?;
    }
    let mut arguments = FieldTable::default();
    if let Some(priority) = consume.priority {
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
    }
    let consuming = basic::AMQPMethod::Consume(basic::Consume {
        queue,
        consumer_tag,
        no_local: false,
        no_ack: false,
        exclusive: consume.exclusive,
        nowait: false,
        arguments,
    });
    call(&client, &channel, &what, AMQPClass::Basic(consuming)).await?;
    Ok(channel)
}

async fn call(
    client: &Client,
    channel: &Arc<Channel>,
    what: &str,
    method: AMQPClass,
) -> Result<(), ConnectError> {
    let answered = client.call(channel, method).await;
    answered.map(drop).map_err(|error| connect_error(what, error))
}

async fn bind_to(
    client: &Client,
    channel: &Arc<Channel>,
    queue: &ShortString,
    bind: &Bind,
) -> Result<(), ConnectError> {
    let what = format!("binding of queue {queue} to exchange {}", bind.exchange);
    let binding = queue::AMQPMethod::Bind(queue::Bind {
        queue: queue.clone(),
        exchange: fitting(&bind.exchange)?,
        routing_key: fitting(&bind.key)?,
        nowait: false,
        arguments: arguments(&bind.arguments)?,
    });
    call(client, channel, &what, AMQPClass::Queue(binding)).await
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
