//! All queues of the store, and those whose owner is gone.
//!
//! Names of queues are `ROUTE/ADAPTER` and `ROUTE/ADAPTER/NUMBER` for destinations,
//! `dead-letters/ROUTE`, and `KIND/ADAPTER/WHAT/…` for what an adapter keeps. A queue is an orphan when its destination or its
//! adapter is no longer in the file: nobody will deliver what is in it, and nobody but its operator
//! may drop it.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::{info, warn};
use transload_adapter::store::{AppendTo, Depth, Position, Storage as Kept, StoreError};
use transload_delivery::dead_letters::PREFIX;

use crate::{
    appends::group,
    letters::{Place, Places},
    routing::{Routing, Shared},
    storage::Storage,
    times,
};

/// How many messages one request moves.
const MOVE_MAX: usize = 1_000;

/// How many messages are read at once.
const CHUNK: usize = 32;

/// The queues of one gateway.
#[derive(Debug)]
pub(crate) struct Queues {
    shared: Arc<Shared>,
    storage: Storage,
    busy: tokio::sync::Mutex<()>,
}

/// Why a queue is not moved or dropped.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The request makes no sense.
    Request(String),
    /// The store does not do it.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whose a queue is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    Destination(&'a str),
    DeadLetters(&'a str),
    Adapter(&'a str),
}

pub(crate) fn owner(name: &str) -> Owner<'_> {
    if let Some(route) = name.strip_prefix(PREFIX) {
        return Owner::DeadLetters(route);
    }
    let mut levels = name.splitn(3, '/');
    match (levels.next(), levels.next(), levels.next()) {
        (_, Some(adapter), Some(rest)) if rest.parse::<usize>().is_err() => Owner::Adapter(adapter),
        _ => Owner::Destination(name),
    }
}

impl Queues {
    /// The queues of a gateway.
    pub(crate) fn new(shared: Arc<Shared>, storage: Storage) -> Self {
        Self { shared, storage, busy: tokio::sync::Mutex::default() }
    }

    /// Every queue, in the order of their names; orphans that are empty are left out.
    pub(crate) fn list(&self) -> Value {
        let routing = self.shared.routing();
        let depths = self.storage.depths().into_iter();
        let queues = depths.filter_map(|(name, kept, depth)| view(&routing, &name, kept, depth));
        json!({ "queues": queues.collect::<Vec<_>>() })
    }

    /// Says which queues nobody will deliver from.
    pub(crate) fn warn_of_orphans(&self) {
        let routing = self.shared.routing();
        for (name, _, depth) in self.storage.depths() {
            if is_orphan(&routing, &name) && depth.messages > 0 {
                warn!(
                    queue = %name,
                    messages = depth.messages,
                    "The queue belongs to nothing in the configuration, its messages stay there; \
                     `transload queues` moves or drops them."
                );
            }
        }
    }

    /// Moves messages of an orphan to a destination; each is there on disk before it leaves the
    /// orphan, which is removed when it is empty.
    pub(crate) async fn move_to(
        &self,
        from: &str,
        to: &str,
        after: Option<u64>,
    ) -> Result<Value, Trouble> {
        let _alone = self.busy.lock().await;
        self.check_orphan(from)?;
        let routing = self.shared.routing();
        let mut places = Places::new(&routing);
        let target = places.destination(to).and_then(|place| Some((place, places.get(place)?)));
        let Some((place, destination)) = target else {
            return Err(Trouble::Request(format!("there is no destination `{to}`")));
        };
        if destination.in_memory {
            let reason = format!("the queue of `{to}` is in memory, where messages are not safe");
            return Err(Trouble::Request(reason));
        }
        let (mut moved, mut left) = (0, Vec::new());
        let mut after = after.map(Position);
        let mut seen = 0;
        while seen < MOVE_MAX {
            let kept = self.storage.browse(from, after, CHUNK).await?;
            let Some(last) = kept.last().map(|kept| kept.position) else { break };
            let (mut gone, mut appends) = (Vec::new(), Vec::new());
            for kept in kept {
                seen += 1;
                let fitting = if destination.queue.is_full() {
                    Err(format!("the queue of `{to}` is full"))
                } else {
                    places.back(place, &kept.outgoing, true)
                };
                match fitting {
                    Ok(places) => {
                        gone.push(kept.position);
                        let queue = destination.queue.id();
                        let to = places.into_iter().map(|Place { arguments, envelope, .. }| {
                            (envelope, AppendTo { queue, arguments, share: None })
                        });
                        group(kept.outgoing.envelope, to, &mut appends);
                    }
                    Err(reason) => {
                        let id = kept.outgoing.envelope.id.as_str();
                        let position = kept.position.0;
                        left.push(json!({ "position": position, "id": id, "reason": reason }));
                    }
                }
            }
            self.shared.store.append_durably(appends).await?;
            moved += self.storage.discard(from, &gone);
            after = Some(last);
        }
        let remaining = self.messages(from);
        if remaining == 0 {
            self.shared.store.remove_queue(from).await?;
        }
        info!(queue = %from, %to, moved, remaining, "Messages of a queue without owner were moved.");
        let next = (seen >= MOVE_MAX).then(|| after.map(|after| after.0)).flatten();
        Ok(json!({ "moved": moved, "left": left, "remaining": remaining, "next": next }))
    }

    /// Drops an orphan with the messages in it.
    pub(crate) async fn drop_orphan(&self, name: &str) -> Result<Value, Trouble> {
        let _alone = self.busy.lock().await;
        self.check_orphan(name)?;
        let dropped = self.messages(name);
        self.shared.store.remove_queue(name).await?;
        info!(queue = %name, dropped, "A queue without owner was dropped.");
        Ok(json!({ "dropped": dropped }))
    }

    fn messages(&self, name: &str) -> u64 {
        let depths = self.storage.depths();
        depths.iter().find(|(known, ..)| **known == *name).map_or(0, |(_, _, depth)| depth.messages)
    }

    fn check_orphan(&self, name: &str) -> Result<(), Trouble> {
        if !self.storage.depths().iter().any(|(known, ..)| **known == *name) {
            return Err(Trouble::Request(format!("there is no queue `{name}`")));
        }
        if is_orphan(&self.shared.routing(), name) {
            return Ok(());
        }
        let reason = if name.starts_with(PREFIX) {
            format!("`{name}` holds dead letters: use `transload dead-letters`")
        } else {
            format!("the queue `{name}` is in use by the configuration")
        };
        Err(Trouble::Request(reason))
    }
}

fn view(routing: &Routing, name: &str, kept: Kept, depth: Depth) -> Option<Value> {
    let orphan = is_orphan(routing, name);
    if orphan && depth.messages == 0 {
        return None;
    }
    let (kind, route, adapter) = match owner(name) {
        Owner::Destination(name) => {
            ("destination", name.split_once('/').map(|(route, _)| route), None)
        }
        Owner::DeadLetters(route) => ("dead-letters", Some(route), None),
        Owner::Adapter(adapter) => ("adapter", None, Some(adapter)),
    };
    Some(json!({
        "name": name,
        "kind": kind,
        "route": route,
        "adapter": adapter,
        "storage": match kept {
            Kept::Disk => "disk",
            Kept::Memory => "memory",
        },
        "messages": depth.messages,
        "bytes": depth.bytes,
        "oldest_at": depth.oldest.map(times::write),
        "orphan": orphan,
        "circuit": circuit(routing, name),
    }))
}

/// How the circuit of a destination is; nothing for other queues.
fn circuit(routing: &Routing, name: &str) -> Option<Value> {
    let view = routing.destination(name)?.circuit.view();
    Some(match view.open {
        None => json!({ "state": "closed", "opened": view.opened }),
        Some(open) => json!({
            "state": if open.probing { "half-open" } else { "open" },
            "opened": view.opened,
            "since": times::write(open.since),
            "reason": &*open.reason,
            "next_probe_ms": u64::try_from(open.next_probe.as_millis()).unwrap_or(u64::MAX),
        }),
    })
}

fn is_orphan(routing: &Routing, name: &str) -> bool {
    match owner(name) {
        Owner::Destination(name) => routing.destination(name).is_none(),
        Owner::Adapter(adapter) => routing.adapter(adapter).is_none(),
        // They are kept for whoever looks at them, with or without their route.
        Owner::DeadLetters(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_a_queue_is() {
        for (name, expected) in [
            ("telemetry/services", Owner::Destination("telemetry/services")),
            ("telemetry/services/2", Owner::Destination("telemetry/services/2")),
            ("dead-letters/telemetry", Owner::DeadLetters("telemetry")),
            ("mqtt/devices/session/a/b", Owner::Adapter("devices")),
            ("mqtt/devices/shared/g/f", Owner::Adapter("devices")),
            ("odd", Owner::Destination("odd")),
        ] {
            assert_eq!(owner(name), expected);
        }
    }
}
