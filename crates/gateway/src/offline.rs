//! The files of a gateway that is stopped, as its admin address would show them.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header},
};
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use transload_adapter::store::StoreError;
use transload_delivery::{journal::OpenError, worker::link};

use crate::{
    admin::{self, State},
    config::Configuration,
    destination::{self, Built, Way},
    letters::Letters,
    metrics::Metrics,
    routing::Routing,
    run,
    status::Status,
    storage::{Storage, explain},
    telemetry::Telemetry,
};

/// How long an answer may be, in bytes: far more than any page.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A gateway runs on them: its admin address is to be asked.
    #[error("a gateway runs on the data directory")]
    Running,
    /// There are none.
    #[error("there is no data directory `{}`", .0.display())]
    Missing(PathBuf),
    /// They cannot be read.
    #[error("the data directory cannot be used: {0}")]
    Data(String),
    /// A queue cannot be opened.
    #[error("a queue cannot be opened: {0}")]
    Queue(#[from] StoreError),
}

/// The open files of a gateway that is stopped. As long as they are open, no gateway can start on
/// them.
#[derive(Debug)]
pub struct Offline {
    storage: Storage,
    router: Router,
}

impl Offline {
    /// Opens the files, if no gateway has them open.
    pub async fn open(configuration: &Configuration) -> Result<Self, OfflineError> {
        let settings = &configuration.gateway;
        if !settings.data_dir.exists() {
            return Err(OfflineError::Missing(settings.data_dir.clone()));
        }
        let storage = Storage::open(settings).await.map_err(|error| match error {
            OpenError::Locked(_) => OfflineError::Running,
            OpenError::Damaged { .. }
            | OpenError::Version { .. }
            | OpenError::Settings(_)
            | OpenError::Io { .. } => OfflineError::Data(explain(&error)),
        })?;
        let metrics = Metrics::new();
        let shared = Arc::new(run::open(configuration, &storage)?);
        // Nobody connects and no worker runs, so the other ends can go.
        let way = |_| Way { link: link().1, instance: 0, asked: TaskTracker::new() };
        let ways: Vec<_> = configuration.adapters.iter().map(way).collect();
        let letters = &shared.dead_letters;
        let off = Telemetry::default();
        let Built { destinations, .. } =
            destination::build(configuration, &*shared.store, letters, &ways, &metrics, &off)?;
        drop(shared.replace(Routing::new(configuration, destinations, &metrics)));
        let status = Status::new(configuration);
        status.stop_all();
        let letters = Letters::of_files(Arc::clone(&shared), storage.clone());
        let state = State::new(status, metrics, storage.clone(), letters, shared);
        Ok(Self { storage, router: admin::operations(state) })
    }

    /// Asks for a page of the admin address, such as `GET /queues`; returns its status code and what
    /// it says.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body));
        let Ok(request) = request else { return (400, Value::Null) };
        let Ok(answer) = self.router.clone().call(request).await;
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.unwrap_or_default();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Writes what is open and closes.
    pub async fn close(self) {
        self.storage.close().await;
    }
}
