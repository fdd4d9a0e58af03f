//! The admin address: health, readiness, metrics, and what people can look at and change.

pub(crate) mod guard;
mod operations;
mod reload;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State as Extract,
    http::{HeaderMap, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};
use transload_delivery::{dead_letters::PREFIX, journal::Health};
use transload_envelope::Timestamp;
use transload_listen::{Bound, Connection, Places, Refused, Serve, Settings};

use self::guard::Token;
use crate::{
    letters::Letters,
    metrics::Metrics,
    queues::Queues,
    routing::Shared,
    run::Requests,
    status::{AdapterState, InForce, Stage, Status},
    storage::Storage,
    times,
};

/// What the pages are made from.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) metrics: Metrics,
    pub(crate) shared: Arc<Shared>,
    pub(crate) storage: Storage,
    pub(crate) letters: Arc<Letters>,
    pub(crate) queues: Arc<Queues>,
    /// Asks for the configuration to be read anew, where that can be.
    pub(crate) reload: Requests,
    /// What peers must show.
    pub(crate) token: Token,
}

impl State {
    /// Puts together what the pages are made from.
    pub(crate) fn new(
        status: Status,
        metrics: Metrics,
        storage: Storage,
        letters: Letters,
        shared: Arc<Shared>,
    ) -> Self {
        let queues = Arc::new(Queues::new(Arc::clone(&shared), storage.clone()));
        Self {
            status,
            metrics,
            shared,
            storage,
            letters: Arc::new(letters),
            queues,
            reload: None,
            token: Token::default(),
        }
    }
}

/// How many peers are served at once: people, probes and scrapers.
const CONNECTIONS_MAX: usize = 64;

/// How long a peer may take for the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the admin address until `close` fires.
pub(crate) async fn serve(
    address: SocketAddr,
    state: State,
    tasks: &TaskTracker,
    close: CancellationToken,
) -> Result<(), String> {
    let bound = Bound::new(address).await.map_err(|error| error.to_string())?;
    info!(address = %bound.address(), "The admin address is served.");
    let router = Router::new()
        .merge(
            operations::router()
                .merge(reload::router())
                .route("/config", get(config))
                .layer(from_fn_with_state(state.token.clone(), guard::guard)),
        )
        .merge(
            Router::new()
                .route("/metrics", get(metrics))
                .layer(from_fn_with_state(state.token.clone(), guard::with_token)),
        )
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(state);
    let settings = Settings {
        places: Places::new(CONNECTIONS_MAX, CONNECTIONS_MAX),
        tls: None,
        stop: close.clone(),
        tasks: tasks.clone(),
    };
    tasks.spawn(transload_listen::serve(bound, settings, Arc::new(Pages { router, close })));
    Ok(())
}

/// The pages about queues and dead letters, for whoever is in this process.
pub(crate) fn operations(state: State) -> Router {
    operations::router().with_state(state)
}

/// Serves the pages to one peer after the other.
struct Pages {
    router: Router,
    close: CancellationToken,
}

impl Serve for Pages {
    async fn serve(self: Arc<Self>, connection: Connection) {
        let service = TowerToHyperService::new(self.router.clone());
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(connection.stream), service);
        tokio::select! {
            () = self.close.cancelled() => {}
            served = serving => if let Err(error) = served {
                debug!(peer = %connection.peer, %error, "A peer of the admin address went away.");
            },
        }
    }

    fn refused(&self, peer: SocketAddr, why: &Refused) {
        warn!(%peer, ?why, "A peer of the admin address was turned away.");
    }
}

/// The process is alive and answers.
async fn healthy() -> &'static str {
    "ok\n"
}

/// 200 while messages are taken in and can be stored; a broker that is away does not change that.
async fn ready(Extract(shown): Extract<State>, headers: HeaderMap) -> Response {
    let stage = shown.status.stage();
    let store = shown.storage.health();
    let ready = stage == Stage::Running && matches!(store, Health::Ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !shown.token.admits(&headers) {
        return answer(status, &json!({ "ready": ready }));
    }
    let adapters: serde_json::Map<String, Value> = shown
        .status
        .adapters()
        .into_iter()
        .map(|adapter| (adapter.name.to_string(), describe(&adapter.state)))
        .collect();
    let body = json!({
        "ready": ready,
        "stage": match stage {
            Stage::Starting => "starting",
            Stage::Running => "running",
            Stage::Stopping => "stopping",
        },
        "store": match &store {
            Health::Ready => json!({ "state": "ready" }),
            Health::Full(reason) => json!({ "state": "full", "reason": &**reason }),
            Health::Failed(reason) => json!({ "state": "failed", "reason": &**reason }),
            Health::Closed => json!({ "state": "closed" }),
        },
        "adapters": adapters,
        "configuration": configuration(&shown.status),
    });
    answer(status, &body)
}

/// Which configuration is in force, and why a later one is not.
fn configuration(status: &Status) -> Value {
    let InForce { loaded_at, refusal, restart } = status.configuration();
    let mut view = json!({ "state": "current", "loaded_at": times::write(loaded_at) });
    if let (Some(view), false) = (view.as_object_mut(), restart.is_empty()) {
        view.insert("restart_needed".to_owned(), json!(restart));
    }
    if let (Some(view), Some(refusal)) = (view.as_object_mut(), refusal) {
        view.insert("state".to_owned(), json!("refused"));
        view.insert("refused_at".to_owned(), json!(times::write(refusal.at)));
        view.insert("reason".to_owned(), json!(refusal.reason));
    }
    view
}

fn answer(status: StatusCode, body: &(impl fmt::Display + ?Sized)) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, format!("{body}\n")).into_response()
}

fn describe(adapter: &AdapterState) -> Value {
    match adapter {
        AdapterState::Starting => json!({ "state": "starting" }),
        AdapterState::Up => json!({ "state": "up" }),
        AdapterState::Down { reason } => json!({ "state": "down", "reason": reason }),
        AdapterState::Stopped => json!({ "state": "stopped" }),
    }
}

/// The configuration in force, without secrets.
async fn config(Extract(shown): Extract<State>) -> Response {
    answer(StatusCode::OK, shown.status.shown().as_str())
}

async fn metrics(Extract(shown): Extract<State>) -> Response {
    refresh(&shown);
    match shown.metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Gauges are read when they are asked for, so that they cost nothing in between.
fn refresh(state: &State) {
    state.metrics.store(&state.storage.statistics());
    let now = Timestamp::now();
    for destination in &state.shared.routing().destinations {
        let depth = destination.queue.depth();
        let age = depth.oldest.map_or(0, |oldest| now.remaining(oldest).as_secs());
        let figures = &destination.metrics;
        figures.queue_messages.set(i64::try_from(depth.messages).unwrap_or(i64::MAX));
        figures.queue_bytes.set(i64::try_from(depth.bytes).unwrap_or(i64::MAX));
        let circuit = destination.circuit.view();
        figures.circuit_open.set(i64::from(circuit.open.is_some()));
        figures.circuit_opened.inc_by(circuit.opened.saturating_sub(figures.circuit_opened.get()));
        figures.queue_age.set(i64::try_from(age).unwrap_or(i64::MAX));
    }
    for (name, _, depth) in state.storage.depths() {
        if let Some(route) = name.strip_prefix(PREFIX) {
            state.metrics.dead_letters(route, depth.messages);
        }
    }
}
