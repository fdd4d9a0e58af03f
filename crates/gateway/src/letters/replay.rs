//! Dead letters go out again.
//!
//! Invariant: a letter leaves the dead letters only when its destinations have it: on disk, or, for
//! a queue in memory, when the target has confirmed it. A crash in between can duplicate it, under
//! the same id.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tracing::{info, warn};
use transload_adapter::{
    Receipt, Settlement, SettlementQueue, SettlementSender, Share, Tag, settlement_channel,
    store::{Append, AppendTo, Position, SettleOn, StoreError},
};
use transload_delivery::dead_letters::queue_name;
use transload_envelope::{Text, Timestamp};

use super::{
    Letters,
    place::{Place, Places},
    selection::Selection,
    walk::{Found, Walk},
};
use crate::{appends::group, sync::lock, times};

/// What came of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Letters that are in their destinations' queues and no longer among the dead letters.
    pub(crate) gone: u64,
    /// Letters whose destination keeps its queue in memory: they leave when they are delivered.
    pub(crate) under_way: u64,
    /// Letters that stay, and why.
    pub(crate) left: Vec<Value>,
    /// Where to go on.
    pub(crate) next: Option<String>,
    /// Why it ended early.
    pub(crate) error: Option<StoreError>,
}

/// A letter that can go, and where.
struct Going {
    route: Text,
    position: Position,
    appends: Vec<Append>,
}

impl Replayed {
    fn leave(&mut self, found: &Found, why: &str) {
        self.left.push(json!({
            "route": &*found.route,
            "position": found.position.0,
            "id": found.letter.outgoing.envelope.id.as_str(),
            "reason": why,
        }));
    }
}

impl Letters {
    /// Sends letters again: back to their destinations, or to another route.
    pub(crate) async fn replay(
        self: &Arc<Self>,
        mut selection: Selection,
        to_route: Option<&str>,
    ) -> Result<Replayed, String> {
        let _alone = self.busy.lock().await;
        selection.not_later_than(Timestamp::now());
        // The rules stay the same for the whole of it.
        let routing = self.shared.routing();
        let mut places = Places::new(&routing);
        let to_route = match to_route {
            None => None,
            Some(name) => {
                let route = places.route(name);
                Some(route.ok_or_else(|| format!("there is no route named `{name}`"))?)
            }
        };
        let mut walk = Walk::new(&self.storage, &selection, self.routes());
        let mut outcome = Replayed::default();
        let mut seen = 0;
        loop {
            let want = selection.limit.saturating_sub(seen);
            let found = match walk.next(want).await {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    break;
                }
            };
            seen += found.len();
            if let Err(error) = self.send(found, to_route, &mut places, &mut outcome).await {
                outcome.error = Some(error);
                break;
            }
        }
        outcome.next = walk.rest();
        let (replayed, under_way, left) = (outcome.gone, outcome.under_way, outcome.left.len());
        info!(replayed, under_way, left, "Dead letters were sent again.");
        Ok(outcome)
    }

    async fn send(
        self: &Arc<Self>,
        found: Vec<Found>,
        to_route: Option<usize>,
        places: &mut Places<'_>,
        outcome: &mut Replayed,
    ) -> Result<(), StoreError> {
        let (settle, settled) = settlement_channel();
        let mut stored = Vec::new();
        let mut watched = Vec::new();
        for found in found {
            let going = match self.places(&found, to_route, places) {
                Ok(going) => going,
                Err(why) => {
                    outcome.leave(&found, &why);
                    continue;
                }
            };
            let in_memory =
                |place: &Place| places.get(place.destination).is_some_and(|to| to.in_memory);
            if going.iter().any(in_memory) {
                watched.push(watched_one(found, going, places, &settle));
            } else {
                stored.push(going_to(found, going, places, |_| None));
            }
        }
        drop(settle);
        let (gone, appends) = apart(stored);
        if !appends.is_empty() {
            self.shared.store.append_durably(appends).await?;
            outcome.gone += self.discard(&gone);
        }
        let (going, appends) = apart(watched);
        if !appends.is_empty() {
            outcome.under_way += going.values().map(|list| list.len() as u64).sum::<u64>();
            let routes: BTreeMap<u64, Text> = going
                .iter()
                .flat_map(|(route, list)| list.iter().map(|at| (at.0, route.clone())))
                .collect();
            lock(&self.under_way).extend(routes.keys().copied());
            self.tasks.spawn(Arc::clone(self).watch(settled, routes));
            self.shared.store.append(appends).await?;
        }
        Ok(())
    }

    /// Where a letter goes, or why it stays.
    fn places(
        &self,
        found: &Found,
        to_route: Option<usize>,
        places: &mut Places<'_>,
    ) -> Result<Vec<Place>, String> {
        let letter = &found.letter;
        if lock(&self.under_way).contains(&found.position.0) {
            return Err("it is on its way already".to_owned());
        }
        let envelope = &letter.outgoing.envelope;
        let end = envelope.properties().expires_at;
        if let Some(end) = end.filter(|end| *end <= Timestamp::now()) {
            return Err(format!("the message itself expired at {}", times::write(end)));
        }
        let found = if let Some(rule) = to_route {
            places.anew(rule, envelope)?
        } else {
            let name = &letter.destination;
            let destination = places.destination(name).ok_or_else(|| {
                format!("there is no destination `{name}` any more, send it to another route")
            })?;
            places.back(destination, &letter.outgoing, letter.planned)?
        };
        for place in &found {
            let Some(to) = places.get(place.destination) else { continue };
            if to.in_memory && !self.delivers {
                return Err(format!(
                    "the queue of `{}` is in memory: send it while the gateway runs",
                    to.name
                ));
            }
            if to.queue.is_full() {
                return Err(format!("the queue of `{}` is full", to.name));
            }
        }
        Ok(found)
    }

    /// Takes letters from the dead letters once they have been delivered.
    async fn watch(self: Arc<Self>, mut settled: SettlementQueue, mut routes: BTreeMap<u64, Text>) {
        loop {
            let one = tokio::select! {
                biased;
                one = settled.recv() => one,
                () = self.close.cancelled() => None,
            };
            let Some(one) = one else { break };
            let Some(route) = routes.remove(&one.tag.0) else { continue };
            match one.settlement {
                Settlement::Accepted | Settlement::Replied(_) | Settlement::Unrouted => {
                    self.storage.discard(&queue_name(&route), &[Position(one.tag.0)]);
                }
                Settlement::Rejected { .. } | Settlement::Released { .. } => {
                    warn!(%route, position = one.tag.0, "A dead letter was not delivered again.");
                }
            }
            lock(&self.under_way).remove(&one.tag.0);
        }
        let mut under_way = lock(&self.under_way);
        for position in routes.keys() {
            under_way.remove(position);
        }
    }

    /// Takes letters from the dead letters; returns how many there were.
    pub(super) fn discard(&self, letters: &BTreeMap<Text, Vec<Position>>) -> u64 {
        let gone = letters
            .iter()
            .map(|(route, positions)| self.storage.discard(&queue_name(route), positions));
        gone.sum()
    }
}

/// A letter with a receipt that tells when all targets have confirmed.
fn watched_one(
    found: Found,
    going: Vec<Place>,
    places: &Places<'_>,
    settle: &SettlementSender,
) -> Going {
    let tag = Tag(found.position.0);
    let share = Receipt::without_credit(tag, settle.clone()).share();
    let going = going_to(found, going, places, |in_memory| {
        let on = if in_memory { SettleOn::Delivered } else { SettleOn::Stored };
        Some((share.clone(), on))
    });
    share.settle(Settlement::Accepted);
    going
}

fn going_to(
    found: Found,
    going: Vec<Place>,
    places: &Places<'_>,
    share: impl Fn(bool) -> Option<(Share, SettleOn)>,
) -> Going {
    let to = going.into_iter().filter_map(|Place { destination, arguments, envelope }| {
        let destination = places.get(destination)?;
        let share = share(destination.in_memory);
        Some((envelope, AppendTo { queue: destination.queue.id(), arguments, share }))
    });
    let mut appends = Vec::new();
    group(found.letter.outgoing.envelope, to, &mut appends);
    Going { route: found.route, position: found.position, appends }
}

fn apart(going: Vec<Going>) -> (BTreeMap<Text, Vec<Position>>, Vec<Append>) {
    let mut letters: BTreeMap<Text, Vec<Position>> = BTreeMap::new();
    let mut all = Vec::with_capacity(going.len());
    for Going { route, position, appends } in going {
        letters.entry(route).or_default().push(position);
        all.extend(appends);
    }
    (letters, all)
}
