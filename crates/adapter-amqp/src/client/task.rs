//! The task that owns a connection.

use std::{pin::pin, time::Duration};

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{
        AMQPClass,
        connection::{AMQPMethod, Close, CloseOk},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;
use transload_adapter::wire::{Io, Progress};

use super::{
    Command,
    channels::Channels,
    error::{Error, Result},
    input::{Frame, frame_bytes, method_frame, next_frame},
    login::{self, Terms},
};
use crate::connect::{CLOSE_TIMEOUT, LinkState, Teller};

/// Above so many bytes that wait to be written, no more calls are taken.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the last word to a broker that ends the connection may take.
const LAST_WORD: Duration = Duration::from_secs(1);
/// The ticks in one heartbeat interval: half of it is how often something is sent (AMQP 0-9-1,
/// section 4.2.7).
const TICKS_PER_HEARTBEAT: u64 = 2;
/// After two intervals of silence the broker is taken for gone (the same section).
const SILENT_TICKS_MAX: u64 = 2 * TICKS_PER_HEARTBEAT;

/// The state of one connection.
pub(super) struct Task {
    io: Io,
    commands: mpsc::Receiver<Command>,
    channels: Channels,
    closing: CancellationToken,
    state: watch::Sender<LinkState>,
    teller: Teller,
    frame_bytes_max: usize,
    heartbeat: Heartbeat,
}

/// Signs of life of both sides.
struct Heartbeat {
    ticks: Option<Interval>,
    has_written: bool,
    silent_ticks: u64,
}

/// What the loop does next.
enum Next {
    Progress(Progress),
    Command(Option<Command>),
    Room,
    Tick,
}

impl Task {
    pub(super) fn new(
        io: Io,
        commands: mpsc::Receiver<Command>,
        channels: Channels,
        closing: CancellationToken,
        state: watch::Sender<LinkState>,
        teller: Teller,
        terms: Terms,
    ) -> Self {
        let frame_bytes_max = match terms.frame_bytes_max {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        Self {
            io,
            commands,
            channels,
            closing,
            state,
            teller,
            frame_bytes_max,
            heartbeat: Heartbeat::new(terms.heartbeat_s),
        }
    }

    pub(super) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// Works until the connection is lost, or nobody wants it any more.
    pub(super) async fn run(mut self) {
        let error = match self.work().await {
            Ok(()) => Error::Closed,
            Err(error) => error,
        };
        self.last_word().await;
        // First the state: whoever finds a command dropped asks it for the reason.
        self.state.send_replace(LinkState::Lost(error.clone()));
        self.channels.end(&error);
    }

    async fn work(&mut self) -> Result<()> {
        let mut closing = pin!(self.closing.clone().cancelled_owned());
        loop {
            self.take_frames()?;
            let full = self.channels.arrivals.is_full();
            let next = tokio::select! {
                progress = self.io.progress(!full) => Next::Progress(progress?),
                () = self.channels.arrivals.until_room(), if full => Next::Room,
                command = self.commands.recv(), if self.io.output.len() < OUTPUT_BYTES_MAX => {
                    Next::Command(command)
                }
                () = self.heartbeat.tick() => Next::Tick,
                () = &mut closing => return self.say_goodbye().await,
            };
            match next {
                Next::Progress(progress) => self.heartbeat.alive(progress),
                Next::Command(None) => return self.say_goodbye().await,
                Next::Command(Some(command)) => self.obey(command)?,
                // What was not read could not show that the broker is there.
                Next::Room => self.heartbeat.silent_ticks = 0,
                Next::Tick => self.beat(full)?,
            }
        }
    }

    /// Lets out what is left, such as the answer to a broker that ends the connection.
    async fn last_word(&mut self) {
        drop(timeout(LAST_WORD, self.io.flush()).await);
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        let output = &mut self.io.output;
        match command {
            Command::Open(opened) => self.channels.open(opened, output),
            Command::Call { channel, method, reply } => {
                self.channels.call(&channel, &method, reply, output);
                Ok(())
            }
            Command::Write { channel, frames } => {
                self.channels.write(&channel, &frames, output);
                Ok(())
            }
            Command::Publish { channel, frames, done } => {
                self.channels.publish(&channel, frames, done, output);
                Ok(())
            }
            Command::GiveUp(channel) => self.channels.give_up(&channel, output),
        }
    }

    fn beat(&mut self, full: bool) -> Result<()> {
        if full {
            self.heartbeat.silent_ticks = 0;
        }
        if self.heartbeat.silent_ticks >= SILENT_TICKS_MAX {
            return Err(Error::Silent);
        }
        if !self.heartbeat.has_written && self.io.output.is_empty() {
            self.io.output.buffer().extend_from_slice(&frame_bytes(&AMQPFrame::Heartbeat)?);
        }
        self.heartbeat.has_written = false;
        Ok(())
    }

    /// Takes the frames that are there, as far as there is room for what they bring.
    fn take_frames(&mut self) -> Result<()> {
        while !self.channels.arrivals.is_full()
            && let Some(frame) = next_frame(&mut self.io.input, self.frame_bytes_max)?
        {
            match frame {
                Frame::Heartbeat => {}
                Frame::Connection(method) => self.take_method(method)?,
                Frame::Channel(number, said) => {
                    self.channels.take(number, said, &mut self.io.output)?;
                }
            }
        }
        Ok(())
    }

    fn take_method(&mut self, method: AMQPMethod) -> Result<()> {
        match method {
            AMQPMethod::Blocked(blocked) => {
                self.enter(LinkState::Blocked(blocked.reason.as_str().into()));
                Ok(())
            }
            AMQPMethod::Unblocked(_) => {
                self.enter(LinkState::Open);
                Ok(())
            }
            AMQPMethod::Close(close) => {
                let ok = AMQPClass::Connection(AMQPMethod::CloseOk(CloseOk {}));
                self.io.output.buffer().extend_from_slice(&method_frame(0, ok)?);
                Err(close.into())
            }
            AMQPMethod::Start(_)
            | AMQPMethod::StartOk(_)
            | AMQPMethod::Secure(_)
            | AMQPMethod::SecureOk(_)
            | AMQPMethod::Tune(_)
            | AMQPMethod::TuneOk(_)
            | AMQPMethod::Open(_)
            | AMQPMethod::OpenOk(_)
            | AMQPMethod::CloseOk(_)
            | AMQPMethod::UpdateSecret(_)
            | AMQPMethod::UpdateSecretOk(_) => Err(login::unexpected(&method)),
        }
    }

    fn enter(&self, state: LinkState) {
        self.teller.tell(&state);
        self.state.send_replace(state);
    }

    /// Closes the connection in order; what is open is answered as far as the broker does.
    async fn say_goodbye(&mut self) -> Result<()> {
        self.commands.close();
        while self.io.output.len() < OUTPUT_BYTES_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            self.obey(command)?;
        }
        let close = Close {
            reply_code: 200,
            reply_text: "the gateway closes the connection".into(),
            class_id: 0,
            method_id: 0,
        };
        self.io
            .output
            .buffer()
            .extend_from_slice(&method_frame(0, AMQPClass::Connection(AMQPMethod::Close(close)))?);
        let ending = async {
            loop {
                while let Some(frame) = next_frame(&mut self.io.input, self.frame_bytes_max)? {
                    match frame {
                        Frame::Connection(AMQPMethod::CloseOk(_)) => return Ok(()),
                        Frame::Connection(_) | Frame::Heartbeat => {}
                        Frame::Channel(number, said) => {
                            self.channels.take(number, said, &mut self.io.output)?;
                        }
                    }
                }
                self.io.progress(true).await?;
            }
        };
        // Whatever the broker answers, or fails to: the connection is of no more use to anybody.
        timeout(CLOSE_TIMEOUT, ending).await.unwrap_or(Ok(()))
    }
}

impl Heartbeat {
    fn new(interval_s: u16) -> Self {
        let ticks = (interval_s > 0).then(|| {
            let between = Duration::from_millis(u64::from(interval_s) * 1000 / TICKS_PER_HEARTBEAT);
            let mut ticks = interval_at(Instant::now() + between, between);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { ticks, has_written: false, silent_ticks: 0 }
    }

    fn alive(&mut self, progress: Progress) {
        match progress {
            Progress::Read(_) => self.silent_ticks = 0,
            Progress::Wrote => self.has_written = true,
        }
    }

    /// Waits for the next tick; for ever without heartbeats. Cancel-safe.
    async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
                self.silent_ticks += 1;
            }
            None => std::future::pending().await,
        }
    }
}
