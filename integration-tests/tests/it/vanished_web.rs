//! Clients of the HTTP listener that vanish without a word: their connections are given up within
//! the times that are configured, what they held is free again, and others do not wait for them.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use transload_integration_tests::{Proxy, Transload, curl, free_port, wait};

use crate::support::{route, web};

/// What a loaded machine may add to a bound. The defaults are 30 and 60 seconds.
const SLACK: Duration = Duration::from_secs(10);

const TIMES: &str = "header_timeout = \"1s\"\nbody_timeout = \"2s\"\nwrite_timeout = \"2s\"\n";

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap()
}

/// A gateway with its listener, from which everything goes into one event stream.
async fn gateway(port: u16, more: &str) -> Transload {
    let to = "{ adapter = \"web\", stream = \"/streams/all\" }";
    let listener = format!("{}{TIMES}{more}", web(port));
    let gateway = Transload::start(&[listener, route("r", "web", "#", to, "")].concat()).await;
    // The admin address is served before the adapters listen, and the proxy does not try twice.
    gateway.until_up("web").await;
    gateway
}

async fn count(gateway: &Transload, event: &str) -> f64 {
    let labels = format!("adapter=\"web\",event=\"{event}\"");
    gateway.metric("transload_adapter_events_total", &labels).await.unwrap_or_default()
}

/// Waits until the listener has no connection any more.
async fn until_none(gateway: &Transload, bound: Duration) {
    wait::until_within(bound + SLACK, "the end of all connections", || async {
        let opened = count(gateway, "connection_opened").await;
        let open = opened - count(gateway, "connection_closed").await;
        (opened > 0.0 && open == 0.0).then_some(())
    })
    .await;
}

/// Reads until this is in what was read.
async fn read_until(stream: &mut TcpStream, end: &str) {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&all).contains(end) {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "the connection ended after {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..read]);
    }
}

/// One between two requests, one in a head and one in a body. There is room for no more, so that
/// what comes next is served only once they have been given up.
#[tokio::test]
async fn clients_anywhere_in_a_request() {
    let port = free_port();
    let gateway = gateway(port, "max_connections = 3\n").await;
    let proxy = Proxy::start(port).unwrap();
    let mut idle = connect(proxy.port()).await;
    idle.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await.unwrap();
    read_until(&mut idle, "HTTP/1.1 202").await;
    let mut in_head = connect(proxy.port()).await;
    in_head.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nX-").await.unwrap();
    let mut in_body = connect(proxy.port()).await;
    in_body.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx").await.unwrap();
    wait::until("three connections", || async {
        (count(&gateway, "connection_opened").await >= 3.0).then_some(())
    })
    .await;
    proxy.half_open();
    until_none(&gateway, Duration::from_secs(2)).await;
    let answer = curl::post(&format!("http://127.0.0.1:{port}/a"), &[], b"x").await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// A reader of an event stream vanishes. What is sent meanwhile fills the buffers of the system, and
/// the connection is given up when it has taken nothing for a while; nobody who sends waits for it.
#[tokio::test]
async fn a_reader_of_an_event_stream() {
    let port = free_port();
    let gateway = gateway(port, "").await;
    let proxy = Proxy::start(port).unwrap();
    let mut reader = connect(proxy.port()).await;
    reader.write_all(b"GET /streams/all HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut reader, "text/event-stream").await;
    proxy.half_open();
    let url = format!("http://127.0.0.1:{port}/a");
    let payload = vec![b'x'; 256 * 1024];
    // More than all buffers between the two take, and than the stream keeps.
    for _ in 0..100 {
        assert_eq!(curl::post(&url, &[], &payload).await.status, 202);
    }
    until_none(&gateway, Duration::from_secs(2)).await;
}
