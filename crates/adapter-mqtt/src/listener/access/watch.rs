use std::{path::PathBuf, sync::Arc, time::SystemTime};

use tokio::time::Duration;

use super::Users;
use crate::listener::broker::Broker;

/// How often the users file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Takes the users file anew when it changes, until the listener closes. Connections of users that
/// are not in it any more end; all others stay.
pub(in crate::listener) async fn watch(broker: Arc<Broker>, file: PathBuf) {
    let mut seen = stamp(file.clone()).await;
    loop {
        tokio::select! {
            () = broker.closing.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = stamp(file.clone()).await;
        if now == seen {
            continue;
        }
        seen = now;
        reload(&broker, file.clone()).await;
    }
}

/// Takes the users file anew. One with a fault is not taken.
pub(in crate::listener) async fn reload(broker: &Broker, file: PathBuf) {
    let adapter = &broker.context.name;
    let read = broker.context.tasks.spawn_blocking(move || Users::read(&file)).await;
    match read {
        Ok(Ok(users)) => {
            broker.access.replace(users);
            let ended = broker.sessions.dismiss(|user| !broker.access.knows(user));
            tracing::info!(%adapter, ended, "The users file was read again.");
        }
        Ok(Err(fault)) => {
            tracing::error!(%adapter, %fault, "The users file has a fault, the last good one stays.");
        }
        Err(error) => tracing::error!(%adapter, %error, "The users file was not read."),
    }
}

/// What changes when the file does; `None` while it is not there.
async fn stamp(file: PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = tokio::task::spawn_blocking(move || std::fs::metadata(file)).await.ok()?.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
