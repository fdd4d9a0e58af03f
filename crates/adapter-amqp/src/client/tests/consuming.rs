use super::*;

/// A client with a consumer of one queue, and the broker.
async fn consuming(room: usize) -> (Client, mpsc::Receiver<Arrival>, Broker, Arc<Channel>) {
    let (io, mut broker) = pair(room);
    let (connected, ()) = tokio::join!(log_in(io), broker.log_in(10));
    let (client, arrivals) = connected.unwrap();
    let (channel, number) = tokio::join!(client.open_channel(), broker.open_channel());
    let channel = channel.unwrap();
    let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: "q".into(),
        consumer_tag: "c".into(),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: FieldTable::default(),
    }));
    let answering = async {
        assert_eq!(broker.method().await, (number, consume.clone()));
        let ok = basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: "c".into() });
        broker.send_method(number, AMQPClass::Basic(ok)).await;
    };
    let (answer, ()) = tokio::join!(client.call(&channel, consume.clone()), answering);
    answer.unwrap();
    (client, arrivals, broker, channel)
}

impl Broker {
    async fn deliver(&mut self, number: u16, delivery_tag: u64, payload: &[u8]) {
        let deliver = basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag,
            redelivered: false,
            exchange: "x".into(),
            routing_key: "k".into(),
        });
        self.send_method(number, AMQPClass::Basic(deliver)).await;
        let properties = AMQPProperties::default().with_message_id("m".into());
        let body_size = payload.len() as u64;
        self.send(AMQPFrame::Header(
            number,
            AMQPContentHeader { class_id: 60, body_size, properties },
        ))
        .await;
        for part in payload.chunks(4000) {
            self.send(AMQPFrame::Body(number, part.to_vec())).await;
        }
    }
}

fn payload(arrival: Option<Arrival>) -> (u64, Bytes, u64) {
    let Some(Arrival::Message(1, delivery, _)) = arrival else { panic!("{arrival:?}") };
    assert_eq!(delivery.properties.message_id.as_deref(), Some("m"));
    (delivery.tag, delivery.data, delivery.data_bytes)
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_whole_and_large_ones_are_only_counted() {
    let (client, mut arrivals, mut broker, channel) = consuming(64 * 1024).await;
    let large = vec![b'x'; PAYLOAD_BYTES_MAX + 1];
    let sending = async {
        broker.deliver(1, 1, b"").await;
        broker.deliver(1, 2, &large[1..]).await;
        broker.deliver(1, 3, &large).await;
        broker.deliver(1, 4, b"end").await;
    };
    let receiving = async {
        assert_eq!(payload(arrivals.recv().await), (1, Bytes::new(), 0));
        assert_eq!(payload(arrivals.recv().await).1.len(), PAYLOAD_BYTES_MAX);
        assert_eq!(payload(arrivals.recv().await), (3, Bytes::new(), 1 + PAYLOAD_BYTES_MAX as u64));
        assert_eq!(payload(arrivals.recv().await), (4, "end".into(), 3));
    };
    tokio::join!(sending, receiving);
    let mut acks = BytesMut::new();
    put_ack(&mut acks, channel.number(), 4, true);
    client.write(&channel, acks.freeze()).await.unwrap();
    let ack = basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 4, multiple: true });
    assert_eq!(broker.method().await, (1, AMQPClass::Basic(ack)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_messages_nobody_receives_is_not_read_and_still_acknowledges() {
    let (client, mut arrivals, mut broker, channel) = consuming(64 * 1024).await;
    let large = vec![b'x'; 600_000];
    let mut sent = 0;
    while timeout(Duration::from_secs(5), broker.deliver(1, sent + 1, &large)).await.is_ok() {
        sent += 1;
        assert!(sent < 20, "there is a bound");
    }
    // More than two heartbeats of ten seconds: what is not read is no silence.
    for tag in 1..=4 {
        let mut acks = BytesMut::new();
        put_ack(&mut acks, channel.number(), tag, false);
        client.write(&channel, acks.freeze()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let ack = basic::AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple: false });
        assert_eq!(broker.method().await, (1, AMQPClass::Basic(ack)));
    }
    assert!(matches!(&*client.state().borrow(), LinkState::Open));
    for tag in 1..=sent {
        let arrival = timeout(DEADLINE, arrivals.recv()).await.unwrap();
        let Some(Arrival::Message(1, delivery, _)) = arrival else { panic!("{arrival:?}") };
        assert_eq!((delivery.tag, delivery.data.len()), (tag, large.len()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_consumer_comes_after_its_messages() {
    for by_channel in [false, true] {
        let (_client, mut arrivals, mut broker, channel) = consuming(64 * 1024).await;
        broker.deliver(1, 1, b"last").await;
        if by_channel {
            broker.close_channel(1, 406).await;
        } else {
            let cancel = basic::Cancel { consumer_tag: "c".into(), nowait: true };
            let cancel = basic::AMQPMethod::Cancel(cancel);
            broker.send_method(1, AMQPClass::Basic(cancel)).await;
        }
        assert_eq!(payload(arrivals.recv().await).0, 1);
        let end = arrivals.recv().await;
        let Some(Arrival::End(1, reason)) = end else { panic!("{end:?}") };
        assert_eq!(reason.is_some(), by_channel);
        assert_eq!(channel.has_ended(), by_channel);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_tells_why() {
    let (client, mut broker, channel) = with_channel().await;
    let qos = basic::Qos { prefetch_count: 1, global: false };
    let asking = client.call(&channel, AMQPClass::Basic(basic::AMQPMethod::Qos(qos)));
    let refusing = async {
        broker.method().await;
        broker.close_channel(1, 403).await;
    };
    let (refused, ()) = tokio::join!(asking, refusing);
    let reaction = crate::error::reaction(&refused.unwrap_err());
    assert!(matches!(reaction, Reaction::ChannelClosed(_, _)), "{reaction:?}");
}

#[tokio::test(start_paused = true)]
async fn messages_that_nobody_can_have_any_more_hold_nothing_up() {
    let (client, arrivals, mut broker, _channel) = consuming(64 * 1024).await;
    drop(arrivals);
    for tag in 1..20 {
        broker.deliver(1, tag, &vec![b'x'; 600_000]).await;
    }
    let (second, _) = tokio::join!(client.open_channel(), broker.open_channel());
    assert_eq!(second.unwrap().number(), 2);
}
