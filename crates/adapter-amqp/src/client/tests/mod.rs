//! The client against a scripted broker, which does what real ones seldom do.

mod consuming;

use std::time::Duration;

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, ProtocolVersion, parse_frame},
    protocol::{
        basic::{self, AMQPProperties},
        channel::{self, AMQPMethod as OfChannel},
        confirm,
        connection::{self, AMQPMethod as OfConnection},
    },
    types::FieldTable,
};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::timeout,
};

use super::{input::frame_bytes, *};
use crate::{connect::Purpose, error::Reaction};

const PAYLOAD_BYTES_MAX: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_mins(1);

/// The broker's side.
struct Broker {
    stream: DuplexStream,
    read: BytesMut,
}

impl Broker {
    async fn frame(&mut self) -> Option<AMQPFrame> {
        loop {
            if let Ok((rest, frame)) = parse_frame(&self.read[..]) {
                let length = self.read.len() - rest.len();
                drop(self.read.split_to(length));
                return Some(frame);
            }
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn method(&mut self) -> (u16, AMQPClass) {
        loop {
            let frame = self.frame().await.unwrap();
            if let AMQPFrame::Method(channel, method) = frame {
                return (channel, method);
            }
            assert_eq!(frame, AMQPFrame::Heartbeat);
        }
    }

    async fn send(&mut self, frame: AMQPFrame) {
        self.stream.write_all(&frame_bytes(&frame).unwrap()).await.unwrap();
    }

    async fn send_method(&mut self, channel: u16, method: AMQPClass) {
        self.send(AMQPFrame::Method(channel, method)).await;
    }

    async fn connection(&mut self, method: OfConnection) {
        self.send_method(0, AMQPClass::Connection(method)).await;
    }

    async fn start(&mut self, mechanisms: &str) {
        let header = AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1());
        assert_eq!(self.frame().await, Some(header));
        self.connection(OfConnection::Start(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: FieldTable::default(),
            mechanisms: mechanisms.into(),
            locales: "en_US".into(),
        }))
        .await;
    }

    /// Lets the client in.
    async fn log_in(&mut self, channel_max: u16) {
        self.start("PLAIN AMQPLAIN").await;
        let (_, AMQPClass::Connection(OfConnection::StartOk(start_ok))) = self.method().await
        else {
            panic!("connection.start-ok is next")
        };
        assert_eq!(start_ok.response.as_bytes(), b"\0u\0p");
        let tune = connection::Tune { channel_max, frame_max: 4096, heartbeat: 60 };
        self.connection(OfConnection::Tune(tune)).await;
        let (_, AMQPClass::Connection(OfConnection::TuneOk(agreed))) = self.method().await else {
            panic!("connection.tune-ok is next")
        };
        assert_eq!(
            (agreed.channel_max, agreed.frame_max, agreed.heartbeat),
            (channel_max, 4096, 10)
        );
        let (_, AMQPClass::Connection(OfConnection::Open(open))) = self.method().await else {
            panic!("connection.open is next")
        };
        assert_eq!(open.virtual_host.as_str(), "v");
        self.connection(OfConnection::OpenOk(connection::OpenOk {})).await;
    }

    /// Opens the channel that the client asks for.
    async fn open_channel(&mut self) -> u16 {
        let (number, method) = self.method().await;
        assert_eq!(method, AMQPClass::Channel(OfChannel::Open(channel::Open {})));
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        assert_eq!(self.method().await, (number, AMQPClass::Confirm(select)));
        let ok = OfChannel::OpenOk(channel::OpenOk {});
        self.send_method(number, AMQPClass::Channel(ok)).await;
        let ok = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
        self.send_method(number, AMQPClass::Confirm(ok)).await;
        number
    }

    /// Takes a message; its routing key and payload.
    async fn message(&mut self, number: u16) -> (String, Vec<u8>) {
        let (channel, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) = self.method().await
        else {
            panic!("basic.publish is next")
        };
        assert_eq!(channel, number);
        let Some(AMQPFrame::Header(_, header)) = self.frame().await else {
            panic!("the header is next")
        };
        let mut payload = Vec::new();
        while (payload.len() as u64) < header.body_size {
            let Some(AMQPFrame::Body(_, part)) = self.frame().await else {
                panic!("the content is next")
            };
            payload.extend(part);
        }
        (publish.routing_key.to_string(), payload)
    }

    async fn ack(&mut self, number: u16, delivery_tag: u64, multiple: bool) {
        let ack = basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple });
        self.send_method(number, AMQPClass::Basic(ack)).await;
    }

    async fn close_channel(&mut self, number: u16, reply_code: u16) {
        let reply_text = "TEXT".into();
        let close = channel::Close { reply_code, reply_text, class_id: 60, method_id: 40 };
        self.send_method(number, AMQPClass::Channel(OfChannel::Close(close))).await;
        let ok = AMQPClass::Channel(OfChannel::CloseOk(channel::CloseOk {}));
        assert_eq!(self.method().await, (number, ok));
    }

    async fn close(&mut self, reply_code: u16) {
        let reply_text = "TEXT".into();
        let close = connection::Close { reply_code, reply_text, class_id: 0, method_id: 0 };
        self.connection(OfConnection::Close(close)).await;
    }

    async fn closed(&mut self) -> bool {
        timeout(DEADLINE, async { while self.frame().await.is_some() {} }).await.is_ok()
    }
}

fn pair(room: usize) -> (Io, Broker) {
    let (near, far) = duplex(room);
    (Io::new(Box::new(near)), Broker { stream: far, read: BytesMut::new() })
}

type Connected = (Client, mpsc::Receiver<Arrival>);

async fn log_in(io: Io) -> Result<Connected> {
    let uri = "amqp://u:p@h/v?heartbeat=10".parse().unwrap();
    let teller = Teller { name: "a".into(), place: "h".into(), purpose: Purpose::Publish };
    Client::log_in(io, &uri, "name", PAYLOAD_BYTES_MAX, &teller, &TaskTracker::new()).await
}

async fn connected(room: usize, channel_max: u16) -> (Client, Broker) {
    let (io, mut broker) = pair(room);
    let (client, ()) = tokio::join!(log_in(io), broker.log_in(channel_max));
    (client.unwrap().0, broker)
}

async fn with_channel() -> (Client, Broker, Arc<Channel>) {
    let (client, mut broker) = connected(64 * 1024, 10).await;
    let (channel, number) = tokio::join!(client.open_channel(), broker.open_channel());
    let channel = channel.unwrap();
    assert_eq!(channel.number(), number);
    (client, broker, channel)
}

fn frames(channel: &Channel, payloads: &[&[u8]]) -> Frames {
    let mut frames = Frames::new(channel.number(), 4096, true);
    for (place, payload) in payloads.iter().enumerate() {
        let message_id = Some(format!("m{place}").into());
        let properties = BasicProperties { message_id, ..BasicProperties::default() };
        frames.push("x", &format!("k{place}"), &properties, &Bytes::copy_from_slice(payload));
    }
    frames
}

async fn lost(client: &Client) -> Error {
    let mut state = client.state().clone();
    let lost = state.wait_for(|state| matches!(state, LinkState::Lost(_)));
    drop(timeout(DEADLINE, lost).await.unwrap());
    client.loss()
}

#[tokio::test(start_paused = true)]
async fn calls_are_written_in_order_and_answered_each_for_itself() {
    let (client, mut broker, channel) = with_channel().await;
    let first = client.publish(&channel, frames(&channel, &[b"a", &[b'b'; 9000]])).await.unwrap();
    let second = client.publish(&channel, frames(&channel, &[b""])).await.unwrap();
    assert_eq!(broker.message(1).await, ("k0".to_owned(), b"a".to_vec()));
    assert_eq!(broker.message(1).await, ("k1".to_owned(), vec![b'b'; 9000]));
    assert_eq!(broker.message(1).await, ("k0".to_owned(), Vec::new()));
    broker.ack(1, 3, false).await;
    assert_eq!(second.await.unwrap().each, [Answer::Taken]);
    broker.ack(1, 2, true).await;
    assert_eq!(first.await.unwrap().each, [Answer::Taken, Answer::Taken]);
}

#[tokio::test(start_paused = true)]
async fn what_is_returned_is_told_to_the_call_that_waits() {
    let (client, mut broker, channel) = with_channel().await;
    let answers = client.publish(&channel, frames(&channel, &[b"hello"])).await.unwrap();
    broker.message(1).await;
    let returned = basic::AMQPMethod::Return(basic::Return {
        reply_code: 312,
        reply_text: "NO_ROUTE".into(),
        exchange: "x".into(),
        routing_key: "k0".into(),
    });
    broker.send_method(1, AMQPClass::Basic(returned)).await;
    let properties = AMQPProperties::default().with_message_id("m0".into());
    let header = AMQPContentHeader { class_id: 60, body_size: 5, properties };
    broker.send(AMQPFrame::Header(1, header)).await;
    broker.send(AMQPFrame::Body(1, b"hel".to_vec())).await;
    broker.send(AMQPFrame::Body(1, b"lo".to_vec())).await;
    broker.ack(1, 1, false).await;
    let answers = answers.await.unwrap();
    let reason = "312 NO_ROUTE".to_owned();
    let (exchange, routing_key) = ("x".into(), "k0".into());
    let message_id = Some("m0".into());
    assert_eq!(answers.returned, [Returned { message_id, exchange, routing_key, reason }]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_the_broker_ends_tells_why_and_its_number_is_free_again() {
    let (client, mut broker, channel) = with_channel().await;
    let answers = client.publish(&channel, frames(&channel, &[b"a", b"b"])).await.unwrap();
    broker.message(1).await;
    broker.message(1).await;
    broker.ack(1, 1, false).await;
    broker.close_channel(1, 404).await;
    let answers = answers.await.unwrap();
    assert_eq!(answers.each, [Answer::Taken, Answer::Open]);
    let reaction = crate::error::reaction(&answers.end.unwrap());
    assert!(matches!(reaction, Reaction::ChannelClosed(_, _)), "{reaction:?}");
    assert!(channel.has_ended());
    let answers = client.publish(&channel, frames(&channel, &[b"a"])).await.unwrap();
    let reaction = crate::error::reaction(&answers.await.unwrap().end.unwrap());
    assert_eq!(reaction, Reaction::ChannelGone);
    for number in [2, 3, 4, 5, 6, 7, 8, 9, 10, 1] {
        let (next, opened) = tokio::join!(client.open_channel(), broker.open_channel());
        assert_eq!((next.unwrap().number(), opened), (number, number));
        broker.close_channel(number, 404).await;
        assert!(matches!(&*client.state().borrow(), LinkState::Open));
    }
}

#[tokio::test(start_paused = true)]
async fn channels_that_nobody_uses_are_closed_when_another_is_wanted() {
    let (client, mut broker) = connected(4096, 2).await;
    let open = async |broker: &mut Broker| {
        let (channel, _) = tokio::join!(client.open_channel(), broker.open_channel());
        channel.unwrap()
    };
    let first = open(&mut broker).await;
    let second = open(&mut broker).await;
    let none = client.open_channel().await.unwrap_err();
    assert_eq!(crate::error::reaction(&none), Reaction::NoRoom);
    drop(first);
    assert!(client.open_channel().await.is_err(), "both sides have to close it first");
    let (number, AMQPClass::Channel(OfChannel::Close(_))) = broker.method().await else {
        panic!("channel.close is next")
    };
    assert_eq!(number, 1);
    let ok = OfChannel::CloseOk(channel::CloseOk {});
    broker.send_method(1, AMQPClass::Channel(ok)).await;
    // Read before the next command only if the task has seen it; its answer comes in order.
    broker.connection(OfConnection::Blocked(connection::Blocked { reason: "r".into() })).await;
    let mut state = client.state().clone();
    state.wait_for(|state| matches!(state, LinkState::Blocked(_))).await.unwrap();
    assert_eq!(open(&mut broker).await.number(), 1);
    assert!(!second.has_ended());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_keeps_the_answers_that_there_are() {
    let (client, mut broker, channel) = with_channel().await;
    let mut answers = client.publish(&channel, frames(&channel, &[b"a", b"b"])).await.unwrap();
    broker.message(1).await;
    broker.message(1).await;
    broker.ack(1, 2, false).await;
    assert!(timeout(Duration::from_secs(5), &mut answers).await.is_err());
    client.give_up(&channel).await.unwrap();
    assert_eq!(answers.await.unwrap().each, [Answer::Open, Answer::Taken]);
    assert!(channel.has_ended());
    let (_, AMQPClass::Channel(OfChannel::Close(_))) = broker.method().await else {
        panic!("channel.close is next")
    };
    // What the broker had sent before it heard of it.
    broker.ack(1, 1, false).await;
    let ok = OfChannel::CloseOk(channel::CloseOk {});
    broker.send_method(1, AMQPClass::Channel(ok)).await;
    let (channel, number) = tokio::join!(client.open_channel(), broker.open_channel());
    assert_eq!(channel.unwrap().number(), number);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_paused_holds_its_messages() {
    let (client, mut broker, channel) = with_channel().await;
    for active in [false, true] {
        let flow = AMQPClass::Channel(OfChannel::Flow(channel::Flow { active }));
        broker.send_method(1, flow).await;
        let ok = AMQPClass::Channel(OfChannel::FlowOk(channel::FlowOk { active }));
        assert_eq!(broker.method().await, (1, ok));
        if !active {
            let held = client.publish(&channel, frames(&channel, &[b"a"])).await.unwrap();
            // A second channel shows that the task has taken the call by now.
            let (second, _) = tokio::join!(client.open_channel(), broker.open_channel());
            drop((held, second));
        }
    }
    assert_eq!(broker.message(1).await.1, b"a");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_silent_is_lost_and_one_that_beats_is_not() {
    let (client, mut broker) = connected(4096, 2).await;
    for _ in 0..20 {
        assert_eq!(broker.frame().await, Some(AMQPFrame::Heartbeat));
        broker.send(AMQPFrame::Heartbeat).await;
    }
    assert!(matches!(&*client.state().borrow(), LinkState::Open));
    let from = tokio::time::Instant::now();
    let error = lost(&client).await;
    assert!(matches!(error, Error::Silent), "{error}");
    assert!(from.elapsed() <= Duration::from_secs(25), "{:?}", from.elapsed());
    assert!(broker.closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_ends_the_connection_is_answered_and_tells_why() {
    let (client, mut broker, channel) = with_channel().await;
    let answers = client.publish(&channel, frames(&channel, &[b"a"])).await.unwrap();
    broker.message(1).await;
    broker.close(320).await;
    let ok = AMQPClass::Connection(OfConnection::CloseOk(connection::CloseOk {}));
    assert_eq!(broker.method().await, (0, ok));
    assert!(broker.closed().await);
    assert!(lost(&client).await.to_string().contains("TEXT"));
    assert!(answers.await.unwrap().end.unwrap().to_string().contains("TEXT"));
    let error = client.publish(&channel, frames(&channel, &[b"a"])).await.unwrap_err();
    assert!(error.to_string().contains("TEXT"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_the_protocol_does_not_allow_ends_the_connection() {
    for (number, method) in [
        (1, basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 7, multiple: false })),
        (9, basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 1, multiple: false })),
        (1, basic::AMQPMethod::GetEmpty(basic::GetEmpty {})),
    ] {
        let (client, mut broker, _channel) = with_channel().await;
        broker.send_method(number, AMQPClass::Basic(method.clone())).await;
        assert!(crate::connect::is_lost(&lost(&client).await), "{method:?}");
    }
    let (client, mut broker, _channel) = with_channel().await;
    broker.send(AMQPFrame::Body(1, b"x".to_vec())).await;
    lost(&client).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_says_goodbye() {
    let (client, mut broker, channel) = with_channel().await;
    let answers = client.publish(&channel, frames(&channel, &[b"a"])).await.unwrap();
    drop(client);
    broker.message(1).await;
    let (0, AMQPClass::Connection(OfConnection::Close(_))) = broker.method().await else {
        panic!("connection.close is next")
    };
    broker.ack(1, 1, false).await;
    broker.connection(OfConnection::CloseOk(connection::CloseOk {})).await;
    assert_eq!(answers.await.unwrap().each, [Answer::Taken]);
    assert!(broker.closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_read_makes_calls_wait_and_can_be_left() {
    let (client, mut broker) = connected(4096, 2).await;
    let (channel, _) = tokio::join!(client.open_channel(), broker.open_channel());
    let channel = channel.unwrap();
    let large = vec![b'x'; 3 << 20];
    let mut taken = 0;
    let publish = || client.publish(&channel, frames(&channel, &[&large]));
    while timeout(Duration::from_secs(1), publish()).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "there is a bound");
    }
    assert!(taken >= CALLS_MAX, "those that are not taken wait in the channel");
    timeout(DEADLINE, client.close()).await.unwrap();
    drop(broker);
}

async fn refused(script: impl AsyncFnOnce(&mut Broker)) -> Reaction {
    let (io, mut broker) = pair(4096);
    let script = async {
        script(&mut broker).await;
        broker
    };
    let (client, _broker) = tokio::join!(log_in(io), script);
    crate::error::reaction(&client.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_from_a_broken_line() {
    let reaction = refused(async |broker| {
        broker.start("PLAIN").await;
        broker.method().await;
        broker.close(403).await;
    });
    let reaction = reaction.await;
    let Reaction::ChannelClosed(_, text) = reaction else { panic!("{reaction:?}") };
    assert_eq!(text, "TEXT");
    let reaction = refused(async |broker| broker.start("EXTERNAL").await).await;
    let Reaction::Refused(text) = reaction else { panic!("{reaction:?}") };
    assert!(text.contains("EXTERNAL"), "{text}");
    let reaction = refused(async |broker| {
        broker.frame().await;
        broker.stream.write_all(b"AMQP\x00\x01\x00\x00").await.unwrap();
    });
    assert!(matches!(reaction.await, Reaction::Refused(_)));
    for text in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\x01\x00\x00\x00\x00\x00\x01\x00\xce"] {
        let reaction = refused(async |broker| broker.stream.write_all(text).await.unwrap());
        assert_eq!(reaction.await, Reaction::Lost);
    }
    let reaction = refused(async |broker| broker.stream.shutdown().await.unwrap());
    assert_eq!(reaction.await, Reaction::Lost);
}
