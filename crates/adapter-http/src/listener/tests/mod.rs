mod abuse;
mod access;
mod intake;
mod limits;
mod streams;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use transload_adapter::{
    Context, Delivery, Destination, Inbound, Outbound, SendError, Sent, Settlement,
};
use transload_envelope::{Envelope, Outgoing};

use super::{ListenerTarget, open};
use crate::testing::{context, soon};

/// A listener on a free port, and the gateway's ends of it.
struct Rig {
    address: SocketAddr,
    inbound: Option<Box<dyn Inbound>>,
    outbound: Arc<dyn Outbound<ListenerTarget>>,
    context: Context,
}

impl Rig {
    /// Listens with further settings; takes what is posted below `hooks/`.
    async fn open(settings: &str) -> Self {
        Self::with_credits(settings, 64).await
    }

    async fn with_credits(settings: &str, credits: usize) -> Self {
        let config = toml::from_str(&format!("listen = \"127.0.0.1:0\"\n{settings}")).unwrap();
        assert_eq!(super::config::lint(&config), []);
        let context = context(&["hooks/#"], credits);
        let (endpoints, address) = open(Arc::new(config), context.clone()).await.unwrap();
        let (inbound, outbound) = (endpoints.inbound, endpoints.outbound.unwrap());
        Self { address, inbound, outbound, context }
    }

    /// The next message that came in.
    async fn delivery(&mut self) -> Delivery {
        let mut into = Vec::new();
        let inbound = self.inbound.as_mut().unwrap();
        assert_eq!(soon(inbound.receive(&mut into, 1)).await.unwrap(), 1);
        into.remove(0)
    }

    /// Settles everything that comes in from now on.
    fn settle_all(&mut self, verdict: impl Fn(&Envelope) -> Settlement + Send + Sync + 'static) {
        let mut inbound = self.inbound.take().unwrap();
        self.context.tasks.spawn(async move {
            let mut into = Vec::new();
            while inbound.receive(&mut into, 16).await.is_ok() {
                for delivery in into.drain(..) {
                    let verdict = verdict(&delivery.envelope);
                    delivery.receipt.settle(verdict);
                }
            }
        });
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the text on a new connection and reads until the listener closes it.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// The same for a request of this method, path, further header lines and body.
    async fn request(&self, line: &str, headers: &str, body: &str) -> String {
        self.exchange(request(line, headers, body)).await
    }

    async fn publish(&self, stream: &str, message: Outgoing) -> Result<Sent, SendError> {
        let target = ListenerTarget { stream: Some(stream.to_owned()) };
        let to = Destination { name: "route/0", target: &target };
        let mut results = self.outbound.send(to, &[message]).await;
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// Drops the gateway's ends; all tasks must end.
    async fn ends(self) {
        let Self { inbound, outbound, context, .. } = self;
        drop((inbound, outbound));
        context.stop.cancel();
        context.tasks.close();
        soon(context.tasks.wait()).await;
        assert_eq!(context.credits.available_permits(), 64, "all credits are back");
    }
}

fn request(line: &str, headers: &str, body: &str) -> String {
    let length =
        if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{length}{headers}\r\n{body}")
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    soon(stream.read_to_end(&mut response)).await.unwrap();
    String::from_utf8(response).unwrap()
}

/// Reads until the text has come, and perhaps further.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    read_in_pieces(stream, text, 64 * 1024).await
}

/// Reads the head of a response and nothing more.
async fn read_head(stream: &mut TcpStream) -> String {
    read_in_pieces(stream, "\r\n\r\n", 1).await
}

async fn read_in_pieces(stream: &mut TcpStream, text: &str, bytes: usize) -> String {
    let mut read = Vec::new();
    let wait = async {
        let mut piece = vec![0; bytes];
        let mut searched = 0;
        loop {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(
                count > 0,
                "the end came before {text:?}: {:?}",
                String::from_utf8_lossy(&read)
            );
            read.extend_from_slice(&piece[..count]);
            if read[searched..].windows(text.len()).any(|window| window == text.as_bytes()) {
                break;
            }
            searched = read.len().saturating_sub(text.len());
        }
    };
    soon(wait).await;
    String::from_utf8(read).unwrap()
}

fn status(response: &str) -> u16 {
    let status = response.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.unwrap_or_else(|| panic!("no response: {response:?}")).parse().unwrap()
}
