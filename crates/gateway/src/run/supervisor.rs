//! The life of one adapter instance: connect, serve, and connect again.
//!
//! Invariants:
//! - A broker that is down is a state: it is tried again with back-off and jitter for as long as the
//!   gateway runs, and a change of state is one line in the log.
//! - Nobody but the supervisor connects, so an adapter needs no reconnection of its own.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{debug, info, warn};
use transload_adapter::{
    AnyEndpoints, BoxError, ConnectError, Context, Inbound, Lost, Prepared, ReceiveError,
};
use transload_delivery::{backoff::Backoff, worker::LinkSender};
use transload_envelope::Text;

use crate::{
    dispatch::Dispatcher,
    metrics::AdapterMetrics,
    status::{AdapterState, Status},
};

const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(15);

/// A connection that has lasted this long was a good one: the back-off starts anew after it.
const LASTING: Duration = Duration::from_secs(5);

/// An adapter that has not connected by then is treated as if nobody answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks after one adapter instance.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) name: Text,
    pub(crate) prepared: Arc<dyn Prepared>,
    /// What the adapter gets; its stop signal, tasks and interest are made anew for each connection.
    pub(crate) context: Context,
    pub(crate) link: LinkSender,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) status: Status,
    pub(crate) metrics: AdapterMetrics,
    /// Is empty when no dispatcher takes messages in any more.
    pub(crate) intake: TaskTracker,
    /// Fires when the connections are to be closed.
    pub(crate) close: CancellationToken,
}

/// How long the tasks of a connection may take to end after it was closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a connection ended.
enum End {
    Lost(BoxError),
    Closed,
}

impl Supervisor {
    /// Serves until `close` fires. The first attempt to connect reports through `first`, so that a
    /// gateway that can never work does not start.
    pub(crate) async fn run(mut self, first: oneshot::Sender<Result<(), ConnectError>>) {
        let mut first = Some(first);
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MAX);
        while !self.close.is_cancelled() && !self.context.stop.is_cancelled() {
            match self.connect().await {
                Ok((endpoints, context)) => {
                    report(&mut first, Ok(()));
                    self.up();
                    let since = Instant::now();
                    match self.serve(endpoints, &context).await {
                        End::Closed => break,
                        End::Lost(reason) => self.down(&reason.to_string()),
                    }
                    if since.elapsed() >= LASTING {
                        backoff.reset();
                    }
                }
                Err(error @ ConnectError::Unusable { .. }) => {
                    self.down(&describe(&error));
                    report(&mut first, Err(error));
                }
                Err(error) => {
                    report(&mut first, Ok(()));
                    self.down(&describe(&error));
                }
            }
            self.wait(backoff.next_wait()).await;
        }
        // Workers of other connections may still deliver what is in hand until `close` fires.
        self.close.cancelled().await;
        self.status.set(&self.name, AdapterState::Stopped);
        self.metrics.connected.set(0);
    }

    async fn connect(&self) -> Result<(AnyEndpoints, Context), ConnectError> {
        let context = Context {
            stop: self.context.stop.child_token(),
            tasks: TaskTracker::new(),
            interest: self.context.updates.interest(),
            ..self.context.clone()
        };
        let connecting = timeout(CONNECT_TIMEOUT, self.prepared.connect(context.clone()));
        let endpoints = tokio::select! {
            () = self.close.cancelled() => return Err(ConnectError::Unreachable("stopped".into())),
            connected = connecting => connected
                .map_err(|_| ConnectError::Unreachable("no answer in time".into()))??,
        };
        Ok((endpoints, context))
    }

    /// Serves one connection until it is lost or is to be closed.
    async fn serve(&mut self, endpoints: AnyEndpoints, context: &Context) -> End {
        let AnyEndpoints { inbound, outbound, lost } = endpoints;
        if let Some(outbound) = outbound {
            self.link.announce(outbound);
        }
        let intake = self.intake.token();
        let end = tokio::select! {
            () = self.close.cancelled() => End::Closed,
            end = receive(&self.dispatcher, inbound, lost, intake) => end,
            reason = self.link.lost() => End::Lost(reason),
        };
        context.stop.cancel();
        if let Some(outbound) = self.link.withdraw() {
            outbound.close().await;
        }
        context.tasks.close();
        if timeout(CLOSE_TIMEOUT, context.tasks.wait()).await.is_err() {
            debug!(adapter = %self.name, "Tasks of the old connection have not ended in time.");
        }
        end
    }

    fn up(&self) {
        self.metrics.connected.set(1);
        if self.status.set(&self.name, AdapterState::Up) != Some(AdapterState::Up) {
            info!(adapter = %self.name, at = %self.prepared.describe(), "The adapter is up.");
        }
    }

    fn down(&self, reason: &str) {
        self.metrics.connected.set(0);
        let before = self.status.set(&self.name, AdapterState::Down { reason: reason.to_owned() });
        if matches!(before, Some(AdapterState::Down { .. } | AdapterState::Stopped)) {
            debug!(adapter = %self.name, %reason, "The adapter is still down.");
        } else {
            warn!(
                adapter = %self.name,
                at = %self.prepared.describe(),
                %reason,
                "The adapter is down, it is tried again and messages are held."
            );
        }
    }

    async fn wait(&self, wait: Duration) {
        tokio::select! {
            () = self.close.cancelled() => {}
            () = sleep(wait) => {}
        }
    }
}

/// Dispatches what comes in until the connection is lost. When the source has handed over
/// everything, the connection stays for what goes out.
async fn receive(
    dispatcher: &Dispatcher,
    inbound: Option<Box<dyn Inbound>>,
    mut lost: Lost,
    intake: TaskTrackerToken,
) -> End {
    if let Some(mut inbound) = inbound {
        let ended = tokio::select! {
            error = dispatcher.run(&mut *inbound) => error,
            reason = &mut lost => return End::Lost(reason),
        };
        if let ReceiveError::Disconnected(reason) = ended {
            return End::Lost(reason);
        }
    }
    drop(intake);
    End::Lost(lost.await)
}

fn report(
    first: &mut Option<oneshot::Sender<Result<(), ConnectError>>>,
    result: Result<(), ConnectError>,
) {
    if let Some(first) = first.take() {
        // Nobody waits any more when the gateway is already stopping.
        drop(first.send(result));
    }
}

fn describe(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
