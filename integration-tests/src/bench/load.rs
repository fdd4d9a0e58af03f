use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    sync::{Barrier, Semaphore},
    time::{Instant, timeout},
};

use super::message::{Template, now_ns};
use crate::faults::{
    Stamp,
    produce::{Outgoing, Protocol, Stream, Verdict},
};

/// For how long nothing may be acknowledged before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a sender waits at most, with nothing due and nothing to read, before it looks again.
const STEP: Duration = Duration::from_millis(100);

/// One connection that sends.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) number: u16,
    pub(super) messages: u32,
    pub(super) bytes: usize,
    /// How many messages may be unacknowledged.
    pub(super) window: usize,
    /// Messages a second; without it, as fast as they are acknowledged.
    pub(super) rate: Option<f64>,
    /// How long after the begin the first message of a lane with a rate is due, so that lanes do not
    /// send all at once.
    pub(super) offset: Duration,
    pub(super) port: u16,
    /// Counts what is acknowledged, on all lanes.
    pub(super) acknowledged: Arc<AtomicU64>,
    /// How many may connect at once.
    pub(super) connecting: Arc<Semaphore>,
    /// All lanes begin when the last one is connected.
    pub(super) ready: Arc<Barrier>,
}

struct State {
    next: u32,
    unacknowledged: VecDeque<u32>,
    template: Template,
    begin: Instant,
    begin_ns: u64,
}

impl Lane {
    /// Sends everything, and waits until it is acknowledged.
    pub(super) async fn run<P: Protocol>(self, mut protocol: P) -> io::Result<()> {
        let opened = self.open(&mut protocol).await;
        self.ready.wait().await;
        let mut stream = opened?;
        let mut state = State {
            next: 0,
            unacknowledged: VecDeque::new(),
            template: Template::new(self.bytes),
            begin: Instant::now(),
            begin_ns: now_ns(),
        };
        let (mut out, mut verdicts) = (BytesMut::new(), Vec::new());
        let mut heard = Instant::now();
        while state.next < self.messages || !state.unacknowledged.is_empty() {
            self.fill(&mut state, &mut protocol, &mut out);
            if !out.is_empty() {
                stream.write(&out).await?;
                out.clear();
            }
            if let Ok(read) = timeout(self.wait(&state), stream.more()).await {
                read?;
                protocol.read(&mut stream.input, &mut verdicts, &mut out)?;
                heard = Instant::now();
                self.settle(&mut state, &mut verdicts)?;
            } else if !state.unacknowledged.is_empty() && heard.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no acknowledgement came"));
            }
        }
        Ok(())
    }

    async fn open<P: Protocol>(&self, protocol: &mut P) -> io::Result<Stream> {
        let _place = self.connecting.acquire().await.map_err(io::Error::other)?;
        let mut stream = Stream::connect(self.port).await?;
        timeout(PATIENCE, protocol.open(&mut stream)).await??;
        Ok(stream)
    }

    fn fill<P: Protocol>(&self, state: &mut State, protocol: &mut P, out: &mut BytesMut) {
        while state.next < self.messages && state.unacknowledged.len() < self.window {
            let due_ns = match self.due(state) {
                Due::Now(due_ns) => due_ns,
                Due::Later => return,
            };
            let stamp = Stamp { lane: self.number, number: state.next };
            state.next += 1;
            state.unacknowledged.push_back(stamp.number);
            let id = format!("{}-{}", stamp.lane, stamp.number);
            let payload = state.template.fill(stamp, due_ns);
            protocol.publish(Outgoing { stamp, id: &id, payload }, false, out);
        }
    }

    /// When the next message is due, from the begin on; none for a lane without a rate.
    fn next_due(&self, state: &State) -> Option<Duration> {
        let rate = self.rate?;
        Some(self.offset + Duration::from_secs_f64(f64::from(state.next) / rate))
    }

    /// For how long there is nothing to send.
    fn wait(&self, state: &State) -> Duration {
        let may_send = state.next < self.messages && state.unacknowledged.len() < self.window;
        let due = self.next_due(state).filter(|_| may_send);
        due.map_or(STEP, |due| due.saturating_sub(state.begin.elapsed()).min(STEP))
    }

    fn due(&self, state: &State) -> Due {
        let Some(after) = self.next_due(state) else { return Due::Now(now_ns()) };
        if state.begin.elapsed() < after {
            return Due::Later;
        }
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Due::Now(state.begin_ns.saturating_add(after_ns))
    }

    fn settle(&self, state: &mut State, verdicts: &mut Vec<Verdict>) -> io::Result<()> {
        for verdict in verdicts.drain(..) {
            let Verdict::Acknowledged(number) = verdict else {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "a refusal came"));
            };
            if let Some(at) = state.unacknowledged.iter().position(|own| *own == number) {
                state.unacknowledged.remove(at);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

enum Due {
    Now(u64),
    Later,
}
