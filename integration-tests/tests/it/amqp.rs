//! The AMQP adapter and RabbitMQ: what its own tests cannot show without a broker.

#![expect(clippy::unwrap_used, reason = "a test that gets something else has failed")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use transload_adapter::{
    Adapter, ConnectError, Context, Delivery, Destination, Endpoints, Interest, ReceiveError,
    Refusal, SendError, Sent, Settlement,
    testing::{PATIENCE, context, within},
};
use transload_adapter_amqp::{AmqpClient, AmqpTarget};
use transload_envelope::{Arguments, Envelope, Origin, Outgoing, Properties, Timestamp, Value};
use transload_integration_tests::RabbitMq;

/// The adapter, connected.
struct Client {
    ends: Endpoints<AmqpTarget>,
    context: Context,
}

impl Client {
    async fn connect(broker: &RabbitMq, settings: &str) -> Result<Self, ConnectError> {
        let config = toml::from_str(&format!("url = '{}'\n{settings}", broker.url())).unwrap();
        let mut context = context("services", 1024);
        context.interest = Arc::new(Interest { patterns: vec!["#".into()] });
        let ends = AmqpClient::connect(Arc::new(config), context.clone()).await?;
        Ok(Self { ends, context })
    }

    async fn consuming(broker: &RabbitMq, queue: &str, declare: &str) -> Self {
        let settings = format!("[[consume]]\nqueue = '{queue}'\ndeclare = {declare}");
        Self::connect(broker, &settings).await.unwrap()
    }

    async fn send(&self, target: &str, batch: &[Outgoing]) -> Vec<Result<Sent, SendError>> {
        let parsed = toml::from_str(target).unwrap();
        let to = Destination { name: target, target: &parsed };
        within("confirmations", self.ends.outbound.as_ref().unwrap().send(to, batch)).await
    }

    async fn receive(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            let inbound = self.ends.inbound.as_mut().unwrap();
            within("messages", inbound.receive(&mut deliveries, count)).await.unwrap();
        }
        deliveries
    }

    async fn stop(mut self) {
        self.context.stop.cancel();
        self.ends.inbound = None;
        self.ends.outbound.take().unwrap().close().await;
        drop(self.ends);
        self.context.tasks.close();
        within("the tasks to end", self.context.tasks.wait()).await;
    }
}

fn message(address: &str, payload: impl AsRef<[u8]>) -> Outgoing {
    let origin = Origin::new("devices", "mqtt", address);
    let envelope = Envelope::new(origin, payload.as_ref().to_vec());
    Outgoing { envelope, arguments: Arguments::default() }
}

fn numbered(address: &str, count: usize) -> Vec<Outgoing> {
    (0..count).map(|number| message(address, number.to_string())).collect()
}

/// One letter for each result.
fn letters(results: &[Result<Sent, SendError>]) -> String {
    let letter = |result: &Result<Sent, SendError>| match result {
        Ok(Sent::Confirmed) => '+',
        Ok(_) => '?',
        Err(SendError::Busy { .. }) => 'B',
        Err(SendError::Disconnected(_)) => 'D',
        Err(SendError::Failed { .. }) => 'F',
        Err(SendError::Rejected { .. }) => 'R',
    };
    results.iter().map(letter).collect()
}

fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    let text = |delivery: &Delivery| String::from_utf8_lossy(&delivery.envelope.payload).into();
    deliveries.iter().map(text).collect()
}

fn accept(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.receipt.settle(Settlement::Accepted);
    }
}

#[tokio::test]
async fn one_refused_message_holds_up_no_other() {
    let broker = RabbitMq::shared().await;
    let mut client = Client::consuming(broker, "amqp.refused", "true").await;
    let mut batch = numbered("amqp/refused", 9);
    for (number, outgoing) in batch.iter_mut().enumerate() {
        let missing = if number % 4 == 1 { "amqp.absent" } else { "" };
        outgoing.arguments.push("exchange", missing);
        outgoing.arguments.push("routing_key", "amqp.refused");
    }
    // The broker closes the channel under all of them; two calls share the channel.
    let target = "exchange = '{e}'\nrouting_key = '{k}'";
    let (first, second) = tokio::join!(client.send(target, &batch), client.send(target, &batch));
    assert_eq!((letters(&first), letters(&second)), ("+R+++R+++".into(), "+R+++R+++".into()));
    let Err(SendError::Rejected { reason }) = &first[1] else { panic!("{first:?}") };
    assert!(reason.contains("no exchange 'amqp.absent'"), "{reason}");
    // What had no confirmation yet went twice, and nothing is missing.
    let mut seen = BTreeSet::new();
    while seen.len() < 7 {
        let deliveries = client.receive(1).await;
        seen.extend(payloads(&deliveries));
        accept(deliveries);
    }
    assert!(!seen.contains("1") && !seen.contains("5"), "{seen:?}");

    // A target whose exchange is not there holds its messages until it is.
    let constant = client.send("exchange = 'amqp.absent'", &numbered("a", 3)).await;
    assert_eq!(letters(&constant), "BBB");
    // A fault of the message itself: RabbitMQ wants a list here.
    let mut faulty = numbered("a", 3);
    faulty[1].envelope.headers.push("CC", Value::Int(1));
    assert_eq!(letters(&client.send("exchange = 'amq.topic'", &faulty).await), "+R+");
    client.stop().await;
}

#[tokio::test]
async fn an_unroutable_message_does_not_count_as_sent() {
    let broker = RabbitMq::shared().await;
    let client = Client::consuming(broker, "amqp.routed", "true").await;
    let mut batch = numbered("a", 12);
    for (number, outgoing) in batch.iter_mut().enumerate() {
        let queue = if number % 3 == 1 { "amqp.nowhere" } else { "amqp.routed" };
        outgoing.arguments.push("queue", queue);
    }
    assert_eq!(letters(&client.send("queue = '{q}'", &batch).await), "+R++R++R++R+");
    let three = numbered("amqp/unbound", 3);
    assert_eq!(letters(&client.send("queue = 'amqp.nowhere'", &three).await), "FFF");
    assert_eq!(letters(&client.send("exchange = 'amq.topic'", &three).await), "+++");
    let target = "exchange = 'amq.topic'\nmandatory = true";
    assert_eq!(letters(&client.send(target, &three).await), "RRR");
    client.stop().await;
}

#[tokio::test]
async fn released_comes_again_later_and_rejected_goes_to_the_dead_letters() {
    let broker = RabbitMq::shared().await;
    let mut dead = Client::consuming(broker, "amqp.dead", "true").await;
    let declare = "{ arguments = { x-dead-letter-exchange = '', \
                   x-dead-letter-routing-key = 'amqp.dead' } }";
    let mut client = Client::consuming(broker, "amqp.settled", declare).await;
    client.send("queue = 'amqp.settled'", &numbered("a", 2)).await;
    let mut both = client.receive(2).await.into_iter();
    let begin = Instant::now();
    let after = Duration::from_millis(300);
    both.next().unwrap().receipt.settle(Settlement::Released { after });
    let refusal = Settlement::Rejected { refusal: Refusal::Invalid, reason: "no".into() };
    both.next().unwrap().receipt.settle(refusal);

    let again = client.receive(1).await;
    assert!(begin.elapsed() >= after);
    assert_eq!(payloads(&again), ["0"]);
    assert_eq!(again[0].envelope.origin.attribute("redelivered"), Some(&Value::Bool(true)));
    accept(again);
    let letters = dead.receive(1).await;
    assert_eq!(payloads(&letters), ["1"]);
    accept(letters);
    client.stop().await;
    dead.stop().await;
}

#[tokio::test]
async fn everything_that_amqp_carries_survives_the_broker() {
    let broker = RabbitMq::shared().await;
    let settings = "[[consume]]\nqueue = 'amqp.carried'\ndeclare = true\n\
                    bind = { exchange = 'amq.topic', key = 'amqp.carried.#' }";
    let mut client = Client::connect(broker, settings).await.unwrap();
    let large: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut full = message("amqp/carried/v1.0/ü", &large);
    let value = Value::List(vec![Value::Bool(true), Value::Map(vec![("k".into(), 1_i64.into())])]);
    full.envelope.headers.push("nested", value.clone());
    full.envelope.headers.push("binary", Value::Bytes(vec![0, 255].into()));
    full.envelope.headers.push("long", "h".repeat(50_000));
    *full.envelope.properties_mut() = Properties {
        content_type: Some("a/b".into()),
        correlation: Some(vec![0, 255].into()),
        reply_to: Some("re/ply".into()),
        expires_at: Some(Timestamp::now().after(Duration::from_mins(10))),
        priority: Some(3),
        durable: Some(true),
        retain: true,
        kind: Some("k".into()),
        timestamp: Some(Timestamp { unix_ms: 5000 }),
        ..Properties::NONE
    };
    let sent = [full.clone(), message("amqp/carried", "")];
    assert_eq!(letters(&client.send("exchange = 'amq.topic'", &sent).await), "++");
    let got = client.receive(2).await;
    let envelope = &got[0].envelope;
    assert_eq!(&envelope.payload, &large);
    assert_eq!((&envelope.id, &envelope.address), (&full.envelope.id, &full.envelope.address));
    assert_eq!(envelope.headers.get("nested"), Some(&value));
    assert_eq!(envelope.headers.get("binary"), full.envelope.headers.get("binary"));
    assert_eq!(envelope.headers.len(), 3);
    let expiry = |envelope: &Envelope| envelope.properties().expires_at.unwrap().unix_ms / 60_000;
    assert!((expiry(&full.envelope) - expiry(envelope)).abs() <= 1);
    let properties = Properties {
        expires_at: full.envelope.properties().expires_at,
        ..envelope.properties().clone()
    };
    assert_eq!(&properties, full.envelope.properties());
    assert!(got[1].envelope.payload.is_empty());
    accept(got);

    // Larger than the one frame that all properties must fit into: the broker would hang up.
    let mut wide = message("a", "");
    wide.envelope.headers.push("wide", "h".repeat(70_000));
    assert_eq!(letters(&client.send("exchange = 'amq.topic'", &[wide]).await), "R");
    client.stop().await;
}

/// Repeats, milliseconds, and an expiry for which the broker would close the channel.
#[tokio::test]
async fn what_amqp_has_no_form_for_survives_the_broker() {
    let broker = RabbitMq::shared().await;
    let mut client = Client::consuming(broker, "amqp.forms", "true").await;
    let mut message = message("a", "x");
    for (name, value) in [("x-b", "1"), ("x-a", " 2"), ("x-b", "3\n"), ("x-b", "")] {
        message.envelope.headers.push(name, value);
    }
    let in_a_century = Timestamp::now().after(Duration::from_hours(24 * 365 * 100));
    *message.envelope.properties_mut() = Properties {
        expires_at: Some(in_a_century),
        timestamp: Some(Timestamp { unix_ms: 1_700_000_000_123 }),
        ..Properties::NONE
    };
    let sent = client.send("queue = 'amqp.forms'", std::slice::from_ref(&message)).await;
    assert_eq!(letters(&sent), "+");
    let got = client.receive(1).await;
    let envelope = &got[0].envelope;
    let headers: Vec<_> = envelope
        .headers
        .iter()
        .map(|header| (&*header.name, header.value.as_text().map(|text| &**text)))
        .collect();
    assert_eq!(
        headers,
        [("x-a", Some(" 2")), ("x-b", Some("1")), ("x-b", Some("3\n")), ("x-b", Some(""))]
    );
    assert_eq!(envelope.properties().timestamp, message.envelope.properties().timestamp);
    assert_eq!(envelope.properties().expires_at, Some(in_a_century));
    accept(got);
    client.stop().await;
}

#[tokio::test]
async fn acknowledgements_in_any_order_leave_nothing_behind() {
    const COUNT: usize = 2000;
    let broker = RabbitMq::shared().await;
    let mut client = Client::consuming(broker, "amqp.many", "true").await;
    for batch in numbered("a", COUNT).chunks(256) {
        let sent = client.send("queue = 'amqp.many'", batch).await;
        assert!(sent.iter().all(Result::is_ok), "{}", letters(&sent));
    }
    let mut late = Vec::new();
    let mut seen = 0;
    while seen < COUNT {
        for (delivery, number) in client.receive(1).await.into_iter().zip(seen..) {
            assert_eq!(payloads(std::slice::from_ref(&delivery)), [number.to_string()]);
            seen += 1;
            if number % 10 == 0 {
                late.push(delivery);
            } else {
                delivery.receipt.settle(Settlement::Accepted);
            }
        }
    }
    late.reverse();
    accept(late);
    client.stop().await;
    // Whatever is still in the queue would come now, before this one.
    let mut again = Client::consuming(broker, "amqp.many", "true").await;
    again.send("queue = 'amqp.many'", &[message("a", "last")]).await;
    let rest = again.receive(1).await;
    assert_eq!(payloads(&rest), ["last"]);
    accept(rest);
    again.stop().await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_in_its_words() {
    let broker = RabbitMq::shared().await;
    let transient = Client::consuming(broker, "amqp.transient", "{ durable = false }").await;
    for (settings, words) in [
        ("[[consume]]\nqueue = 'amqp.absent'", "no queue 'amqp.absent'"),
        ("[[consume]]\nqueue = 'amqp.transient'\ndeclare = true", "inequivalent arg 'durable'"),
        (
            "[[consume]]\nqueue = 'amqp.transient'\nbind = { exchange = 'amqp.absent' }",
            "no exchange 'amqp.absent'",
        ),
        ("password = 'wrong'", "ACCESS_REFUSED"),
    ] {
        match Client::connect(broker, settings).await.map(|client| client.context.name) {
            Err(ConnectError::Refused { reason }) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{settings}: {other:?}"),
        }
    }
    transient.stop().await;
}

#[tokio::test]
async fn a_killed_broker_is_noticed_and_loses_nothing() {
    let mut broker = RabbitMq::start().await;
    let mut client = Client::consuming(&broker, "amqp.kept", "true").await;
    broker.keep_declared().await;
    assert_eq!(letters(&client.send("queue = 'amqp.kept'", &numbered("a", 5)).await), "+++++");
    let held = client.receive(5).await;

    broker.kill();
    within("the loss to be told", &mut client.ends.lost).await;
    let inbound = client.ends.inbound.as_mut().unwrap();
    let received = within("receive to tell of the loss", inbound.receive(&mut Vec::new(), 1)).await;
    assert!(matches!(received, Err(ReceiveError::Disconnected(_))), "{received:?}");
    let sent = client.send("queue = 'amqp.kept'", &numbered("a", 2)).await;
    assert_eq!(letters(&sent), "DD");
    // Their tags died with the channel.
    accept(held);
    client.stop().await;

    broker.appear().await;
    let begin = Instant::now();
    let settings = "[[consume]]\nqueue = 'amqp.kept'\ndeclare = true";
    let mut client = loop {
        match Client::connect(&broker, settings).await {
            Ok(client) => break client,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{error:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    };
    let again = client.receive(5).await;
    assert_eq!(payloads(&again), ["0", "1", "2", "3", "4"]);
    accept(again);
    client.stop().await;
}
