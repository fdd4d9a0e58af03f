//! MQTT over WebSocket.

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use rumqttc::v5::mqttbytes::{QoS, v5::Packet};
use tokio_tungstenite::tungstenite::{
    Error, Message, client::IntoClientRequest, http::HeaderValue,
};

use crate::common::{soon, start, v5_connect, v5_publish};

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn open(address: std::net::SocketAddr, path: &str, protocol: &str) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    let value = HeaderValue::from_str(protocol).unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", value);
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (socket, response) =
        soon("a handshake", tokio_tungstenite::client_async(request, stream)).await?;
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
    Ok(socket)
}

async fn recv(socket: &mut Socket, buffer: &mut BytesMut) -> Packet {
    loop {
        if let Ok(packet) = Packet::read(buffer, None) {
            return packet;
        }
        let message = soon("a message", socket.next()).await.unwrap().unwrap();
        buffer.extend_from_slice(&message.into_data());
    }
}

fn bytes(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).unwrap();
    bytes
}

#[tokio::test]
async fn packets_come_through_however_they_are_cut() {
    let listener = start("websocket = \"127.0.0.1:0\"").await;
    let address = listener.websocket.unwrap();
    let mut socket = open(address, "/mqtt", "foo, mqtt").await.unwrap();
    let mut buffer = BytesMut::new();
    let mut all = bytes(&Packet::Connect(v5_connect("w"), None, None));
    for byte in all.split() {
        socket.send(Message::binary(vec![byte])).await.unwrap();
    }
    assert!(matches!(recv(&mut socket, &mut buffer).await, Packet::ConnAck(_)));
    let mut tcp = listener.v5("t").await;
    tcp.listen("large", QoS::AtLeastOnce).await;
    // Two packets in one message.
    let payload = vec![7; 300_000];
    all.extend(bytes(&Packet::Publish(v5_publish("large", QoS::AtLeastOnce, 1, &payload))));
    all.extend(bytes(&Packet::PingReq(rumqttc::v5::mqttbytes::v5::PingReq)));
    socket.send(Message::binary(all.freeze())).await.unwrap();
    let answers = [recv(&mut socket, &mut buffer).await, recv(&mut socket, &mut buffer).await];
    assert!(answers.iter().any(|answer| matches!(answer, Packet::PubAck(_))), "{answers:?}");
    assert!(answers.iter().any(|answer| matches!(answer, Packet::PingResp(_))), "{answers:?}");
    assert!(tcp.message().await.payload == payload);
}

#[tokio::test]
async fn other_paths_and_protocols_are_refused() {
    let listener = start("websocket = \"127.0.0.1:0\"").await;
    let address = listener.websocket.unwrap();
    for (path, protocol, status) in [("/", "mqtt", 404), ("/mqtt", "chat", 400)] {
        match open(address, path, protocol).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("{other:?}"),
        }
    }
    let mut socket = open(address, "/mqtt", "mqtt").await.unwrap();
    socket.send(Message::text("text")).await.unwrap();
    let end = async { while let Some(Ok(_)) = socket.next().await {} };
    soon("text ends the connection", end).await;
}
