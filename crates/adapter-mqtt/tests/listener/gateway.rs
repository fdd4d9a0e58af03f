//! What routes send to the listener, and shutting down.

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{DisconnectReasonCode, Packet},
};
use transload_adapter::{Event, ReceiveError, SendError, Sent, Settlement};
use transload_envelope::{MessageId, Properties, Value};

use crate::common::{V5, outgoing, soon, start, until, v5_persistent};

#[tokio::test]
async fn a_message_is_confirmed_when_somebody_is_there_to_have_it() {
    let listener = start("").await;
    let sent = listener.send("", outgoing("t", b"x")).await;
    assert_eq!(sent.unwrap(), Sent::NoReceiver);
    let mut client = listener.v5("c").await;
    client.listen("t", QoS::ExactlyOnce).await;
    for (target, qos) in [("", 1), ("qos = 0", 0), ("qos = 1", 1), ("qos = 2", 2)] {
        let sent = listener.send(target, outgoing("t", b"x")).await;
        assert_eq!(sent.unwrap(), Sent::Confirmed);
        let message = client.message().await;
        assert_eq!(message.qos as u8, qos, "{target}");
        assert!(!message.retain);
    }
}

#[tokio::test]
async fn it_waits_for_an_offline_session_and_keeps_its_properties() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("c", true)).await;
    client.listen("t/+", QoS::AtLeastOnce).await;
    drop(client);
    let mut message = outgoing("elsewhere", b"x");
    message.arguments.push("topic", "t/1");
    message.envelope =
        message.envelope.with_id(MessageId::from_source("id-1")).with_properties(Properties {
            content_type: Some("text/plain".into()),
            priority: Some(3),
            reply_to: Some("answers".into()),
            ..Properties::NONE
        });
    message.envelope.headers.push("n", Value::Int(7));
    message.envelope.headers.push("n", "text");
    let sent = listener.send("topic = \"t/{x}\"", message).await;
    assert_eq!(sent.unwrap(), Sent::Confirmed);
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("c", false)).await;
    let message = client.message().await;
    assert_eq!(&message.topic[..], b"t/1");
    let properties = message.properties.unwrap();
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.response_topic.as_deref(), Some("answers"));
    let user: Vec<_> = properties.user_properties.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(user, [("message-id", "id-1"), ("priority", "3"), ("n", "7"), ("n", "text")]);
}

#[tokio::test]
async fn it_is_retained_when_the_target_or_the_source_says_so() {
    let listener = start("").await;
    let sent = listener.send("retain = true", outgoing("a", b"x")).await;
    assert_eq!(sent.unwrap(), Sent::Confirmed);
    let mut message = outgoing("b", b"y");
    message.envelope.properties_mut().retain = true;
    listener.send("", message.clone()).await.unwrap();
    message.envelope.address = "c".into();
    listener.send("retain = false", message).await.unwrap();
    let mut client = listener.v5("c").await;
    client.listen("#", QoS::AtMostOnce).await;
    assert_eq!(&client.message().await.topic[..], b"a");
    assert_eq!(&client.message().await.topic[..], b"b");
    client.nothing().await;
}

#[tokio::test]
async fn a_full_queue_fails_its_own_messages_only() {
    let listener = start("max_queued_messages = 2").await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("c", true)).await;
    client.listen("full", QoS::AtLeastOnce).await;
    drop(client);
    until("the client is gone", || listener.count(Event::ConnectionClosed) == 1).await;
    for _ in 0..2 {
        assert_eq!(listener.send("", outgoing("full", b"x")).await.unwrap(), Sent::Confirmed);
    }
    let sent = listener.send("", outgoing("full", b"x")).await;
    assert!(matches!(sent, Err(SendError::Failed { .. })), "{sent:?}");
    assert_eq!(listener.count(Event::MessageDropped), 1);
    assert_eq!(listener.send("", outgoing("other", b"x")).await.unwrap(), Sent::NoReceiver);
}

#[tokio::test]
async fn what_is_no_topic_is_rejected() {
    let listener = start("").await;
    let long = "x".repeat(65_536);
    for topic in ["a/+", "#", "", "$SYS/a", "a\0b", &*long] {
        let mut message = outgoing("a", b"x");
        message.arguments.push("topic", topic);
        let sent = listener.send("topic = \"{x}\"", message).await;
        assert!(matches!(sent, Err(SendError::Rejected { .. })), "{sent:?}");
    }
    let mut message = outgoing("a", b"x");
    message.envelope.headers.push("h", long);
    let sent = listener.send("", message).await;
    assert!(matches!(sent, Err(SendError::Rejected { .. })), "{sent:?}");
}

#[tokio::test]
async fn after_the_stop_signal_what_was_taken_is_settled_and_nothing_new_is() {
    let mut listener = start("").await;
    let mut client = listener.v5("c").await;
    client.listen("t", QoS::AtMostOnce).await;
    client.publish("gateway/1", QoS::AtLeastOnce, 1, b"").await;
    let delivery = listener.receive().await;
    listener.context.stop.cancel();
    client.publish("gateway/2", QoS::AtLeastOnce, 2, b"").await;
    let mut rest = Vec::new();
    let inbound = listener.endpoints.inbound.as_mut().unwrap();
    let ended = soon("the end", inbound.receive(&mut rest, 8)).await;
    assert!(matches!(ended, Err(ReceiveError::Ended)));
    delivery.receipt.settle(Settlement::Accepted);
    assert_eq!(client.puback().await.pkid, 1);
    // Routes still send.
    listener.send("", outgoing("t", b"last")).await.unwrap();
    assert_eq!(&client.message().await.payload[..], b"last");
    listener.endpoints.outbound.as_ref().unwrap().close().await;
    match client.end().await.as_slice() {
        [Packet::Disconnect(disconnect)] => {
            assert_eq!(disconnect.reason_code, DisconnectReasonCode::ServerShuttingDown);
        }
        other => panic!("{other:?}"),
    }
    listener.context.tasks.close();
    soon("the end of all tasks", listener.context.tasks.wait()).await;
}

#[tokio::test]
async fn dropping_the_endpoints_ends_everything_and_frees_the_address() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    let (address, tasks) = (listener.address, listener.context.tasks.clone());
    drop(listener);
    client.end().await;
    tasks.close();
    soon("the end of all tasks", tasks.wait()).await;
    tokio::net::TcpListener::bind(address).await.unwrap();
}
