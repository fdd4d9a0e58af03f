//! What an idle connection costs: opens many clients that log in, subscribe and then say nothing, and
//! prints the memory per connection, those of the clients in the same process included:
//! `cargo run --release -p transload-adapter-mqtt --example idle_connections -- 5000`

#![expect(clippy::print_stdout, reason = "the figure is what it is for")]

use std::{sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{Context, Interest, NoObserver, Updates};
use transload_adapter_mqtt::{MqttListener, hash_line};
use transload_delivery::MemoryStore;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).unwrap_or("5000".into()).parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(count))
}

async fn measure(count: usize) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let users = folder.path().join("users");
    std::fs::write(&users, hash_line("device", b"secret")?)?;
    let config = format!(
        "listen = \"127.0.0.1:0\"\nusers_file = '{}'\n\
         [[permissions]]\nusers = [\"*\"]\npublish = [\"d/{{client_id}}/#\"]\nsubscribe = [\"d/{{client_id}}/#\"]\n",
        users.display()
    );
    let context = Context {
        name: "devices".into(),
        credits: Arc::new(Semaphore::new(1024)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        interest: Arc::new(Interest { patterns: Vec::new() }),
        updates: Updates::default(),
        store: Arc::new(MemoryStore::new()),
        observer: Arc::new(NoObserver),
    };
    let (_endpoints, addresses) =
        MqttListener::open(Arc::new(toml::from_str(&config)?), context).await?;
    // The first login is checked for real; those behind it are remembered.
    let mut clients = vec![client(addresses.tcp, 0).await?];
    let before = resident_bytes()?;
    let begin = Instant::now();
    for number in 1..=count {
        clients.push(client(addresses.tcp, number).await?);
    }
    let each = (resident_bytes()?.saturating_sub(before)) / count.max(1);
    println!("{count} connections in {:?}: {each} bytes each", begin.elapsed());
    Ok(())
}

async fn client(address: std::net::SocketAddr, number: usize) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(address).await?;
    let id = format!("d{number:06}");
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0xc2, 0, 0, 0];
    for text in [id.as_str(), "device", "secret"] {
        body.extend(u16::try_from(text.len())?.to_be_bytes());
        body.extend(text.bytes());
    }
    write(&mut stream, 0x10, &body).await?;
    answer(&mut stream, 0x20).await?;
    let filter = format!("d/{id}/#");
    let mut body = vec![0, 1, 0];
    body.extend(u16::try_from(filter.len())?.to_be_bytes());
    body.extend(filter.bytes());
    body.push(1);
    write(&mut stream, 0x82, &body).await?;
    answer(&mut stream, 0x90).await?;
    Ok(stream)
}

async fn write(stream: &mut TcpStream, first: u8, body: &[u8]) -> Result<(), Error> {
    let frame = [&[first, u8::try_from(body.len())?], body].concat();
    Ok(stream.write_all(&frame).await?)
}

async fn answer(stream: &mut TcpStream, first: u8) -> Result<(), Error> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).await?;
    if head[0] == first && body.last() != Some(&0x87) { Ok(()) } else { Err("refused".into()) }
}

/// What the process has in memory.
fn resident_bytes() -> Result<usize, Error> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(pages * 4096)
}
