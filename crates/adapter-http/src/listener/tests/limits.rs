use std::time::Duration;

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_however_it_is_sent() {
    let mut rig = Rig::open("max_body_bytes = 10").await;
    rig.settle_all(|_| Settlement::Accepted);
    assert_eq!(status(&rig.request("POST /hooks/a", "", "0123456789").await), 202);
    let announced = rig.request("POST /hooks/a", "", "01234567890").await;
    let chunks = "6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n";
    let head = "POST /hooks/a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = rig.exchange(format!("{head}{chunks}")).await;
    for response in [announced, chunked] {
        assert_eq!(status(&response), 413);
        assert!(response.contains("connection: close\r\n"), "{response}");
        assert!(response.contains("larger than 10 bytes"), "{response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn heads_and_bodies_must_arrive_in_time() {
    let rig = Rig::open("header_timeout = \"100ms\"\nbody_timeout = \"100ms\"").await;
    for start in ["", "POST /hooks/a HTTP/1.1\r\nHost: t\r\nX-A"] {
        let begin = Instant::now();
        let response = rig.exchange(start).await;
        assert!(response.is_empty() || status(&response) == 408, "{response}");
        assert!(begin.elapsed() >= Duration::from_millis(90));
    }
    let head = "POST /hooks/a HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n";
    let response = rig.exchange(format!("{head}four")).await;
    assert_eq!(status(&response), 408);
    rig.ends().await;
}

#[tokio::test]
async fn heads_beyond_the_bound_are_refused() {
    let rig = Rig::open("").await;
    let large = format!("X-A: {}\r\n", "x".repeat(100_000));
    let many = "X-A: 1\r\n".repeat(100);
    for headers in [large, many] {
        let mut stream = rig.connect().await;
        let text = request("POST /hooks/a", &headers, "");
        // The listener may close before all of it is sent.
        drop(stream.write_all(text.as_bytes()).await);
        let mut start = [0; 12];
        soon(stream.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 431");
    }
    rig.ends().await;
}

#[tokio::test]
async fn a_sender_is_told_when_there_is_no_credit() {
    let mut rig = Rig::with_credits("", 1).await;
    let mut first = rig.connect().await;
    first.write_all(request("POST /hooks/a", "", "x").as_bytes()).await.unwrap();
    let delivery = rig.delivery().await;
    let response = rig.request("POST /hooks/a", "", "x").await;
    assert_eq!(status(&response), 503);
    assert!(response.contains("retry-after: 1\r\n"), "{response}");
    delivery.receipt.settle(Settlement::Accepted);
    assert_eq!(status(&read_to_end(&mut first).await), 202);
    assert_eq!(rig.context.credits.available_permits(), 1);
}

#[tokio::test]
async fn the_bytes_of_all_bodies_are_bounded_until_they_are_settled() {
    let mut rig = Rig::open("max_body_bytes = 10\nmax_buffered_bytes = 15").await;
    let mut first = rig.connect().await;
    first.write_all(request("POST /hooks/a", "", "0123456789").as_bytes()).await.unwrap();
    let delivery = rig.delivery().await;
    // The sender's leaving does not free the bytes, since the gateway still has them.
    drop(first);
    let response = rig.request("POST /hooks/a", "", "0123456789").await;
    assert_eq!(status(&response), 503);
    assert!(response.contains("retry-after: 1\r\n"), "{response}");
    delivery.receipt.settle(Settlement::Accepted);
    rig.settle_all(|_| Settlement::Accepted);
    let accepted =
        async { while status(&rig.request("POST /hooks/a", "", "0123456789").await) != 202 {} };
    soon(accepted).await;
    rig.ends().await;
}

#[tokio::test]
async fn a_sender_is_told_when_the_guarantee_is_late() {
    let mut rig = Rig::open("response_timeout = \"100ms\"").await;
    let response = rig.request("POST /hooks/a", "webhook-id: one\r\n", "x").await;
    assert_eq!(status(&response), 504);
    assert!(response.contains("\"id\":\"one\""), "{response}");
    // The message is with the gateway all the same.
    rig.delivery().await.receipt.settle(Settlement::Accepted);
    rig.ends().await;
}

#[tokio::test]
async fn a_dropped_receipt_and_a_dropped_gateway_ask_the_sender_to_come_again() {
    let mut rig = Rig::open("").await;
    let mut stream = rig.connect().await;
    stream.write_all(request("POST /hooks/a", "", "x").as_bytes()).await.unwrap();
    drop(rig.delivery().await);
    assert_eq!(status(&read_to_end(&mut stream).await), 503);
    drop(rig.inbound.take());
    assert_eq!(status(&rig.request("POST /hooks/a", "", "x").await), 503);
    rig.ends().await;
}

#[tokio::test]
async fn further_connections_are_closed() {
    let rig = Rig::open("max_connections = 1").await;
    let mut first = rig.connect().await;
    let quick = "GET /other HTTP/1.1\r\nHost: t\r\n\r\n";
    first.write_all(quick.as_bytes()).await.unwrap();
    read_until(&mut first, "wants this path\"}").await;
    let mut second = rig.connect().await;
    // A reset or an end, depending on what the second has sent.
    assert!(!matches!(soon(second.read(&mut [0; 1])).await, Ok(1..)));
    drop(first);
    rig.ends().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let rig = Rig::open("").await;
    let config = toml::from_str(&format!("listen = \"{}\"", rig.address)).unwrap();
    let error = open(Arc::new(config), context(&[], 1)).await.unwrap_err();
    assert!(error.to_string().contains(&rig.address.to_string()), "{error}");
    rig.ends().await;
}
