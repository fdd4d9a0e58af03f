use crate::{Consumer, Python, Received, free_port};

/// A foreign HTTP server that records what it is sent.
#[derive(Debug)]
pub struct HttpSink {
    port: u16,
    consumer: Option<Consumer>,
}

impl HttpSink {
    /// Starts a server that answers 200.
    pub async fn start() -> Self {
        let mut sink = Self::absent();
        sink.appear(&[]).await;
        sink
    }

    /// A server that is not there yet, whose port is known.
    pub fn absent() -> Self {
        Self { port: free_port(), consumer: None }
    }

    /// Starts the server: `--status 500,200`, `--retry-after 1`.
    pub async fn appear(&mut self, arguments: &[&str]) {
        let client = Python::new("http_sink", &self.port.to_string());
        self.consumer = Some(client.consume(arguments).await);
    }

    /// Kills the server, and returns all that it has received.
    pub fn vanish(&mut self) -> Vec<Received> {
        self.consumer.take().map(Consumer::vanish).unwrap_or_default()
    }

    /// The server's URL without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has received.
    pub fn requests(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("the server is there")
    }
}
