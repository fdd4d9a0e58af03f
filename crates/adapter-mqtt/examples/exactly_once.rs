//! What it costs that packet identifiers of `QoS` 2 are on disk in sessions that outlive their connection:
//! `cargo run --release -p transload-adapter-mqtt --example exactly_once -- 20000`. Messages go to a
//! route that accepts them at once, so that the figure is that of the identifiers alone.

#![expect(clippy::print_stdout, reason = "the figure is what it is for")]

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{Context, Interest, NoObserver, Settlement, Updates};
use transload_adapter_mqtt::MqttListener;
use transload_delivery::{JournalStore, journal::JournalSettings};

type Error = Box<dyn std::error::Error>;

/// How many messages are on their way at once.
const WINDOW: u16 = 200;

fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).unwrap_or("20000".into()).parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(count))
}

async fn measure(count: u32) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let context = Context {
        name: "devices".into(),
        credits: Arc::new(Semaphore::new(1024)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        interest: Arc::new(Interest { patterns: vec!["#".into()] }),
        updates: Updates::default(),
        store: Arc::new(JournalStore::open(folder.path(), JournalSettings::default())?),
        observer: Arc::new(NoObserver),
    };
    let tasks = context.tasks.clone();
    let config = Arc::new(toml::from_str("listen = \"127.0.0.1:0\"")?);
    let (endpoints, addresses) = MqttListener::open(config, context).await?;
    let mut inbound = endpoints.inbound.ok_or("no inbound end")?;
    tasks.spawn(async move {
        let mut deliveries = Vec::new();
        while inbound.receive(&mut deliveries, 256).await.is_ok() {
            for delivery in deliveries.drain(..) {
                delivery.receipt.settle(Settlement::Accepted);
            }
        }
    });
    for (name, expiry_s) in [("clean", 0), ("persistent", 3600)] {
        let begin = Instant::now();
        publish(addresses.tcp, expiry_s, count).await?;
        let rate = f64::from(count) / begin.elapsed().as_secs_f64();
        println!("{name}: {count} messages of QoS 2, {WINDOW} at once: {rate:.0} a second");
    }
    Ok(())
}

async fn publish(address: SocketAddr, expiry_s: u32, count: u32) -> Result<(), Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut connect = vec![0x10, 20, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 5, 17];
    connect.extend(expiry_s.to_be_bytes());
    connect.extend([0, 2, b'e', b'o']);
    stream.write_all(&connect).await?;
    let mut free: VecDeque<u16> = (1..=WINDOW).collect();
    let (mut sent, mut done) = (0, 0);
    let mut input = Vec::new();
    let mut output = Vec::new();
    while done < count {
        while sent < count
            && let Some(id) = free.pop_front()
        {
            output.extend([0x34, 14, 0, 1, b't']);
            output.extend(id.to_be_bytes());
            output.extend([0, b'8', b' ', b'b', b'y', b't', b'e', b's']);
            output.push(b'.');
            sent += 1;
        }
        stream.write_all(&output).await?;
        output.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Err("the listener has closed".into());
        }
        let mut rest = &*input;
        while let Some((head, behind)) = rest.split_at_checked(2)
            && let Some((body, behind)) =
                behind.split_at_checked(usize::from(*head.last().unwrap_or(&0)))
        {
            rest = behind;
            let id = body.first_chunk().copied().map_or(0, u16::from_be_bytes);
            match head.first().copied().unwrap_or(0) {
                0x50 => {
                    output.extend([0x62, 2]);
                    output.extend(id.to_be_bytes());
                }
                0x70 => {
                    free.push_back(id);
                    done += 1;
                }
                _ => {}
            }
        }
        let left = rest.len();
        input.drain(..input.len() - left);
    }
    Ok(())
}
