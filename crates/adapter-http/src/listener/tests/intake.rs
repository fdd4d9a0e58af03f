use std::time::Duration;

use transload_adapter::{ReceiveError, Refusal};
use transload_envelope::{Origin, Properties, Value};

use super::*;

#[tokio::test]
async fn a_request_becomes_a_message_and_is_answered_when_it_is_settled() {
    let mut rig = Rig::open("").await;
    let mut stream = rig.connect().await;
    let text = request(
        "PUT /hooks/a%20b?x=1&y=2",
        "Content-Type: application/json\r\nIdempotency-Key: \"k-1\"\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\n\
         Authorization: Bearer secret\r\nCookie: a=b\r\n",
        "{\"t\":1}",
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let Delivery { envelope, receipt } = rig.delivery().await;
    assert_eq!(envelope.address.as_str(), "hooks/a b");
    assert_eq!(&envelope.payload[..], b"{\"t\":1}");
    assert_eq!(envelope.id.as_str(), "k-1");
    assert_eq!(envelope.properties().content_type.as_deref(), Some("application/json"));
    let headers: Vec<_> = envelope
        .headers
        .iter()
        .map(|header| (&*header.name, &**header.value.as_text().unwrap()))
        .filter(|(name, _)| *name != "idempotency-key")
        .collect();
    assert_eq!(headers, [("x-b", "1"), ("x-b", "3"), ("x-a", "2")]);
    let peer = stream.local_addr().unwrap().to_string();
    let expected = [
        ("method", "PUT"),
        ("path", "/hooks/a%20b"),
        ("query", "x=1&y=2"),
        ("host", "test"),
        ("peer", &peer),
    ];
    for (name, value) in expected {
        assert_eq!(envelope.origin.attribute(name), Some(&Value::from(value)), "{name}");
    }
    // Nothing is said before the verdict.
    let mut byte = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await;
    assert!(early.is_err(), "answered before the message was accepted");
    receipt.settle(Settlement::Accepted);
    let response = read_to_end(&mut stream).await;
    assert_eq!(status(&response), 202);
    assert!(response.ends_with("\r\n\r\n{\"id\":\"k-1\"}"), "{response}");
    rig.ends().await;
}

#[tokio::test]
async fn each_verdict_has_its_status() {
    let mut rig = Rig::open("").await;
    rig.settle_all(|envelope| match envelope.address.as_str() {
        "hooks/unrouted" => Settlement::Unrouted,
        "hooks/released" => Settlement::Released { after: Duration::from_millis(2_500) },
        "hooks/full" => Settlement::Rejected { refusal: Refusal::Full, reason: "full".into() },
        "hooks/invalid" => {
            Settlement::Rejected { refusal: Refusal::Invalid, reason: "no JSON".into() }
        }
        "hooks/reply" => {
            let mut reply = Envelope::new(Origin::new("a", "amqp", "b"), "answer").with_properties(
                Properties { content_type: Some("text/x".into()), ..Properties::NONE },
            );
            reply.headers.push("x-note", "hello");
            Settlement::Replied(Box::new(reply))
        }
        "hooks/teapot" => {
            let mut reply = Envelope::new(Origin::new("a", "mqtt", "b"), "short and stout");
            reply.headers.push("Status", "418");
            Settlement::Replied(Box::new(reply))
        }
        _ => Settlement::Accepted,
    });
    for (path, code, holds) in [
        ("ok", 202, "{\"id\":\""),
        ("unrouted", 404, "application/problem+json"),
        ("released", 503, "retry-after: 3\r\n"),
        ("full", 503, "retry-after: 1\r\n"),
        ("invalid", 422, "\"detail\":\"no JSON\""),
        ("reply", 200, "content-type: text/x\r\n"),
        ("reply", 200, "x-note: hello\r\n"),
        ("teapot", 418, "short and stout"),
    ] {
        let response = rig.request(&format!("POST /hooks/{path}"), "", "x").await;
        assert_eq!(status(&response), code, "{path}");
        assert!(response.contains(holds), "{path}: {response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn what_no_route_wants_is_refused_before_anyone_waits() {
    let rig = Rig::open("content_types = [\"application/json\"]").await;
    for (line, headers, code, holds) in [
        ("POST /other", "", 404, "no route wants this path"),
        ("GET /hooks/a", "", 405, "allow: POST, PUT\r\n"),
        ("DELETE /hooks/a", "", 405, "allow: POST, PUT\r\n"),
        ("HEAD /other", "", 404, ""),
        ("POST /streams/a", "", 405, "allow: GET, HEAD\r\n"),
        ("GET /streams/", "", 404, ""),
        ("GET /", "", 400, "names no address"),
        ("POST /hooks/%2F", "", 400, "encoded slash"),
        ("POST /hooks/+", "", 400, "wildcard"),
        ("POST /hooks/../x", "", 400, "segment"),
        ("POST /hooks/%FF", "", 400, "UTF-8"),
        ("POST /hooks/a", "", 415, "content type"),
        ("POST /hooks/a", "Content-Type: text/plain\r\n", 415, "content type"),
    ] {
        let response =
            rig.request(line, headers, if line.starts_with("POST") { "x" } else { "" }).await;
        assert_eq!(status(&response), code, "{line}");
        assert!(response.contains(holds), "{line}: {response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn one_connection_serves_many_requests_in_pieces_of_any_size() {
    let mut rig = Rig::open("").await;
    rig.settle_all(|_| Settlement::Accepted);
    let mut stream = rig.connect().await;
    stream.set_nodelay(true).unwrap();
    let chunked = "POST /hooks/a HTTP/1.1\r\nHost: t\r\nwebhook-id: one\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for byte in chunked.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&read_until(&mut stream, "{\"id\":\"one\"}").await), 202);
    // Two requests at once, answered in order.
    let head = "POST /hooks/a HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n";
    let both = format!("{head}webhook-id: two\r\n\r\nx{head}webhook-id: three\r\n\r\nx");
    stream.write_all(both.as_bytes()).await.unwrap();
    let responses = read_until(&mut stream, "{\"id\":\"three\"}").await;
    assert!(responses.find("two") < responses.find("three"));
    // One that is refused leaves the connection usable.
    let refused = "POST /other HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx";
    stream.write_all(format!("{refused}{head}webhook-id: four\r\n\r\nx").as_bytes()).await.unwrap();
    let responses = read_until(&mut stream, "{\"id\":\"four\"}").await;
    assert_eq!(status(&responses), 404);
    drop(stream);
    rig.ends().await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let mut rig = Rig::open("max_body_bytes = 10").await;
    rig.settle_all(|_| Settlement::Accepted);
    let mut stream = rig.connect().await;
    let head = "POST /hooks/a HTTP/1.1\r\nHost: t\r\nConnection: close\r\nExpect: 100-continue\r\n";
    stream.write_all(format!("{head}Content-Length: 1\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(status(&read_to_end(&mut stream).await), 202);
    // And one whose body would be refused is not.
    let response = rig.exchange(format!("{head}Content-Length: 11\r\n\r\n")).await;
    assert_eq!(status(&response), 413);
    rig.ends().await;
}

#[tokio::test]
async fn empty_and_binary_and_large_bodies_arrive_as_they_are() {
    let mut rig = Rig::open("").await;
    for body in [vec![], vec![0, 255, 13, 10], vec![7; 1 << 20], vec![9; 16 << 20]] {
        let mut stream = rig.connect().await;
        let head = format!(
            "POST /hooks/a HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = body.clone();
        rig.context.tasks.spawn(async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&sent).await.unwrap();
            assert_eq!(status(&read_to_end(&mut stream).await), 202);
        });
        let delivery = rig.delivery().await;
        assert!(delivery.envelope.payload == body, "{} bytes", body.len());
        delivery.receipt.settle(Settlement::Accepted);
    }
    rig.ends().await;
}

#[tokio::test]
async fn what_was_begun_is_finished_after_the_stop() {
    let mut rig = Rig::open("").await;
    let text = request("POST /hooks/a", "webhook-id: one\r\n", "body");
    let (mut given, mut half, mut idle) =
        (rig.connect().await, rig.connect().await, rig.connect().await);
    let mut unused = rig.connect().await;
    given.write_all(text.as_bytes()).await.unwrap();
    let delivery = rig.delivery().await;
    let (first, second) = text.split_at(text.len() - 2);
    half.write_all(first.as_bytes()).await.unwrap();
    // The idle connection has served a request and waits for another.
    let quick = "GET /other HTTP/1.1\r\nHost: t\r\n\r\n";
    idle.write_all(quick.as_bytes()).await.unwrap();
    read_until(&mut idle, "wants this path\"}").await;
    rig.context.stop.cancel();
    assert_eq!(soon(idle.read(&mut [0; 1])).await.unwrap(), 0, "the idle connection is closed");
    assert_eq!(soon(unused.read(&mut [0; 1])).await.unwrap(), 0, "the unused one, too");
    delivery.receipt.settle(Settlement::Accepted);
    assert_eq!(status(&read_to_end(&mut given).await), 202);
    half.write_all(second.as_bytes()).await.unwrap();
    let delivery = rig.delivery().await;
    delivery.receipt.settle(Settlement::Accepted);
    assert_eq!(status(&read_to_end(&mut half).await), 202);
    let inbound = rig.inbound.as_mut().unwrap();
    let end = soon(inbound.receive(&mut Vec::new(), 1)).await;
    assert!(matches!(end, Err(ReceiveError::Ended)));
    assert!(TcpStream::connect(rig.address).await.is_err(), "nobody listens");
    rig.context.tasks.close();
    soon(rig.context.tasks.wait()).await;
}

#[tokio::test]
async fn a_sender_that_leaves_loses_nothing_and_leaks_nothing() {
    let mut rig = Rig::open("").await;
    let mut stream = rig.connect().await;
    stream.write_all(request("POST /hooks/a", "", "body").as_bytes()).await.unwrap();
    let delivery = rig.delivery().await;
    drop(stream);
    assert_eq!(&delivery.envelope.payload[..], b"body");
    assert_eq!(rig.context.credits.available_permits(), 63);
    delivery.receipt.settle(Settlement::Accepted);
    rig.ends().await;
}
