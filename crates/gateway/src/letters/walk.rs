//! A walk through the dead letters, of bounded length.

use transload_adapter::store::{Leased, Position, StoreError};
use transload_delivery::dead_letters::{DeadLetter, queue_name};
use transload_envelope::Text;

use super::selection::{Cursor, Selection};
use crate::storage::Storage;

/// How many letters are read at once.
const CHUNK: usize = 32;

/// How many letters one request looks at; where that is not enough, the client asks again.
const SCAN_MAX: usize = 20_000;

/// A letter where it is kept.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) route: Text,
    pub(crate) position: Position,
    pub(crate) letter: DeadLetter,
}

/// Goes through the letters that are meant, route by route, the oldest first.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    storage: &'a Storage,
    selection: &'a Selection,
    /// The routes that are still to come, the next one last.
    routes: Vec<Text>,
    after: Option<Position>,
    scanned: usize,
}

impl<'a> Walk<'a> {
    /// Begins where the selection says, among these routes in ascending order.
    pub(crate) fn new(
        storage: &'a Storage,
        selection: &'a Selection,
        mut routes: Vec<Text>,
    ) -> Self {
        let mut after = None;
        if let Some(wanted) = &selection.route {
            routes.retain(|route| **route == **wanted);
        }
        if let Some(cursor) = &selection.after {
            routes.retain(|route| **route >= *cursor.route);
            if routes.first().is_some_and(|route| **route == *cursor.route) {
                after = Some(Position(cursor.position));
            }
        }
        routes.reverse();
        Self { storage, selection, routes, after, scanned: 0 }
    }

    /// The next letters that are meant, `want` at most; none of them does not mean that there are
    /// no more. Absent at the end, or when the walk has become too long.
    pub(crate) async fn next(&mut self, want: usize) -> Result<Option<Vec<Found>>, StoreError> {
        if want == 0 || self.scanned >= SCAN_MAX {
            return Ok(None);
        }
        let Some(route) = self.routes.last().cloned() else { return Ok(None) };
        let kept = self.read(&route).await?;
        let Some(last) = kept.last().map(|kept| kept.position) else {
            self.routes.pop();
            self.after = None;
            return Ok(Some(Vec::new()));
        };
        self.after = Some(last);
        self.scanned += kept.len();
        let mut found = Vec::new();
        for kept in kept {
            let letter = DeadLetter::from_outgoing(kept.outgoing);
            if !self.is_meant(kept.position) || !self.selection.matches(&letter) {
                continue;
            }
            found.push(Found { route: route.clone(), position: kept.position, letter });
            if found.len() == want {
                self.after = Some(kept.position);
                break;
            }
        }
        Ok(Some(found))
    }

    /// Where to go on; absent at the end.
    pub(crate) fn rest(&self) -> Option<String> {
        let route = self.routes.last()?.to_string();
        // Positions begin at one, so the first letter of a route is behind position zero.
        let position = self.after.map_or(0, |after| after.0);
        Some(Cursor { route, position }.write())
    }

    async fn read(&self, route: &str) -> Result<Vec<Leased>, StoreError> {
        let queue = queue_name(route);
        let Some(positions) = &self.selection.positions else {
            return self.storage.browse(&queue, self.after, CHUNK).await;
        };
        let mut kept = Vec::new();
        let still = positions.iter().filter(|at| self.after.is_none_or(|after| **at > after.0));
        for position in still {
            let before = position.checked_sub(1).map(Position);
            let one = self.storage.browse(&queue, before, 1).await?;
            kept.extend(one.into_iter().filter(|kept| kept.position.0 == *position));
            if kept.len() == CHUNK {
                break;
            }
        }
        Ok(kept)
    }

    fn is_meant(&self, position: Position) -> bool {
        let positions = self.selection.positions.as_ref();
        positions.is_none_or(|positions| positions.binary_search(&position.0).is_ok())
    }
}
