//! Peers that mean harm. Each bound stands in `docs/SECURITY.md`.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use tokio::time::Instant;

use super::*;
use crate::testing::outgoing;

/// A client of HTTP/2 without TLS, by prior knowledge.
async fn http2(rig: &Rig) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(rig.connect().await).await.unwrap();
    rig.context.tasks.spawn(async move { drop(connection.await) });
    client
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).body(()).unwrap()
}

async fn send(client: &mut SendRequest<Bytes>, request: Request<()>, body: &[u8]) -> StatusCode {
    let mut ready = soon(client.clone().ready()).await.unwrap();
    let (response, mut stream) = ready.send_request(request, false).unwrap();
    // The listener may have refused already.
    drop(stream.send_data(Bytes::copy_from_slice(body), true));
    soon(response).await.unwrap().status()
}

#[tokio::test]
async fn http2_is_served_under_the_same_bounds() {
    let mut rig = Rig::open("max_body_bytes = 10").await;
    rig.settle_all(|_| Settlement::Accepted);
    let mut client = http2(&rig).await;
    assert_eq!(send(&mut client, post("/hooks/a"), b"0123456789").await, 202);
    assert_eq!(send(&mut client, post("/hooks/a"), b"01234567890").await, 413);
    assert_eq!(send(&mut client, post("/nowhere"), b"x").await, 404);
    let page = |origin: &str| {
        let request = Request::post("http://test/hooks/a").header("origin", origin);
        request.body(()).unwrap()
    };
    assert_eq!(send(&mut client, page("http://test"), b"x").await, 202);
    assert_eq!(send(&mut client, page("http://evil.example"), b"x").await, 403);
    assert_eq!(send(&mut client, post("/hooks/a"), b"x").await, 202, "the connection stays");
    drop(client);
    rig.ends().await;
}

/// The frame of HTTP/2 of this type and these flags, on the first stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let mut rig = Rig::open("").await;
    rig.settle_all(|_| Settlement::Accepted);
    // POST http://t/ in the static table of HPACK.
    let head = [0x83, 0x86, 0x84, 0x41, 1, b't'];
    let streams = (0..10_000_u32).map(|number| 2 * number + 1);
    let flood = streams.flat_map(|stream| {
        [frame(1, 4, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let flood: Vec<u8> =
        [PREFACE, &frame(4, 0, 0, &[])].concat().into_iter().chain(flood).collect();
    let mut stream = rig.connect().await;
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    let write = async { drop(writer.write_all(&flood).await) };
    soon(Box::pin(async { tokio::join!(read, write) })).await;
    // GOAWAY with ENHANCE_YOUR_CALM.
    let goodbye = answer.windows(9 + 8).any(|frame| frame[3] == 7 && frame[13..] == [0, 0, 0, 11]);
    assert!(goodbye, "{answer:?}");
    let mut other = http2(&rig).await;
    assert_eq!(send(&mut other, post("/hooks/a"), b"x").await, 202, "others are served");
    drop(other);
    rig.ends().await;
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection_of_http2() {
    let rig = Rig::open("header_timeout = '300ms'\nwrite_timeout = '300ms'").await;
    let begin = [PREFACE.to_vec(), frame(4, 0, 0, &[]), frame(1, 0, 1, &[])];
    // A flood of CONTINUATION, and one that then says nothing.
    for floods in [true, false] {
        let mut stream = rig.connect().await;
        stream.write_all(&begin.concat()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let flood = async {
            let more = frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']);
            while floods && writer.write_all(&more).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let ended = async {
            let mut buffer = vec![0; 1024];
            while !matches!(reader.read(&mut buffer).await, Ok(0) | Err(_)) {}
        };
        soon(async {
            tokio::select! {
                () = ended => {}
                () = flood => {}
            }
        })
        .await;
    }
    rig.ends().await;
}

#[tokio::test]
async fn connections_that_are_idle_are_closed_whatever_they_speak() {
    let rig = Rig::open("header_timeout = '200ms'\nwrite_timeout = '200ms'").await;
    let preface = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for begin in [&b""[..], b"P", b"PRI * HT", b"POST", &preface] {
        let start = Instant::now();
        let mut stream = rig.connect().await;
        stream.write_all(begin).await.unwrap();
        let mut buffer = Vec::new();
        drop(soon(stream.read_to_end(&mut buffer)).await);
        assert!(start.elapsed() < Duration::from_secs(5), "{begin:?}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn a_head_that_trickles_in_is_given_up_as_a_whole() {
    let rig = Rig::open("header_timeout = '300ms'").await;
    let mut stream = rig.connect().await;
    let start = Instant::now();
    let trickle = async {
        stream.write_all(b"POST /hooks/a HTTP/1.1\r\n").await.unwrap();
        while stream.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(trickle).await;
    assert!(start.elapsed() >= Duration::from_millis(250));
    rig.ends().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_given_up() {
    let rig = Rig::open("write_timeout = '200ms'").await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /streams/a HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    read_head(&mut stream).await;
    let large = "x".repeat(200_000);
    let flood = async {
        // Until nobody subscribes any more.
        loop {
            let message = outgoing("1", "a", large.as_str());
            if rig.publish("/streams/a", message).await.unwrap() == Sent::NoReceiver {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(flood).await;
    rig.ends().await;
}

#[tokio::test]
async fn two_readings_of_one_request_are_refused() {
    let mut rig = Rig::open("").await;
    rig.settle_all(|envelope| {
        assert_ne!(&*envelope.address, "hooks/smuggled");
        Settlement::Accepted
    });
    let inner = "POST /hooks/smuggled HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx";
    for head in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 4, 4\r\n",
        "Content-Length: 0x4\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X-A: b\r\n folded\r\n",
        "X A: b\r\n",
        "X-A: a\0b\r\n",
    ] {
        let mut stream = rig.connect().await;
        let text = format!(
            "POST /hooks/a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{head}\r\n0\r\n\r\n{inner}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        drop(soon(stream.read_to_end(&mut response)).await);
        let response = String::from_utf8_lossy(&response);
        let answers = response.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{head:?}: {response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn what_a_peer_writes_never_becomes_a_line_of_an_answer() {
    let rig = Rig::open(
        "cors = { origins = ['*'] }\nwebhook_origins = ['*']\ntrusted_proxies = ['127.0.0.1']",
    )
    .await;
    for (line, headers) in [
        ("POST /hooks/a%0d%0aX-Evil:%201", ""),
        ("GET /a%0aX-Evil:1", ""),
        ("OPTIONS /hooks/a", "WebHook-Request-Origin: a\rX-Evil: 1\r\n"),
        ("OPTIONS /hooks/a", "Origin: a\u{85}X-Evil: 1\r\nAccess-Control-Request-Method: POST\r\n"),
        ("GET /a", "X-Forwarded-For: \"\u{1}X-Evil: 1\r\n"),
    ] {
        let response = rig.request(line, headers, "").await;
        let lines: Vec<_> = response.lines().collect();
        assert!(!lines.iter().any(|line| line.starts_with("X-Evil")), "{response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn paths_beyond_the_bound_are_refused() {
    let rig = Rig::open("max_head_bytes = '4KiB'").await;
    for path in ["a".repeat(10_000), "/a".repeat(5_000), "%41".repeat(3_000)] {
        let mut stream = rig.connect().await;
        let text = request(&format!("POST /hooks/{path}"), "", "");
        // The listener may close before all of it is sent.
        drop(stream.write_all(text.as_bytes()).await);
        let mut start = [0; 12];
        soon(stream.read_exact(&mut start)).await.unwrap();
        let start = String::from_utf8_lossy(&start).into_owned();
        assert!(["HTTP/1.1 431", "HTTP/1.1 414"].contains(&&*start), "{start}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let rig = Rig::open("max_connections_per_address = 2").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = rig.connect().await;
        stream.write_all(b"GET /other HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
        read_until(&mut stream, "wants this path\"}").await;
        held.push(stream);
    }
    let mut third = rig.connect().await;
    assert!(!matches!(soon(third.read(&mut [0; 1])).await, Ok(1..)));
    drop(held);
    rig.ends().await;
}

/// What this process holds in memory, in bytes.
fn resident_bytes() -> usize {
    let figures = std::fs::read_to_string("/proc/self/statm").unwrap();
    figures.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[tokio::test]
#[ignore = "measures the memory of the process, so it must run alone: -- --ignored idle"]
async fn five_thousand_idle_connections_cost_little() {
    const CONNECTIONS: usize = 5_000;
    let rig = Rig::open("max_connections = 6000\nmax_connections_per_address = 6000").await;
    let open = async |count: usize| {
        let mut held = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = rig.connect().await;
            stream.write_all(b"GET /other HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
            read_until(&mut stream, "wants this path\"}").await;
            held.push(stream);
        }
        held
    };
    let warm = open(100).await;
    let before = resident_bytes();
    let held = open(CONNECTIONS).await;
    let each = (resident_bytes() - before) / CONNECTIONS;
    println!("an idle connection costs {each} bytes, its client's side included");
    assert!(each < 40 * 1024, "{each}");
    drop((warm, held));
    rig.ends().await;
}
