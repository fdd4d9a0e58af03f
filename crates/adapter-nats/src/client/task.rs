//! The task that owns a connection.

use std::{collections::VecDeque, mem, pin::pin, sync::Arc, time::Duration};

use bytes::Buf as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;
use transload_adapter::{
    BoxError,
    wire::{Io, Progress},
};

use super::{
    Command, Sink,
    encode::put_unsubscribe,
    input::{Parsed, Said, parse},
    login::{Info, Server},
};
use crate::{error::Loss, link::Link};

/// Above so many bytes that wait to be written, no more calls are taken.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Up to so many bytes, what several calls write leaves at once.
const TOGETHER_BYTES_MAX: usize = 256 * 1024;
/// After so many questions without an answer, the server is taken for gone.
const UNANSWERED_MAX: u32 = 2;
/// How long what is left at the end may take to leave.
const LAST_WORD: Duration = Duration::from_secs(5);

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

/// The state of one connection.
pub(super) struct Task {
    /// The first to go, so that whoever finds the rest gone knows why.
    _ended: Ended,
    io: Io,
    commands: mpsc::Receiver<Command>,
    closing: CancellationToken,
    /// By the numbers of the subscriptions.
    sinks: Vec<Option<Box<dyn Sink>>>,
    /// What each PING was for that is not answered.
    asked: VecDeque<Asked>,
    ticks: Interval,
    silent_ticks: u32,
    /// The error that the server told of last, if it has said nothing since. Most of them are
    /// followed by the end of the connection, for which they are why.
    last_words: Option<String>,
    server: Arc<Server>,
    link: Arc<Link>,
}

/// What a PING asks of the server.
enum Asked {
    IsThere,
    HasRead(oneshot::Sender<()>),
    HasEnded { numbers: Vec<u64>, drained: oneshot::Sender<()> },
}

/// What the loop does next.
enum Next {
    Progress(Progress),
    Command(Option<Command>),
    Tick,
}

/// Tells of the loss however the task ends, also by a panic.
struct Ended(Arc<Link>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lose("the connection has ended");
    }
}

impl Task {
    pub(super) fn new(
        io: Io,
        commands: mpsc::Receiver<Command>,
        closing: CancellationToken,
        link: &Arc<Link>,
        server: Arc<Server>,
        ping_interval: Duration,
    ) -> Self {
        let mut ticks = interval_at(Instant::now() + ping_interval, ping_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            _ended: Ended(Arc::clone(link)),
            io,
            commands,
            closing,
            sinks: Vec::new(),
            asked: VecDeque::new(),
            ticks,
            silent_ticks: 0,
            last_words: None,
            server,
            link: Arc::clone(link),
        }
    }

    /// Works until the connection is lost, or nobody wants it any more.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.work().await {
            self.link.lose(match self.last_words {
                Some(words) => format!("{error}: {words}"),
                None => error.to_string(),
            });
        }
    }

    async fn work(&mut self) -> Result<(), BoxError> {
        let mut closing = pin!(self.closing.clone().cancelled_owned());
        loop {
            self.take_input()?;
            let next = tokio::select! {
                progress = self.io.progress(true) => Next::Progress(progress?),
                command = self.commands.recv(), if self.io.output.len() < OUTPUT_BYTES_MAX => {
                    Next::Command(command)
                }
                _ = self.ticks.tick() => Next::Tick,
                () = &mut closing => return self.finish().await,
            };
            match next {
                Next::Progress(Progress::Read(_)) => {
                    self.silent_ticks = 0;
                    self.last_words = None;
                }
                Next::Progress(Progress::Wrote) => {}
                Next::Command(None) => return self.finish().await,
                Next::Command(Some(command)) => {
                    self.obey(command);
                    self.obey_more(TOGETHER_BYTES_MAX);
                }
                Next::Tick => self.ask_whether_it_is_there()?,
            }
        }
    }

    fn obey_more(&mut self, bytes_max: usize) {
        while self.io.output.len() < bytes_max
            && let Ok(command) = self.commands.try_recv()
        {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        let output = &mut self.io.output;
        match command {
            Command::Write(frames) => output.append(frames.into_output()),
            Command::Prove { frames, read } => {
                output.append(frames.into_output());
                output.buffer().extend_from_slice(PING);
                self.asked.push_back(Asked::HasRead(read));
            }
            Command::Subscribe { number, frames, sink } => {
                let place = usize::try_from(number).unwrap_or(usize::MAX);
                if self.sinks.len() <= place {
                    self.sinks.resize_with(place + 1, || None);
                }
                if let Some(free) = self.sinks.get_mut(place) {
                    *free = Some(sink);
                }
                output.append(frames.into_output());
            }
            Command::Drain { numbers, drained } => {
                for number in &numbers {
                    put_unsubscribe(output.buffer(), *number);
                }
                output.buffer().extend_from_slice(PING);
                self.asked.push_back(Asked::HasEnded { numbers, drained });
            }
        }
    }

    /// Takes what was read, in place.
    fn take_input(&mut self) -> Result<(), BoxError> {
        let mut input = mem::take(&mut self.io.input);
        let mut rest: &[u8] = &input;
        let missing = loop {
            match parse(rest)? {
                Parsed::Whole(said, bytes) => {
                    self.take(said)?;
                    rest = rest.get(bytes..).unwrap_or_default();
                }
                Parsed::Part(bytes) => break bytes - rest.len(),
            }
        };
        let taken = input.len() - rest.len();
        input.advance(taken);
        self.io.input = input;
        if missing > 1 {
            self.io.make_room(missing);
        }
        Ok(())
    }

    fn take(&mut self, said: Said<'_>) -> Result<(), BoxError> {
        match said {
            Said::Message(number, message) => {
                let place = usize::try_from(number).unwrap_or(usize::MAX);
                if let Some(Some(sink)) = self.sinks.get_mut(place) {
                    sink.take(message);
                }
            }
            Said::Ping => self.io.output.buffer().extend_from_slice(PONG),
            Said::Pong => self.answer(),
            Said::Fine => {}
            Said::Info(json) => {
                let Some(info) = Info::read(json) else { return Ok(()) };
                self.server.note(&info);
                if info.ldm {
                    tracing::info!("the NATS server is about to shut down");
                }
            }
            Said::Error(text) => {
                self.link.note(&text).map_err(Loss::boxed)?;
                self.last_words = Some(text.into_owned());
            }
        }
        Ok(())
    }

    /// The server answers PINGs in their order.
    fn answer(&mut self) {
        match self.asked.pop_front() {
            Some(Asked::HasRead(read)) => {
                // Whoever asked may be gone.
                let _ = read.send(());
            }
            Some(Asked::HasEnded { numbers, drained }) => {
                for number in numbers {
                    let place = usize::try_from(number).unwrap_or(usize::MAX);
                    if let Some(sink) = self.sinks.get_mut(place) {
                        *sink = None;
                    }
                }
                let _ = drained.send(());
            }
            Some(Asked::IsThere) | None => {}
        }
    }

    fn ask_whether_it_is_there(&mut self) -> Result<(), BoxError> {
        if self.silent_ticks >= UNANSWERED_MAX {
            return Err(Loss::boxed("the server does not answer"));
        }
        self.silent_ticks += 1;
        if self.io.output.is_empty() {
            self.io.output.buffer().extend_from_slice(PING);
            self.asked.push_back(Asked::IsThere);
        }
        Ok(())
    }

    /// Writes what there is to write, and closes the connection.
    async fn finish(&mut self) -> Result<(), BoxError> {
        self.commands.close();
        self.obey_more(OUTPUT_BYTES_MAX);
        if timeout(LAST_WORD, self.io.close()).await.is_err() {
            tracing::debug!("the connection to NATS closes with unsent bytes");
        }
        Ok(())
    }
}
