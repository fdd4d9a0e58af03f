//! The page by which the configuration is read anew.

use axum::{
    Json, Router,
    extract::{State as Extract, rejection::JsonRejection},
    http::StatusCode,
    response::Response,
    routing::post,
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::{State, answer};
use crate::run::Outcome;

/// The page.
pub(super) fn router() -> Router<State> {
    Router::new().route("/reload", post(reload))
}

/// There is nothing to say; the body keeps web pages away.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn reload(
    Extract(shown): Extract<State>,
    request: Result<Json<Nothing>, JsonRejection>,
) -> Response {
    if let Err(rejection) = request {
        return answer(rejection.status(), &json!({ "error": rejection.body_text() }));
    }
    let (sender, outcome) = oneshot::channel();
    let asked = match &shown.reload {
        Some(requests) => requests.send(Some(sender)).await.is_ok(),
        None => false,
    };
    if !asked {
        let reason = "this gateway does not read its configuration anew";
        return answer(StatusCode::CONFLICT, &json!({ "error": reason }));
    }
    let Ok(outcome) = outcome.await else {
        let reason = "the gateway is stopping";
        return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": reason }));
    };
    let status = match &outcome {
        Outcome::Applied { .. } => StatusCode::OK,
        Outcome::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    answer(status, &outcome.to_json())
}
