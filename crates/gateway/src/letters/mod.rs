//! The dead letters, as people look at them, send them again and drop them.
//!
//! Invariants:
//! - One request does a bounded piece of work and says where to go on.
//! - Nothing is changed but what was asked for, and nothing is changed by two requests at once.

mod place;
mod replay;
mod selection;
mod view;
mod walk;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;
use transload_adapter::store::{Position, StoreError};
use transload_delivery::dead_letters::{DeadLetter, queue_name};
use transload_envelope::Text;

use self::walk::Walk;
pub(crate) use self::{
    place::{Place, Places},
    replay::Replayed,
    selection::{Request, Selection},
};
use crate::{routing::Shared, storage::Storage, sync::lock};

/// The dead letters of one gateway.
#[derive(Debug)]
pub(crate) struct Letters {
    shared: Arc<Shared>,
    storage: Storage,
    /// Whether anybody delivers what is in memory.
    delivers: bool,
    tasks: TaskTracker,
    close: CancellationToken,
    busy: tokio::sync::Mutex<()>,
    /// The positions of letters that leave when they are delivered. Positions are unique in the
    /// journal.
    under_way: Mutex<HashSet<u64>>,
}

impl Letters {
    /// The dead letters of a gateway whose workers run.
    pub(crate) fn new(
        shared: Arc<Shared>,
        storage: Storage,
        tasks: TaskTracker,
        close: CancellationToken,
    ) -> Self {
        let (busy, under_way) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { shared, storage, delivers: true, tasks, close, busy, under_way }
    }

    /// The dead letters in the files of a gateway that is stopped.
    pub(crate) fn of_files(shared: Arc<Shared>, storage: Storage) -> Self {
        let (tasks, close) = (TaskTracker::new(), CancellationToken::new());
        Self { delivers: false, ..Self::new(shared, storage, tasks, close) }
    }

    /// The routes that have dead letters or had some, in order.
    fn routes(&self) -> Vec<Text> {
        self.shared.dead_letters.routes()
    }

    /// One page of letters, without what is in them.
    pub(crate) async fn list(&self, selection: &Selection) -> Result<Value, StoreError> {
        let mut walk = Walk::new(&self.storage, selection, self.routes());
        let mut letters = Vec::new();
        while let Some(found) = walk.next(selection.limit.saturating_sub(letters.len())).await? {
            let views =
                found.iter().map(|found| view::head(&found.route, found.position, &found.letter));
            letters.extend(views);
        }
        Ok(json!({ "letters": letters, "next": walk.rest() }))
    }

    /// One letter with all that is in it.
    pub(crate) async fn show(
        &self,
        route: &str,
        position: u64,
    ) -> Result<Option<Value>, StoreError> {
        let before = position.checked_sub(1).map(Position);
        let kept = self.storage.browse(&queue_name(route), before, 1).await?;
        let kept = kept.into_iter().find(|kept| kept.position.0 == position);
        Ok(kept.map(|kept| {
            let letter = DeadLetter::from_outgoing(kept.outgoing);
            view::whole(route, kept.position, &letter)
        }))
    }

    /// Drops letters for good.
    pub(crate) async fn drop_selected(&self, selection: &Selection) -> Result<Value, StoreError> {
        let _alone = self.busy.lock().await;
        let mut walk = Walk::new(&self.storage, selection, self.routes());
        let (mut seen, mut dropped) = (0, 0);
        while let Some(found) = walk.next(selection.limit.saturating_sub(seen)).await? {
            seen += found.len();
            let mut letters: BTreeMap<Text, Vec<Position>> = BTreeMap::new();
            for found in found {
                if !lock(&self.under_way).contains(&found.position.0) {
                    letters.entry(found.route).or_default().push(found.position);
                }
            }
            dropped += self.discard(&letters);
        }
        info!(dropped, "Dead letters were dropped.");
        Ok(json!({ "dropped": dropped, "next": walk.rest() }))
    }
}
