//! The task against a scripted broker at the other end of a pipe, where time stands still unless
//! everybody waits for it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Cx, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::oneshot,
    time::sleep,
};
use transload_adapter::{Context, Delivery, Inbound, ReceiveError, Settlement, settlement_channel};

use super::{
    arrivals::arrivals,
    driver::{Driver, Unowned},
    handshake::Granted,
    inbound::ClientInbound,
    limits,
    subscription::Subscription,
};
use crate::{
    client::{
        ClientConfig,
        link::Link,
        tests::broker::{Peer, context, publish},
    },
    codec::{Packet, QoS, Reason, Version},
    io::Io,
};

/// Counts writes.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Cx<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.0).poll_write(cx, bytes);
        if wrote.is_ready() {
            this.1.fetch_add(1, Ordering::Relaxed);
        }
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

struct Rig {
    peer: Peer,
    inbound: ClientInbound,
    answer: oneshot::Receiver<Result<(), String>>,
    link: Arc<Link>,
    context: Context,
    writes: Arc<AtomicUsize>,
}

const KEEP_ALIVE: Duration = Duration::from_secs(10);
const GRANTED: Granted = Granted { resumed: false, packet_bytes_max: None, keep_alive: KEEP_ALIVE };

/// A connection that is subscribed, through a pipe that takes so many bytes.
async fn rig(settings: &str, granted: Granted, pipe_bytes: usize) -> Rig {
    let config: ClientConfig = toml::from_str(&format!("url = 'mqtt://h'\n{settings}")).unwrap();
    let (ours, theirs) = duplex(pipe_bytes);
    let (context, link, writes) = (context(&[]), Link::new(), Arc::default());
    let (waiting_sender, answer) = oneshot::channel();
    let filters = vec![("a/#".to_owned(), QoS::AtLeastOnce)];
    let (queue, waiting) = arrivals(limits(&config));
    let (settle, settlements) = settlement_channel();
    let connection = Unowned {
        io: Io::new(Box::new(Counted(ours, Arc::clone(&writes)))).copying_frames(),
        config: &config,
        granted: &granted,
        subscription: Subscription::new(filters, granted.resumed, waiting_sender),
        queue,
        settlements,
    };
    let driver = Driver::new(connection, "me".to_owned(), &context, &link).unwrap();
    context.tasks.spawn(driver.run());
    let inbound = ClientInbound {
        queue: waiting,
        settle,
        context: context.clone(),
        link: Arc::clone(&link),
        batch: Vec::new(),
    };
    let mut peer = Peer::new(Box::new(theirs));
    assert_eq!(peer.expect_subscribe().await, 1);
    Rig { peer, inbound, answer, link, context, writes }
}

impl Rig {
    async fn receive(&mut self, count: usize) -> Vec<Delivery> {
        let mut got = Vec::new();
        while got.len() < count {
            let limit = count - got.len();
            self.inbound.receive(&mut got, limit).await.unwrap();
        }
        got
    }

    async fn expect_acks(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.peer.packet().await {
                Some(Packet::Ack(ack)) => ids.push(ack.packet_id),
                Some(Packet::PingReq) => {}
                other => panic!("PUBACK is expected, not {other:?}"),
            }
        }
        ids
    }

    /// Why the connection was lost.
    async fn lost(&self) -> String {
        self.link.lost().await;
        self.link.reason().to_string()
    }
}

fn accept(got: impl IntoIterator<Item = Delivery>) {
    for delivery in got {
        delivery.receipt.settle(Settlement::Accepted);
    }
}

fn publishes(ids: impl IntoIterator<Item = u16>, payload: &[u8]) -> BytesMut {
    ids.into_iter().flat_map(|id| publish(Version::V5, id, payload)).collect()
}

/// Until everybody waits for what does not come.
async fn idle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_acknowledgements_of_a_run_leave_in_order_and_in_one_write() {
    let mut rig = rig("", GRANTED, 1 << 20).await;
    rig.peer.suback(1, Reason(1)).await;
    assert_eq!((&mut rig.answer).await, Ok(Ok(())));
    let bytes = publishes(1..=200, b"x");
    rig.peer.write(&bytes).await;
    let got = rig.receive(200).await;
    let before = rig.writes.load(Ordering::Relaxed);
    accept(got.into_iter().rev());
    assert_eq!(rig.expect_acks(200).await, (1..=200).collect::<Vec<_>>());
    assert_eq!(rig.writes.load(Ordering::Relaxed) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_without_room_and_acknowledgements_leave_all_the_same() {
    let mut rig = rig("max_inflight = 2", GRANTED, 100).await;
    rig.peer.suback(1, Reason(1)).await;
    let (reader, mut writer) =
        tokio::io::split(std::mem::replace(&mut rig.peer.stream, Box::new(tokio::io::empty())));
    rig.peer.stream = Box::new(tokio::io::join(reader, tokio::io::sink()));
    let bytes = publishes(1..=100, &[b'x'; 1000]);
    let flood = rig.context.tasks.spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer
    });
    idle().await;
    assert!(!flood.is_finished());
    for id in 1..=100 {
        let got = rig.receive(1).await;
        idle().await;
        // A few wait, are held, and are in the buffers.
        assert!(!flood.is_finished() || id > 90, "{id}");
        accept(got);
        assert_eq!(rig.expect_acks(1).await, [id]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_many_messages_are_released() {
    let mut rig = rig("max_inflight = 2", GRANTED, 1 << 20).await;
    rig.peer.suback(1, Reason(1)).await;
    rig.peer.write(&publishes(1..=2, b"x")).await;
    let after = Duration::from_secs(5);
    for delivery in rig.receive(2).await {
        delivery.receipt.settle(Settlement::Released { after });
    }
    idle().await;
    rig.peer.write(&publishes(3..=4, b"y")).await;
    let start = tokio::time::Instant::now();
    let got = rig.receive(4).await;
    assert!(start.elapsed() > after / 2, "not before the first have been offered again");
    let payloads: Vec<_> = got.iter().map(|one| one.envelope.payload.clone()).collect();
    assert_eq!(payloads, ["x", "x", "y", "y"]);
    accept(got);
    assert_eq!(rig.expect_acks(4).await, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn messages_wait_in_bytes_too_and_those_of_quality_0_are_dropped() {
    let settings = "buffer_messages = 2\nbuffer_bytes = '40KiB'";
    let mut rig = rig(settings, GRANTED, 1 << 20).await;
    rig.peer.suback(1, Reason(1)).await;
    let mut bytes = publishes([0, 0, 0, 0, 0], b"small");
    bytes.extend_from_slice(&publishes(1..=3, &[b'x'; 8 * 1024]));
    rig.peer.write(&bytes).await;
    idle().await;
    // One of 8 KiB waits, as a quarter of the bytes allows; the next is held.
    let got = rig.receive(3).await;
    let ids: Vec<_> = got.iter().map(|one| one.envelope.payload.len()).collect();
    assert_eq!(ids, [5, 5, 8 * 1024]);
    accept(got);
    assert_eq!(rig.expect_acks(1).await, [1]);
    accept(rig.receive(2).await);
    assert_eq!(rig.expect_acks(2).await, [2, 3]);
    assert!(!rig.link.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_asked_and_then_lost() {
    let mut rig = rig("", GRANTED, 1 << 20).await;
    rig.peer.suback(1, Reason(1)).await;
    let start = tokio::time::Instant::now();
    for round in 1..3 {
        sleep(KEEP_ALIVE).await;
        assert_eq!(rig.peer.packet().await, Some(Packet::PingReq));
        assert_eq!(start.elapsed().as_secs(), KEEP_ALIVE.as_secs() * round);
        rig.peer.write(b"\xd0\0").await;
    }
    sleep(KEEP_ALIVE).await;
    assert_eq!(rig.peer.packet().await, Some(Packet::PingReq));
    let reason = rig.lost().await;
    assert!(reason.contains("keep-alive"), "{reason}");
    assert_eq!(start.elapsed().as_secs(), KEEP_ALIVE.as_secs() * 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_is_no_silence() {
    let mut rig = rig("max_inflight = 1", GRANTED, 1 << 20).await;
    rig.peer.suback(1, Reason(1)).await;
    rig.peer.write(&publishes(1..=9, b"x")).await;
    for _ in 0..6 {
        sleep(KEEP_ALIVE).await;
        assert_eq!(rig.peer.packet().await, Some(Packet::PingReq));
        rig.peer.write(b"\xd0\0").await;
    }
    accept(rig.receive(9).await);
    assert_eq!(rig.expect_acks(9).await, (1..=9).collect::<Vec<_>>());
    assert!(!rig.link.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_no_acknowledgements_is_lost() {
    let mut rig = rig("", GRANTED, 300).await;
    rig.peer.suback(1, Reason(1)).await;
    rig.peer.write(&publishes(1..=100, b"x")).await;
    accept(rig.receive(100).await);
    // It is not silent.
    while !rig.link.is_lost() {
        sleep(KEEP_ALIVE / 2).await;
        // The last one finds nobody.
        drop(rig.peer.stream.write(b"\xd0\0").await);
    }
    let reason = rig.lost().await;
    assert!(reason.contains("takes no acknowledgements"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn the_broker_says_why_it_ends_the_connection() {
    for (frame, reason) in [
        (
            &b"\xe0\x07\x8e\x05\x1f\0\x02hi"[..],
            "session taken over (0x8e): hi; another client uses the client_id `me`",
        ),
        (b"\xe0\x01\x8b", "server shutting down (0x8b)"),
        (b"\xe0\x01\xff", "an unknown reason (0xff)"),
    ] {
        let mut rig = rig("", GRANTED, 1 << 20).await;
        // What came before is received all the same.
        let mut bytes = publishes([1], b"x");
        bytes.extend_from_slice(frame);
        rig.peer.write(&bytes).await;
        assert_eq!(rig.lost().await, format!("the broker ended the connection: {reason}"));
        assert_eq!(rig.receive(1).await.len(), 1);
        let after = rig.inbound.receive(&mut Vec::new(), 1).await;
        assert!(matches!(after, Err(ReceiveError::Disconnected(_))), "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_the_protocol_is_told_to_both_sides() {
    for (frame, why, code) in [
        (&b"\x34\x06\0\x01a\0\x01\0"[..], "quality of service 2", 0x82),
        (b"\x30\x07\0\x01a\x03\x23\0\x01", "topic alias", 0x94),
        (b"\x30\x04\0\x01#\0", "topic name", 0x90),
        (b"\x20\x03\0\0\0", "CONNACK comes once", 0x82),
        (b"\xf0\0", "AUTH", 0x82),
        (b"\xd1\0", "reserved flags", 0x81),
        (b"\x30\xff\xff\xff\xff\x01", "remaining length", 0x81),
        (b"\x30\xff\x7f", "`max_packet_bytes`", 0x95),
    ] {
        let mut rig = rig("max_packet_bytes = '1KiB'", GRANTED, 1 << 20).await;
        rig.peer.write(frame).await;
        let reason = rig.lost().await;
        assert!(reason.contains(why), "{why}: {reason}");
        let Some(Packet::Disconnect(told)) = rig.peer.packet().await else { panic!("{why}") };
        assert_eq!(told.reason, Reason(code), "{why}");
        assert_eq!(rig.peer.packet().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_suback_that_answers_nothing_is_lost() {
    for frame in [&b"\x90\x04\0\x02\0\x01"[..], b"\x90\x05\0\x01\0\x01\x01"] {
        let mut rig = rig("", GRANTED, 1 << 20).await;
        rig.peer.write(frame).await;
        let reason = rig.lost().await;
        assert!(reason.contains("SUBACK"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_resumed_starts_with_its_first_message() {
    let granted = Granted { resumed: true, ..GRANTED };
    let mut rig = rig("", granted, 1 << 20).await;
    rig.peer.write(&publishes(1..=3, b"x")).await;
    assert_eq!((&mut rig.answer).await, Ok(Ok(())));
    accept(rig.receive(3).await);
    assert_eq!(rig.expect_acks(3).await, [1, 2, 3]);
    // A refusal that comes late loses the link.
    rig.peer.suback(1, Reason::NOT_AUTHORIZED).await;
    let reason = rig.lost().await;
    assert_eq!(reason, "a/#: the broker refuses the subscription: not authorized (0x87)");
}

#[tokio::test(start_paused = true)]
async fn a_new_session_starts_when_messages_fill_the_queue() {
    let mut rig = rig("max_inflight = 2", GRANTED, 1 << 20).await;
    rig.peer.write(&publishes(1..=2, b"x")).await;
    idle().await;
    assert!(rig.answer.try_recv().is_err(), "the answer may be next");
    rig.peer.write(&publishes(3..=3, b"x")).await;
    assert_eq!((&mut rig.answer).await, Ok(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_lets_the_last_acknowledgements_out() {
    let mut rig = rig("max_inflight = 2", GRANTED, 1 << 20).await;
    rig.peer.suback(1, Reason(1)).await;
    rig.peer.write(&publishes(1..=5, b"x")).await;
    let mut got = rig.receive(2).await;
    rig.context.stop.cancel();
    idle().await;
    // What had been read already is still received.
    while let Ok(1..) = rig.inbound.receive(&mut got, 10).await {}
    assert!(!rig.link.is_lost());
    let (count, ids) = (got.len(), (1..=u16::try_from(got.len()).unwrap()).collect::<Vec<_>>());
    assert!((2..=4).contains(&count), "{count}");
    accept(got);
    assert_eq!(rig.expect_acks(count).await, ids);
    assert!(matches!(rig.peer.packet().await, Some(Packet::Disconnect(_))));
    assert_eq!(rig.peer.packet().await, None);
    // It reads until the broker closes, so that nothing is lost by a reset.
    rig.peer.write(&publishes(6..=9, b"x")).await;
    assert!(matches!(rig.inbound.receive(&mut Vec::new(), 1).await, Err(ReceiveError::Ended)));
    rig.context.tasks.close();
    drop(rig.peer);
    rig.context.tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn many_credits_are_taken_at_once_and_no_more_than_there_are() {
    let mut rig = rig("", GRANTED, 1 << 20).await;
    rig.peer.write(&publishes(1..=20, b"x")).await;
    let all = rig.context.credits.available_permits();
    let most = u32::try_from(all - 5).unwrap();
    let others = Arc::clone(&rig.context.credits).acquire_many_owned(most).await.unwrap();
    idle().await;
    let mut got = Vec::new();
    assert_eq!(rig.inbound.receive(&mut got, 100).await.unwrap(), 5);
    assert_eq!(rig.context.credits.available_permits(), 0);
    drop(others);
    assert_eq!(rig.inbound.receive(&mut got, 10).await.unwrap(), 10);
    assert_eq!(rig.inbound.receive(&mut got, 10).await.unwrap(), 5);
    accept(got);
    rig.expect_acks(20).await;
    assert_eq!(rig.context.credits.available_permits(), all);
}
