//! Devices: they publish at `QoS` 1 and subscribe with a persistent session.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::sleep;

use super::{
    ledger::{Arrival, Books},
    mqtt_wire::{self, Connect, Packet, Version},
    produce::{Outgoing, Protocol, Stream, Verdict, unexpected},
    settings,
};

/// A device that publishes.
#[derive(Debug)]
pub(crate) struct Device {
    connect: Connect,
    // The message numbers of packet ids in use are those near this one.
    newest: u32,
}

/// More than any window, so that no two unacknowledged messages have the same packet id.
const PACKET_IDS: u32 = 60_000;

impl Device {
    pub(crate) fn new(lane: u16, version: Version, persistent: bool) -> Self {
        let client_id = format!("producer-{lane}");
        Self {
            connect: Connect { version, client_id, persistent, receive_maximum: 100 },
            newest: 0,
        }
    }

    /// A message keeps its packet id when it is sent again, section 2.2.1 of the standard.
    fn packet_id(number: u32) -> u16 {
        u16::try_from(number % PACKET_IDS + 1).unwrap_or(1)
    }

    /// The message that a packet id stands for.
    fn number(&self, packet_id: u16) -> u32 {
        let low = u32::from(packet_id).saturating_sub(1);
        let round = self.newest - self.newest % PACKET_IDS;
        let number = round + low;
        if number > self.newest { number.saturating_sub(PACKET_IDS) } else { number }
    }
}

async fn open(connect: &Connect, stream: &mut Stream) -> io::Result<bool> {
    let mut out = BytesMut::new();
    mqtt_wire::connect(connect, &mut out);
    stream.write(&out).await?;
    let packet = stream.take(|input| mqtt_wire::parse(connect.version, input)).await?;
    if let Packet::ConnAck { session_present, code: 0 } = packet {
        Ok(session_present)
    } else {
        Err(unexpected(&format!("instead of a CONNACK: {packet:?}")))
    }
}

impl Protocol for Device {
    async fn open(&mut self, stream: &mut Stream) -> io::Result<()> {
        open(&self.connect, stream).await.map(drop)
    }

    fn publish(&mut self, message: Outgoing<'_>, again: bool, out: &mut BytesMut) {
        let Outgoing { stamp, id, payload } = message;
        self.newest = self.newest.max(stamp.number);
        mqtt_wire::publish(
            self.connect.version,
            again && self.connect.persistent,
            &settings::topic(stamp.lane),
            Self::packet_id(stamp.number),
            id,
            payload,
            out,
        );
    }

    fn read(
        &mut self,
        input: &mut BytesMut,
        verdicts: &mut Vec<Verdict>,
        _out: &mut BytesMut,
    ) -> io::Result<()> {
        while let Some(packet) = mqtt_wire::parse(self.connect.version, input)? {
            if let Packet::PubAck { packet_id, code } = packet {
                let number = self.number(packet_id);
                verdicts.push(if code < 0x80 {
                    Verdict::Acknowledged(number)
                } else {
                    Verdict::Refused(number)
                });
            }
        }
        Ok(())
    }
}

/// A subscriber, which records what it gets before it acknowledges.
#[derive(Debug)]
pub(crate) struct Subscriber<B> {
    pub(crate) target: usize,
    pub(crate) port: u16,
    pub(crate) ledger: Arc<B>,
    /// Whether the session outlives the connection.
    pub(crate) persistent: bool,
    pub(crate) version: Version,
    /// Becomes true with the first subscription.
    pub(crate) subscribed: Arc<AtomicBool>,
}

impl<B: Books> Subscriber<B> {
    fn connect(&self) -> Connect {
        let client_id = format!("consumer-{}", self.target);
        Connect {
            version: self.version,
            client_id,
            persistent: self.persistent,
            receive_maximum: 200,
        }
    }

    /// Makes the session, before there is anything to receive.
    pub(crate) async fn subscribe(&self) -> io::Result<()> {
        let mut stream = Stream::connect(self.port).await?;
        let connect = self.connect();
        open(&connect, &mut stream).await?;
        let mut out = BytesMut::new();
        mqtt_wire::subscribe(connect.version, 1, settings::FILTER, &mut out);
        stream.write(&out).await?;
        loop {
            let packet = stream.take(|input| mqtt_wire::parse(connect.version, input)).await?;
            if let Packet::SubAck { codes } = packet {
                return if codes == [1] {
                    Ok(())
                } else {
                    Err(unexpected(&format!("the subscription was answered {codes:?}")))
                };
            }
        }
    }

    /// Receives for ever.
    pub(crate) async fn run(self) {
        loop {
            // Each way in which a connection can end is what this is made for.
            let _ = self.connection().await;
            sleep(Duration::from_millis(150)).await;
        }
    }

    async fn connection(&self) -> io::Result<()> {
        let mut stream = Stream::connect(self.port).await?;
        let connect = self.connect();
        let session_present = open(&connect, &mut stream).await?;
        let mut out = BytesMut::new();
        if !session_present {
            // What was in the session is lost then, and the books will show it.
            mqtt_wire::subscribe(connect.version, 1, settings::FILTER, &mut out);
        }
        loop {
            while let Some(packet) = mqtt_wire::parse(connect.version, &mut stream.input)? {
                if let Packet::SubAck { .. } = packet {
                    self.subscribed.store(true, Ordering::Relaxed);
                } else if let Packet::Publish(publish) = packet {
                    self.ledger.arrived(Arrival {
                        target: self.target,
                        payload: &publish.payload,
                        id: &publish.message_id,
                        redelivered: publish.duplicate,
                    });
                    mqtt_wire::puback(publish.packet_id, &mut out);
                }
            }
            stream.write(&out).await?;
            out.clear();
            stream.more().await?;
        }
    }
}
