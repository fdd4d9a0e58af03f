//! Services: they publish with confirms, and consume with acknowledgements.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::{BufMut, BytesMut};
use tokio::time::sleep;

use super::{
    amqp_wire::{self, Event, Reader},
    ledger::{Arrival, Books},
    produce::{Outgoing, Protocol, Stream, Verdict, unexpected},
    settings,
};

/// Declares a durable queue, and binds it if a key is given.
pub(crate) async fn declare(port: u16, queue: &str, key: Option<&str>) -> io::Result<()> {
    let mut stream = Stream::connect(port).await?;
    amqp_wire::open(&mut stream).await?;
    let mut arguments = BytesMut::new();
    arguments.put_u16(0);
    amqp_wire::short(queue, &mut arguments);
    arguments.put_u8(0b10);
    arguments.put_u32(0);
    amqp_wire::ask(&mut stream, amqp_wire::QUEUE_DECLARE, &arguments).await?;
    let Some(key) = key else { return Ok(()) };
    arguments.clear();
    arguments.put_u16(0);
    amqp_wire::short(queue, &mut arguments);
    amqp_wire::short(settings::EXCHANGE, &mut arguments);
    amqp_wire::short(key, &mut arguments);
    arguments.put_u8(0);
    arguments.put_u32(0);
    amqp_wire::ask(&mut stream, amqp_wire::QUEUE_BIND, &arguments).await
}

/// Deletes a queue, if there is one, with all that is in it.
pub(crate) async fn delete(port: u16, queue: &str) -> io::Result<()> {
    let mut stream = Stream::connect(port).await?;
    amqp_wire::open(&mut stream).await?;
    let mut arguments = BytesMut::new();
    arguments.put_u16(0);
    amqp_wire::short(queue, &mut arguments);
    arguments.put_u8(0);
    amqp_wire::ask(&mut stream, amqp_wire::QUEUE_DELETE, &arguments).await
}

/// Publishes into a queue.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    reader: Reader,
    // The broker counts the messages of a channel from 1.
    last_tag: u64,
    unconfirmed: VecDeque<(u64, u32)>,
}

impl Protocol for Publisher {
    async fn open(&mut self, stream: &mut Stream) -> io::Result<()> {
        *self = Self::default();
        amqp_wire::open(stream).await?;
        amqp_wire::ask(stream, amqp_wire::CONFIRM_SELECT, &[0]).await
    }

    fn publish(&mut self, message: Outgoing<'_>, _again: bool, out: &mut BytesMut) {
        let Outgoing { stamp, id, payload } = message;
        self.last_tag += 1;
        self.unconfirmed.push_back((self.last_tag, stamp.number));
        let key = settings::key(stamp.lane);
        amqp_wire::publish(settings::EXCHANGE, &key, id, payload, out);
    }

    fn read(
        &mut self,
        input: &mut BytesMut,
        verdicts: &mut Vec<Verdict>,
        _out: &mut BytesMut,
    ) -> io::Result<()> {
        while let Some(event) = self.reader.next(input)? {
            match event {
                Event::Ack { tag, multiple } => {
                    self.confirm(tag, multiple, Verdict::Acknowledged, verdicts);
                }
                Event::Nack { tag, multiple } => {
                    self.confirm(tag, multiple, Verdict::Refused, verdicts);
                }
                Event::Deliver(_) | Event::Answer(_) | Event::Other => {}
            }
        }
        Ok(())
    }
}

impl Publisher {
    fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        verdict: fn(u32) -> Verdict,
        verdicts: &mut Vec<Verdict>,
    ) {
        self.unconfirmed.retain(|(own, number)| {
            let meant = *own == tag || multiple && *own < tag;
            if meant {
                verdicts.push(verdict(*number));
            }
            !meant
        });
    }
}

/// Consumes a queue, and records what it gets before it acknowledges.
#[derive(Debug)]
pub(crate) struct Consumer<B> {
    pub(crate) target: usize,
    pub(crate) port: u16,
    pub(crate) ledger: Arc<B>,
}

const PREFETCH: u16 = 500;

impl<B: Books> Consumer<B> {
    /// Receives for ever.
    pub(crate) async fn run(self) {
        loop {
            // Each way in which a connection can end is what this is made for.
            let _ = self.connection().await;
            sleep(Duration::from_millis(300)).await;
        }
    }

    async fn connection(&self) -> io::Result<()> {
        let mut stream = Stream::connect(self.port).await?;
        amqp_wire::open(&mut stream).await?;
        let mut arguments = BytesMut::new();
        arguments.put_u32(0);
        arguments.put_u16(PREFETCH);
        arguments.put_u8(0);
        amqp_wire::ask(&mut stream, amqp_wire::BASIC_QOS, &arguments).await?;
        arguments.clear();
        arguments.put_u16(0);
        amqp_wire::short(settings::TARGET_QUEUE, &mut arguments);
        amqp_wire::short("", &mut arguments);
        arguments.put_u8(0);
        arguments.put_u32(0);
        amqp_wire::ask(&mut stream, amqp_wire::BASIC_CONSUME, &arguments).await?;
        let (mut reader, mut out) = (Reader::default(), BytesMut::new());
        loop {
            let mut last = None;
            while let Some(event) = reader.next(&mut stream.input)? {
                match event {
                    Event::Deliver(message) => {
                        last = Some(message.tag);
                        self.ledger.arrived(Arrival {
                            target: self.target,
                            payload: &message.payload,
                            id: &message.message_id,
                            redelivered: message.redelivered,
                        });
                    }
                    // The queue is gone.
                    Event::Answer((60, 30)) => return Err(unexpected("the consumer is cancelled")),
                    Event::Ack { .. } | Event::Nack { .. } | Event::Answer(_) | Event::Other => {}
                }
            }
            if let Some(tag) = last {
                amqp_wire::ack_all(tag, &mut out);
                stream.write(&out).await?;
                out.clear();
            }
            stream.more().await?;
        }
    }
}
