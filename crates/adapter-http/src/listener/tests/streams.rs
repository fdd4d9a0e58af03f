use super::*;
use crate::testing::outgoing;

async fn subscribe(rig: &Rig, path: &str, headers: &str) -> (TcpStream, String) {
    let mut stream = rig.connect().await;
    let text = format!("GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    (stream, head)
}

#[tokio::test]
async fn subscribers_see_messages_as_they_come() {
    let rig = Rig::open("").await;
    let message = outgoing("0", "a", "nobody listens");
    assert_eq!(rig.publish("/streams/t", message).await.unwrap(), Sent::NoReceiver);
    let (mut first, head) = subscribe(&rig, "/streams/t?x=1", "").await;
    for line in [
        "HTTP/1.1 200 OK\r\n",
        "content-type: text/event-stream\r\n",
        "cache-control: no-store\r\n",
        "x-accel-buffering: no\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let (mut second, _) = subscribe(&rig, "/streams/t", "").await;
    let (mut other, _) = subscribe(&rig, "/streams/other%20one", "").await;
    let message = outgoing("1", "devices/d7/telemetry", "{\"t\":21.5}");
    assert_eq!(rig.publish("/streams/t", message).await.unwrap(), Sent::Confirmed);
    let binary = outgoing("2", "devices/d7/raw", [0xff, 0]);
    assert_eq!(rig.publish("/streams/t", binary).await.unwrap(), Sent::Confirmed);
    for stream in [&mut first, &mut second] {
        let events = read_until(stream, "/wA=\n\n").await;
        assert!(!events.contains("nobody"), "a new subscriber starts at the end: {events}");
        let text = "id: 1\nevent: devices/d7/telemetry\ndata: {\"t\":21.5}\n\n";
        assert!(events.contains(text), "{events}");
        let binary =
            "id: 2\nevent: devices/d7/raw\ndata: data:application/octet-stream;base64,/wA=\n\n";
        assert!(events.contains(binary), "{events}");
    }
    let message = outgoing("3", "a", "to the other");
    assert_eq!(rig.publish("streams/other one", message).await.unwrap(), Sent::Confirmed);
    let events = read_until(&mut other, "to the other").await;
    assert!(!events.contains("21.5"), "{events}");
    rig.ends().await;
}

#[tokio::test]
async fn a_subscriber_that_comes_back_gets_what_it_missed_or_is_told() {
    let rig = Rig::open("[streams]\nhistory_messages = 3").await;
    for id in ["1", "2", "3", "4"] {
        let message = outgoing(id, "a", format!("payload {id}"));
        assert_eq!(rig.publish("/streams/t", message).await.unwrap(), Sent::NoReceiver);
    }
    let (mut resumed, _) = subscribe(&rig, "/streams/t", "Last-Event-ID: 3\r\n").await;
    let events = read_until(&mut resumed, "payload 4\n\n").await;
    assert!(!events.contains("payload 3") && !events.contains("gap"), "{events}");
    let (mut late, _) = subscribe(&rig, "/streams/t", "Last-Event-ID: 1\r\n").await;
    let events = read_until(&mut late, "payload 4\n\n").await;
    let gap = events.find("event: transload.gap\ndata: {\"missed\":null}\n\n");
    assert!(gap.is_some() && gap < events.find("payload 2"), "{events}");
    rig.ends().await;
}

#[tokio::test]
async fn a_slow_subscriber_costs_only_the_history_and_is_told_what_it_missed() {
    let rig = Rig::open("[streams]\nhistory_messages = 4").await;
    let (mut slow, _) = subscribe(&rig, "/streams/t", "").await;
    // More than the sockets between them can hold.
    let payload = "x".repeat(1 << 20);
    for number in 0..64 {
        let message = outgoing(&number.to_string(), "a", payload.clone());
        assert_eq!(rig.publish("/streams/t", message).await.unwrap(), Sent::Confirmed);
        tokio::task::yield_now().await;
    }
    let events = read_until(&mut slow, "id: 63\n").await;
    assert!(events.contains("event: transload.gap\ndata: {\"missed\":"), "the gap is named");
    drop(slow);
    rig.ends().await;
}

#[tokio::test]
async fn an_idle_stream_is_kept_alive_and_an_unread_one_is_forgotten() {
    let rig = Rig::open("[streams]\nkeep_alive = \"20ms\"\nmax_subscribers = 1").await;
    let (mut only, _) = subscribe(&rig, "/streams/t", "").await;
    read_until(&mut only, ":\n\n").await;
    let (_, head) = subscribe(&rig, "/streams/t", "").await;
    assert_eq!(status(&head), 503);
    assert!(head.contains("retry-after: 5\r\n"), "{head}");
    drop(only);
    let free = async { while status(&subscribe(&rig, "/streams/t", "").await.1) != 200 {} };
    soon(free).await;
    rig.ends().await;
}

#[tokio::test]
async fn only_paths_that_can_be_read_are_streams() {
    let rig = Rig::open("").await;
    for path in ["/elsewhere", "/streams/", "/streams/a+b", "/streams/../x", "/streams/a\nb"] {
        let result = rig.publish(path, outgoing("1", "a", "")).await;
        assert!(matches!(result, Err(SendError::Rejected { .. })), "{path}");
    }
    let target = ListenerTarget { stream: None };
    let to = Destination { name: "route/0", target: &target };
    let (mut stream, _) = subscribe(&rig, "/streams/devices/d7", "").await;
    let results = rig.outbound.send(to, &[outgoing("1", "devices/d7", "by address")]).await;
    assert!(matches!(results[..], [Ok(Sent::Confirmed)]), "{results:?}");
    read_until(&mut stream, "by address").await;
    let mut templated = outgoing("2", "a", "by template");
    templated.arguments.push("stream", "/streams/devices/d7");
    assert_eq!(rig.publish("/streams/devices/{id}", templated).await.unwrap(), Sent::Confirmed);
    read_until(&mut stream, "by template").await;
    let head = rig.request("HEAD /streams/t", "", "").await;
    assert_eq!(status(&head), 200);
    rig.ends().await;
}

#[tokio::test]
async fn closing_gives_out_the_rest_and_ends_the_streams() {
    let rig = Rig::open("").await;
    let (mut stream, _) = subscribe(&rig, "/streams/t", "").await;
    rig.context.stop.cancel();
    // After the stop, what is still in flight is sent.
    let message = outgoing("1", "a", "the last");
    assert_eq!(rig.publish("/streams/t", message).await.unwrap(), Sent::Confirmed);
    let (rest, ()) = tokio::join!(read_to_end(&mut stream), rig.outbound.close());
    assert!(rest.contains("the last") && rest.ends_with("0\r\n\r\n"), "{rest}");
    rig.ends().await;
}
