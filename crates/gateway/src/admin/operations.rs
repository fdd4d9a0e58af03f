//! The pages by which people look at queues and dead letters, and change them.

use axum::{
    Json, Router,
    extract::{
        Path, Query, State as Extract,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use transload_adapter::store::StoreError;

use super::{State, answer, describe};
use crate::{
    explain::explain,
    letters::{Replayed, Request},
    queues::Trouble,
};

/// The pages.
pub(super) fn router() -> Router<State> {
    Router::new()
        .route("/adapters", get(adapters))
        .route("/explain", get(explained))
        .route("/queues", get(queues))
        .route("/queues/move", post(move_queue))
        .route("/queues/drop", post(drop_queue))
        .route("/dead-letters", get(list))
        .route("/dead-letters/{route}/{position}", get(show))
        .route("/dead-letters/replay", post(replay))
        .route("/dead-letters/drop", post(drop_letters))
}

fn fault(reason: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, &json!({ "error": reason }))
}

fn store_fault(error: &StoreError) -> Response {
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error.to_string() }))
}

/// A request that could not be read, in the form of all other answers.
fn unread(status: StatusCode, reason: &str) -> Response {
    answer(status, &json!({ "error": reason }))
}

fn stored(outcome: Result<Value, StoreError>) -> Response {
    match outcome {
        Ok(body) => answer(StatusCode::OK, &body),
        Err(error) => store_fault(&error),
    }
}

async fn adapters(Extract(shown): Extract<State>) -> Response {
    let adapters = shown.status.adapters().into_iter().map(|adapter| {
        let mut view = json!({ "name": &*adapter.name, "kind": adapter.kind, "at": adapter.at });
        let state = describe(&adapter.state);
        if let (Some(view), Value::Object(state)) = (view.as_object_mut(), state) {
            view.extend(state);
        }
        view
    });
    answer(StatusCode::OK, &json!({ "adapters": adapters.collect::<Vec<_>>() }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    id: String,
    #[serde(default)]
    all: bool,
}

/// Explains one of the latest messages by the rules that run.
async fn explained(
    Extract(shown): Extract<State>,
    request: Result<Query<Explained>, QueryRejection>,
) -> Response {
    let Explained { id, all } = match request {
        Ok(Query(request)) => request,
        Err(rejection) => return unread(rejection.status(), &rejection.body_text()),
    };
    let routing = shown.shared.routing();
    let recent = &shown.shared.recent;
    let found = recent.find(&id).and_then(|envelope| {
        let adapter = routing.adapter(&envelope.origin.adapter)?;
        Some(explain(&routing.directory, &routing.rules, adapter, &envelope, all))
    });
    match found {
        Some(one) => answer(StatusCode::OK, &json!({ "explanations": [one] })),
        None if recent.is_on() => {
            let reason = format!(
                "no message with the id `{id}` is remembered; raise `recent_messages` in \
                 `[gateway]` to remember more"
            );
            answer(StatusCode::NOT_FOUND, &json!({ "error": reason }))
        }
        None => {
            let reason = "no messages are remembered: say `recent_messages = \"1MiB\"` in \
                          `[gateway]`";
            answer(StatusCode::NOT_FOUND, &json!({ "error": reason }))
        }
    }
}

async fn queues(Extract(shown): Extract<State>) -> Response {
    answer(StatusCode::OK, &shown.queues.list())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    from: String,
    to: String,
    after: Option<u64>,
}

async fn move_queue(
    Extract(shown): Extract<State>,
    request: Result<Json<Move>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(Move { from, to, after })) => {
            queue_outcome(shown.queues.move_to(&from, &to, after).await)
        }
        Err(rejection) => unread(rejection.status(), &rejection.body_text()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drop {
    name: String,
}

async fn drop_queue(
    Extract(shown): Extract<State>,
    request: Result<Json<Drop>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(Drop { name })) => queue_outcome(shown.queues.drop_orphan(&name).await),
        Err(rejection) => unread(rejection.status(), &rejection.body_text()),
    }
}

fn queue_outcome(outcome: Result<Value, Trouble>) -> Response {
    match outcome {
        Ok(body) => answer(StatusCode::OK, &body),
        Err(Trouble::Request(reason)) => fault(&reason),
        Err(Trouble::Store(error)) => store_fault(&error),
    }
}

async fn list(
    Extract(shown): Extract<State>,
    request: Result<Query<Request>, QueryRejection>,
) -> Response {
    let request = match request {
        Ok(Query(request)) => request,
        Err(rejection) => return unread(rejection.status(), &rejection.body_text()),
    };
    if request.to_route.is_some() {
        return fault("`to_route` is for a replay");
    }
    match request.understand() {
        Ok(selection) => stored(shown.letters.list(&selection).await),
        Err(reason) => fault(&reason),
    }
}

async fn show(
    Extract(shown): Extract<State>,
    path: Result<Path<(String, u64)>, PathRejection>,
) -> Response {
    let (route, position) = match path {
        Ok(Path(path)) => path,
        Err(rejection) => return unread(rejection.status(), &rejection.body_text()),
    };
    match shown.letters.show(&route, position).await {
        Ok(Some(letter)) => answer(StatusCode::OK, &letter),
        Ok(None) => {
            let reason = format!("the route `{route}` has no dead letter {position}");
            answer(StatusCode::NOT_FOUND, &json!({ "error": reason }))
        }
        Err(error) => store_fault(&error),
    }
}

async fn replay(
    Extract(shown): Extract<State>,
    request: Result<Json<Request>, JsonRejection>,
) -> Response {
    let mut request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(rejection.status(), &rejection.body_text()),
    };
    let to_route = request.to_route.take();
    let selection = match request.deliberate() {
        Ok(selection) => selection,
        Err(reason) => return fault(&reason),
    };
    let Replayed { gone, under_way, left, next, error } =
        match shown.letters.replay(selection, to_route.as_deref()).await {
            Ok(outcome) => outcome,
            Err(reason) => return fault(&reason),
        };
    let mut body = json!({
        "replayed": gone, "under_way": under_way, "left": left, "next": next,
    });
    let Some(error) = error else { return answer(StatusCode::OK, &body) };
    if let Some(body) = body.as_object_mut() {
        body.insert("error".to_owned(), json!(error.to_string()));
    }
    answer(StatusCode::SERVICE_UNAVAILABLE, &body)
}

async fn drop_letters(
    Extract(shown): Extract<State>,
    request: Result<Json<Request>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return unread(rejection.status(), &rejection.body_text()),
    };
    if request.to_route.is_some() {
        return fault("`to_route` is for a replay");
    }
    match request.deliberate() {
        Ok(selection) => stored(shown.letters.drop_selected(&selection).await),
        Err(reason) => fault(&reason),
    }
}
