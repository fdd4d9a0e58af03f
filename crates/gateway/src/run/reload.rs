//! While the gateway runs: when its configuration is read anew, and what comes of that.
//!
//! Invariants:
//! - One reading after the other; each is checked as a whole, as at the start.
//! - A configuration with faults changes nothing. It is told in the log, in the metrics and on
//!   `/readyz` until a good one is read.

use std::{fmt, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use transload_envelope::Timestamp;

use super::{Changed, Plant, Site, until::Until, watch::Watch};
use crate::{
    admin::guard::Token,
    config::{GatewaySettings, Loaded, Report, Watched},
    queues::Queues,
    status::Refusal,
};

/// How many requests to read the configuration anew may wait; one more is answered by the last of
/// these.
const REQUESTS_MAX: usize = 8;

/// Reads and checks the configuration.
type Reader = dyn Fn() -> Loaded + Send + Sync;

/// How a running gateway comes to another configuration.
pub struct Reload {
    read: Option<Arc<Reader>>,
    watch: Watch,
    requests: Requests,
    waiting: mpsc::Receiver<Request>,
    ready: Option<fn()>,
}

/// Asks a running gateway to read its configuration anew. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<Request>);

/// Where requests go; nowhere for a gateway that does not read its configuration anew.
pub(crate) type Requests = Option<mpsc::Sender<Request>>;

/// A request to read the configuration anew, and whom to tell what came of it.
pub(crate) type Request = Option<oneshot::Sender<Outcome>>;

/// What came of reading the configuration anew.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Applied {
        changed: Changed,
        /// Settings of the gateway that have changed and count from the next start on.
        restart: Vec<&'static str>,
        report: Value,
    },
    Refused {
        reason: String,
        report: Value,
    },
}

impl Reload {
    /// A configuration that `read` reads, from the files that it named when it was read first, just
    /// now.
    pub fn new(
        read: impl Fn() -> Loaded + Send + Sync + 'static,
        watched: Watched,
    ) -> (Self, Reloader) {
        let (sender, waiting) = mpsc::channel(REQUESTS_MAX);
        let requests = Some(sender.clone());
        let watch = Watch::new(watched);
        (
            Self { read: Some(Arc::new(read)), watch, requests, waiting, ready: None },
            Reloader(sender),
        )
    }

    /// Calls this once when messages are taken in.
    #[must_use]
    pub fn when_ready(self, ready: fn()) -> Self {
        Self { ready: Some(ready), ..self }
    }

    pub(super) fn is_ready(&self) {
        if let Some(ready) = self.ready {
            ready();
        }
    }

    /// The configuration stays as it is.
    pub(super) fn never() -> Self {
        let watch = Watch::new(Watched::default());
        Self { read: None, watch, requests: None, waiting: mpsc::channel(1).1, ready: None }
    }

    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Reloader {
    /// Asks, and does not wait.
    pub fn reload(&self) {
        // Where requests wait already, one more would bring nothing else.
        drop(self.0.try_send(None));
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) settings: GatewaySettings,
    pub(super) plant: Plant,
    pub(super) site: &'a Site,
    pub(super) queues: &'a Queues,
    pub(super) token: Token,
}

impl Running<'_> {
    /// Runs until `stop` fires, and reads the configuration anew whenever there is a reason to.
    pub(super) async fn until(
        mut self,
        reload: Reload,
        stop: &CancellationToken,
    ) -> (Plant, GatewaySettings) {
        let Reload { read, mut watch, mut waiting, requests: _requests, .. } = reload;
        let Some(read) = read else {
            stop.cancelled().await;
            return (self.plant, self.settings);
        };
        loop {
            let request = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(request) = waiting.recv() => {
                    info!("The configuration is read anew, as asked.");
                    request
                }
                () = watch.changed(), if self.settings.reload_on_change => {
                    info!("The configuration is read anew, since its files have changed.");
                    None
                }
            };
            let outcome = self.reload(&read, &mut watch, stop).await;
            if let Some(answer) = request {
                // Who asked may have gone.
                drop(answer.send(outcome));
            }
        }
        (self.plant, self.settings)
    }

    async fn reload(
        &mut self,
        read: &Arc<Reader>,
        watch: &mut Watch,
        stop: &CancellationToken,
    ) -> Outcome {
        watch.before().await;
        let reading = Arc::clone(read);
        let loaded = match spawn_blocking(move || reading()).await {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(format!("it cannot be read: {error}"), Value::Null),
        };
        let Loaded { configuration, report, watched } = loaded;
        watch.after(watched).await;
        let Some(configuration) = configuration else {
            return self.refuse(report.render(false), report.to_json());
        };
        let until = Until::new(configuration.gateway.drain_timeout, stop.clone());
        let change = Box::pin(self.plant.change(&configuration, self.site, &until)).await;
        match change {
            Ok(changed) => self.apply(&configuration.gateway, changed, &report),
            Err(error) => self.refuse(error.to_string(), report.to_json()),
        }
    }

    fn apply(&mut self, wanted: &GatewaySettings, changed: Changed, report: &Report) -> Outcome {
        let restart = wanted.counts_later(&self.settings);
        self.settings.drain_timeout = wanted.drain_timeout;
        self.settings.reload_on_change = wanted.reload_on_change;
        self.token.replace(wanted.admin_token.clone());
        self.site.metrics.reloaded(true);
        self.site.status.restart_needed(restart.clone());
        if !report.findings.is_empty() {
            warn!(findings = %report.render(false), "The new configuration has findings.");
        }
        if !restart.is_empty() {
            let keys = restart.join(", ");
            warn!(%keys, "These settings of the gateway have changed and count from the next start on.");
        }
        let list = |names: &[_]| names.join(", ");
        info!(
            kept = changed.kept.len(),
            restarted = list(&changed.restarted),
            started = list(&changed.started),
            removed = list(&changed.removed),
            "The new configuration is in force."
        );
        self.queues.warn_of_orphans();
        Outcome::Applied { changed, restart, report: report.to_json() }
    }

    fn refuse(&self, reason: String, report: Value) -> Outcome {
        error!(%reason, "The new configuration is not in force, the old one stays.");
        self.site.metrics.reloaded(false);
        let refusal = Refusal { at: Timestamp::now(), reason: reason.clone() };
        self.site.status.refused(refusal);
        Outcome::Refused { reason, report }
    }
}

impl Outcome {
    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Applied { changed, restart, report } => {
                let list = |names: &[transload_envelope::Text]| {
                    names.iter().map(ToString::to_string).collect::<Vec<_>>()
                };
                json!({
                    "outcome": "applied",
                    "adapters": {
                        "kept": list(&changed.kept),
                        "restarted": list(&changed.restarted),
                        "started": list(&changed.started),
                        "removed": list(&changed.removed),
                    },
                    "restart_needed": restart,
                    "report": report,
                })
            }
            Self::Refused { reason, report } => {
                json!({ "outcome": "refused", "error": reason, "report": report })
            }
        }
    }
}
